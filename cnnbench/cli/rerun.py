"""``cnnbench rerun RUN``: run a finished run again, and say whether the result is the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.cli.resume import HELP, folder_argument
from cnnbench.config.settings import with_current_targets
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, Record, RecordError, read_record

COMPARED = ("metrics", "best", "history", "per_class", "confusion_matrix")  # of two records
SURROUNDINGS = ("git", "python", "device", "gpu", "cpu", "threads", "system")
MOST_SHOWN = 8
USAGE = """usage: cnnbench rerun RUN [FOLDER]

Run a finished run again, from its record, into FOLDER (outputs/rerun/...), and say what differs: of the result, and of
the code, packages, hardware and data around it. The status is 0 where the result is the same, to the bit.
"""


def main(arguments: Sequence[str]) -> int:
    """Run a finished run again; returns 0 where the result is the same."""
    if HELP & {*arguments}:
        print(USAGE, end="")
        return 0
    folder, more = folder_argument(arguments, "rerun", "a finished run")
    try:
        before = read_record(folder)
    except (FileNotFoundError, RecordError) as error:
        raise RequestError(f"{folder} has no record to compare with ({error})") from error
    if before["status"] != "completed":
        raise RequestError(f"{folder} has not completed ({before['status']}), so there is no result to compare with")
    new = Path("outputs") / "rerun" / f"{folder.resolve().name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    into = Path(more[0]) if more else new
    if (into / RECORD_FILE).exists():
        raise RequestError(f"{into} holds a run already; choose another folder")

    from cnnbench.config.compose import register_resolvers
    from cnnbench.config.schema import check_values
    from cnnbench.config.trusted_targets import check_targets
    from cnnbench.training.preflight import check
    from cnnbench.training.train import train

    register_resolvers()
    config = with_current_targets(before["config"])
    check_targets(config, f"the record in {folder}")
    config["threads"] = (before.get("environment") or {}).get("threads") or config.get("threads")
    config["sweep"] = {**config["sweep"], "trial": None}  # the search is over
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
    lines = [line for part in COMPARED for line in differences(part, before.get(part), after.get(part))]
    old, new_digest = ((record.get("model") or {}).get("sha256") for record in (before, after))
    lines += ["the last weights differ"] * (old != new_digest)
    for line in lines[:MOST_SHOWN]:
        print(f"  {line}")
    if len(lines) > MOST_SHOWN:
        print(f"  ... and {len(lines) - MOST_SHOWN} more")
    print("the result is not the same" if lines else "the result is the same, to the bit")
    return 1 if lines else 0


def changed_surroundings(before: Record, after: Record) -> Iterator[str]:
    """A line for each thing around the run that is not what it was: code, packages, hardware, data."""
    described = []
    for record in (before, after):
        node = record.get("environment") or {}
        data = {"data": (record.get("data") or {}).get("fingerprint")}
        described.append({**{key: node.get(key) for key in SURROUNDINGS}, **(node.get("packages") or {}), **data})
    old, new = described
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield f"{name} was {old.get(name)}, and is {new.get(name)}"
    dirty = [w for w, r in (("then", before), ("now", after)) if (r.get("environment") or {}).get("git_dirty")]
    if dirty:
        yield f"the code had changes that were not committed, {' and '.join(dirty)}"


def differences(name: str, old: Any, new: Any) -> Iterator[str]:
    """A line for each value that differs in two parts of records."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(f"{name} {key}", old.get(key), new.get(key))
    elif old != new:
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            first = next(i for i, (one, two) in enumerate(zip(old, new, strict=True)) if one != two)
            yield f"{name} differs from entry {first} on: {old[first]} was, {new[first]} is"
        else:
            yield f"{name}: {old} was, {new} is"
