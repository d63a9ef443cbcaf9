"""Which GPUs a run of a local sweep gets: as many as it takes, with places that no other run of the sweep has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnbench.utils.environment import GPU_ACCELERATORS, gpus


class GpuPlaces:
    """The places on this machine's GPUs, ``runs_per_gpu`` on each."""

    def __init__(self, runs_per_gpu: int) -> None:
        self.free = dict.fromkeys(gpus(), runs_per_gpu)

    def take(self, trainer: Mapping[str, Any]) -> list[str] | None:
        """Places for a run with these settings, on the GPUs that have the most; None where it has to wait for others,
        an empty list where there is nothing to choose."""
        if len(self.free) < 2 or trainer["accelerator"] not in GPU_ACCELERATORS or isinstance(trainer["devices"], list):
            return []
        count = len(self.free) if trainer["devices"] == "auto" else min(trainer["devices"], len(self.free))
        chosen = sorted(self.free, key=lambda name: -self.free[name])[:count]
        if not all(self.free[name] for name in chosen):
            return None
        for name in chosen:
            self.free[name] -= 1
        return [name for name in self.free if name in chosen]

    def give_back(self, names: list[str]) -> None:
        """The run on these GPUs has ended."""
        for name in names:
            self.free[name] += 1
