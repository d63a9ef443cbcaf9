"""The Pareto front: what cannot be had better without costing more."""

from __future__ import annotations

from collections.abc import Sequence


def pareto(points: Sequence[tuple[float | None, float | None]], higher: bool) -> list[int]:
    """Places of the (cost, quality) points that no other point matches at less cost or betters at the same.

    Args:
        higher: whether more quality is better; less cost always is.
    """
    known = [(c, q if higher else -q, place) for place, (c, q) in enumerate(points) if c is not None and q is not None]
    front: list[int] = []
    highest = float("-inf")
    for _, quality, place in sorted(known, key=lambda item: (item[0], -item[1])):
        if quality > highest:
            front.append(place)
            highest = quality
    return front
