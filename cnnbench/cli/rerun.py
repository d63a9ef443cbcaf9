"""``cnnbench rerun RUN``: run a finished run again, and say whether the result is the same."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.cli.parser import Parser, existing_folder
from cnnbench.config.settings import flatten, with_current_targets
from cnnbench.utils.console import print_result
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import RECORD_FILE, SWEEP_CONFIG_FILE, Record, RecordError, read_record

COMPARED = ("metrics", "best", "history", "per_class", "confusion_matrix")  # of two records
SURROUNDINGS = ("git", "python", "device", "gpu", "cpu", "threads", "system")
MOST_SHOWN = 8


def main(arguments: Sequence[str]) -> int:
    """Run a finished run again; returns 0 where the result is the same, to the bit."""
    parser = Parser(
        "rerun",
        "Run a finished run again, from its record, and say what differs: of the result, and of the code, packages, "
        "hardware and data around it. The status is 0 where the result is the same, to the bit.",
    )
    parser.add_argument("run", metavar="RUN", type=existing_folder, help="folder of a finished run")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="of the new run (outputs/rerun/...)")
    parser.add_trust()
    options = parser.parse_args(arguments)
    folder = options.run
    try:
        before = read_record(folder)
    except (FileNotFoundError, RecordError) as error:
        raise RequestError(f"{folder} has no record to compare with ({error})") from error
    if before["status"] != "completed":
        raise RequestError(f"{folder} has not completed ({before['status']}), so there is no result to compare with")
    into = options.folder or Path("outputs", "rerun", f"{folder.resolve().name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    if any((into / name).exists() for name in (RECORD_FILE, SWEEP_CONFIG_FILE)):
        raise RequestError(f"{into} holds a run or a sweep already; choose another folder")

    from cnnbench.config.schema import check_values
    from cnnbench.config.trusted_targets import check_config, without_foreign_folders
    from cnnbench.training.loggers import SERVICES, logger_nodes
    from cnnbench.training.preflight import check
    from cnnbench.training.same_data import refuse_changed_data
    from cnnbench.training.train import train

    check_config(before.get("config"), f"the record in {folder}", options.trust)
    try:
        config = with_current_targets(before.get("config"))
        config["threads"] = (before.get("environment") or {}).get("threads") or config.get("threads")
        config["data"] = without_foreign_folders(config["data"])
        config["sweep"] = {**config["sweep"], "trial": None}  # the search is over
        if SERVICES.keys() & logger_nodes(config["logger"]):  # that the record names: nothing is sent there
            config["logger"] = {"_target_": None}
        check_values(config)
        check(config)
        refuse_changed_data([(config, folder)])
    except (AttributeError, KeyError, TypeError) as error:
        raise RequestError(f"the configuration in {folder} is not whole ({type(error).__name__}: {error})") from error
    print_result(f"running {folder} again, into {into}")
    after = train(config, into, before.get("overrides", ()), before.get("choices"))
    for line in differences(*map(surroundings, (before, after))):
        print_result(f"  {line}")
    runs = {"then": before, "now": after}
    if dirty := [when for when, record in runs.items() if (record.get("environment") or {}).get("git_dirty")]:
        print_result(f"  the code had changes that were not committed, {' and '.join(dirty)}")
    if after["status"] != "completed":
        end = after["error"] or {}
        print_result(f"  {after['status']}: {end.get('type')}: {end.get('message')}")
        return 1
    after = read_record(into)  # as the file says it, like the one before
    compared = [flatten({part: record.get(part) for part in COMPARED}) for record in (before, after)]
    for values in compared:
        values.pop("history.lr", None)  # is set and no result; records of earlier versions have the next epoch's
    lines = differences(*compared)
    old, new = ((record.get("model") or {}).get("sha256") for record in (before, after))
    lines += ["the last weights differ"] * (old != new)
    more = [f"... and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    for line in [*lines[:MOST_SHOWN], *more]:
        print_result(f"  {line}")
    print_result("the result is not the same" if lines else "the result is the same, to the bit")
    return 1 if lines else 0


def surroundings(record: Record) -> dict[str, Any]:
    """What is around a run: code, packages, hardware and data."""
    node = record.get("environment") or {}
    data = (record.get("data") or {}).get("fingerprint")
    return {**{key: node.get(key) for key in SURROUNDINGS}, **(node.get("packages") or {}), "data": data}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each key whose values differ, and of lists of the same length the first entry that does."""
    lines = []
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after) and before != after:
            first = next(i for i, (one, two) in enumerate(zip(before, after, strict=True)) if one != two)
            lines.append(f"{key} differs from entry {first} on: {before[first]} was, {after[first]} is")
        elif before != after:
            lines.append(f"{key} was {before}, and is {after}")
    return lines
