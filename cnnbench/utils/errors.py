"""The exception for a wrong request, and its words."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class RequestError(ValueError):
    """A request that cannot be carried out; the message says what is wrong, where, and what would be right.

    The command line prints it as one line and exits with status 2, before any work starts.
    """


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """``"; did you mean 'adam'?"`` for ``adma``, or an empty string when nothing is near."""
    names = {str(name).lower(): str(name) for name in right}
    near = difflib.get_close_matches(str(wrong).lower(), names, n=1, cutoff=0.5)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def refuse(problem: str, *kinds: type[Exception], most: int | None = None) -> Iterator[None]:
    """What of these ``kinds`` is raised within becomes a RequestError: ``problem``, and at ``most`` so much of why."""
    try:
        yield
    except kinds as error:
        raise RequestError(f"{problem} ({one_line(error)[:most]})") from error


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """``value`` if it is one of ``choices``; else raises RequestError, which lists them and names the nearest one."""
    choices = list(choices)
    if value not in choices:
        raise RequestError(f"{name}={value!r} is not one of {', '.join(choices)}{did_you_mean(value, choices)}")
    return value
