"""The commands that made a sweep's folder, kept in it, so that the sweep can be continued without them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import write_atomically

FILE = "sweep.json"
# said anew with each command
LEFT_OUT = ("hydra.sweep.dir=", "sweep.repeat_failed=")


def keep(folder: Path, flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Add a command to the folder's, once; the newest is the last."""
    command = {"flags": list(flags), "overrides": [text for text in overrides if not text.startswith(LEFT_OUT)]}
    before = read(folder) if (folder / FILE).exists() else []
    kept = [old for old in before if old["overrides"] != command["overrides"]]
    write_atomically(folder / FILE, json.dumps([*kept, command], indent=1, ensure_ascii=False) + "\n")


def read(folder: Path) -> list[dict[str, list[str]]]:
    """The commands of a sweep, oldest first, each {"flags", "overrides"}.

    Raises:
        RequestError: they cannot be read.
    """
    try:
        commands = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return [{key: [str(text) for text in command[key]] for key in ("flags", "overrides")} for command in commands]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{folder / FILE} cannot be read ({error}); give the command again instead") from error
