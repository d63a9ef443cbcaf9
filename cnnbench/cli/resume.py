"""Going on with what was stopped, and running again what has finished: the verbs ``resume`` and ``rerun``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cnnbench.config.overrides import quoted
from cnnbench.config.settings import changes_result, with_current_targets
from cnnbench.sweep import commands
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record

COMPARED = ("metrics", "best", "history", "per_class", "confusion_matrix")  # of two records
MOST_SHOWN = 8
HELP = {"--help", "-h"}
RESUME = """usage: cnnbench resume DIR [OVERRIDE]...

Go on with a stopped run or sweep: what has finished is kept, what was interrupted goes on from its newest checkpoint,
and what has not begun is run. Overrides may change how it goes on, not what comes out.

  cnnbench resume outputs/cnnbench/sweep_...
  cnnbench resume outputs/cnnbench/sweep_... sweep.repeat_failed=true
"""
RERUN = """usage: cnnbench rerun RUN [FOLDER]

Run a finished run again, from its record, into FOLDER (outputs/rerun/...), and say what differs: of the result, and of
the code, packages, hardware and data around it. The status is 0 where the result is the same, to the bit.
"""


def resume(arguments: Sequence[str]) -> int:
    """Go on with a stopped run or sweep: cnnbench resume DIR [overrides that do not change results]."""
    from cnnbench.config.trusted_targets import check_overrides
    from cnnbench.sweep.launcher import launch

    if HELP & {*arguments}:
        print(RESUME, end="")
        return 0
    folder, more = _folder(arguments, "resume", "a run or a sweep")
    for text in more:
        key = text.partition("=")[0].lstrip("+~")
        if not text.startswith("hydra") and changes_result(key):
            raise RequestError(f"{text} changes the result: a run goes on as it began (start a new one instead)")
    if (folder / commands.FILE).exists():
        *earlier, newest = commands.read(folder)
        for command in (*earlier, newest):
            check_overrides(command["overrides"], str(folder / commands.FILE))
        call = [*newest["flags"], *newest["overrides"], *more, f"hydra.sweep.dir={quoted(folder)}"]
        return launch(call, [command["overrides"] for command in earlier])
    kept = folder / ".hydra" / "overrides.yaml"
    if not kept.exists():
        raise RequestError(
            f"{folder} is neither the folder of a run (.hydra/overrides.yaml) nor of a sweep ({commands.FILE})"
        )
    overrides = [str(text) for text in yaml.safe_load(kept.read_text(encoding="utf-8")) or ()]
    check_overrides(overrides, str(kept))
    return launch([*overrides, *more, f"hydra.run.dir={quoted(folder)}"])


def rerun(arguments: Sequence[str]) -> int:
    """Run a finished run again and say whether the result is the same: cnnbench rerun RUN [FOLDER]."""
    if HELP & {*arguments}:
        print(RERUN, end="")
        return 0
    folder, more = _folder(arguments, "rerun", "a finished run")
    try:
        before = read_record(folder)
    except (FileNotFoundError, RecordError) as error:
        raise RequestError(f"{folder} has no record to compare with ({error})") from error
    if before["status"] != "completed":
        raise RequestError(f"{folder} has not completed ({before['status']}), so there is no result to compare with")
    into = (
        Path(more[0])
        if more
        else Path("outputs") / "rerun" / f"{folder.resolve().name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    )
    if (into / RECORD_FILE).exists():
        raise RequestError(f"{into} holds a run already; choose another folder")

    from cnnbench.config.resolvers import register_resolvers
    from cnnbench.config.schema import check_values
    from cnnbench.config.trusted_targets import check_targets
    from cnnbench.training.preflight import check
    from cnnbench.training.train import train

    register_resolvers()
    config = with_current_targets(before["config"])
    check_targets(config, f"the record in {folder}")
    config["threads"] = (before.get("environment") or {}).get("threads") or config.get("threads")
    check_values(config)
    check(config)
    print(f"running {folder} again, into {into}", flush=True)
    after = train(config, into, before.get("overrides", ()), before.get("choices"))
    for line in changed_surroundings(before, after):
        print(f"  {line}")
    if after["status"] != "completed":
        end = after["error"] or {}
        print(f"  {after['status']}: {end.get('type')}: {end.get('message')}")
        return 1
    after = read_record(into)  # as the file says it, like the one before
    lines = list(differences(before, after))
    for line in lines[:MOST_SHOWN]:
        print(f"  {line}")
    if len(lines) > MOST_SHOWN:
        print(f"  ... and {len(lines) - MOST_SHOWN} more")
    print("the result is not the same" if lines else "the result is the same, to the bit")
    return 1 if lines else 0


def _folder(arguments: Sequence[str], verb: str, what: str) -> tuple[Path, list[str]]:
    if not arguments or (
        "=" in arguments[0] and not Path(arguments[0]).is_dir()
    ):  # runs of a sweep have it in their names
        raise RequestError(f"cnnbench {verb} needs the folder of {what}")
    folder = Path(arguments[0])
    if not folder.is_dir():
        raise RequestError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}")
    return folder, list(arguments[1:])


def changed_surroundings(before: Record, after: Record) -> Iterator[str]:
    """A line for each thing around the run that is not what it was: code, packages, hardware, data."""
    old, new = before.get("environment") or {}, after.get("environment") or {}
    pairs = {
        key: (old.get(key), new.get(key)) for key in ("git", "python", "device", "gpu", "cpu", "threads", "system")
    }
    names = {*(old.get("packages") or {}), *(new.get("packages") or {})}
    for name in sorted(names):
        pairs[name] = (old.get("packages") or {}).get(name), (new.get("packages") or {}).get(name)
    pairs["data"] = tuple((record.get("data") or {}).get("fingerprint") for record in (before, after))  # type: ignore[assignment]
    for name, (then, now) in pairs.items():
        if then != now:
            yield f"{name} was {then}, and is {now}"
    dirty = [when for when, node in (("then", old), ("now", new)) if node.get("git_dirty")]
    if dirty:
        yield f"the code had changes that were not committed, {' and '.join(dirty)}"


def differences(before: Record, after: Record) -> Iterator[str]:
    """A line for each part of the result that differs."""
    for part in COMPARED:
        yield from _differences(part, before.get(part), after.get(part))
    old, new = ((record.get("model") or {}).get("sha256") for record in (before, after))
    if old != new:
        yield "the last weights differ"


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            yield from _differences(f"{name} {key}", old.get(key), new.get(key))
    elif old != new:
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            first = next(i for i, (one, two) in enumerate(zip(old, new, strict=True)) if one != two)
            yield f"{name} differs from entry {first} on: {old[first]} was, {new[first]} is"
        else:
            yield f"{name}: {old} was, {new} is"
