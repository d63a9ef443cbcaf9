"""What the Tab key completes. Hydra knows overrides alone, so this completes commands, and takes them off its line."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO

from cnnbench.config.compose import CONFIG_DIR

LINE = "COMP_LINE"  # where the shell's completion, as Hydra writes it, has the line so far
WITH_OVERRIDES = ("train", "find-lr", "reproduce")


def complete(verbs: Collection[str], hydra: Callable[[], None]) -> None:
    """Print what may stand at the end of the shell's line, one a line.

    Args:
        verbs: the commands.
        hydra: prints likewise what continues the overrides in the line.
    """
    line = os.environ[LINE]
    words = line.split()[1:]
    word = words.pop() if words and not line[-1].isspace() else ""
    names, overrides = suggest(words, word, verbs)
    print("\n".join(names))
    if overrides is None:
        return
    os.environ[LINE] = " ".join(["cnnbench", *overrides, word])
    with suppress(SystemExit), redirect_stderr(StringIO()):  # what is wrong in the line is told when it is run
        hydra()


def suggest(words: Sequence[str], word: str, verbs: Collection[str]) -> tuple[list[str], list[str] | None]:
    """Words that ``word`` may become after ``words``, and what Hydra is to continue; None where no override follows."""
    plain = [text for text in words if not text.startswith("-")]
    verb = plain[0] if plain and "=" not in plain[0] else None
    names: list[str] = []
    if not plain:
        names = [name for name in verbs if name.startswith(word)]
    elif verb == "reproduce" and len(plain) == 1:
        names = sorted(path.stem for path in (CONFIG_DIR / "study").glob(f"{word}*.yaml"))
        return names, None
    if (verb is not None and verb not in WITH_OVERRIDES) or word.startswith("-"):
        return names, None
    return names, [text for text in words if "=" in text and not text.startswith("-")]
