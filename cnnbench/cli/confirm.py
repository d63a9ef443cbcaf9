"""``cnnbench confirm SWEEP``: run the best configurations of a sweep again with fresh seeds, and report those alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.analysis.confirmation import CONFIRM_FILE
from cnnbench.analysis.leaderboard import Leaderboard, build
from cnnbench.analysis.runs import collect
from cnnbench.cli.parser import Parser, existing_folder
from cnnbench.cli.resume import refuse_changes
from cnnbench.config.overrides import override_key, quoted
from cnnbench.config.settings import SEED
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_file, write_atomically


def main(arguments: Sequence[str]) -> int:
    """Confirm the winners of a sweep; returns and raises as ``launch`` does."""
    parser = Parser(
        "confirm",
        "Run the best configurations of a grid or a search again, with seeds that it has not used, in a folder of their own "
        "that `cnnbench resume` goes on with. The winner of many was partly lucky; fresh runs tell how much.",
        "Example: cnnbench confirm outputs/cnnbench/sweep_... --top 3 --seeds 5 hydra/launcher=parallel",
    )
    parser.add_argument("folder", metavar="SWEEP", type=existing_folder, help="folder of a sweep")
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="configurations, by the mean of the objective (3)"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="fresh seeds of each (5)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the new runs (SWEEP_confirm)")
    parser.add_trust()
    options, more = parser.parse_with_overrides(arguments)
    for name in ("top", "seeds"):
        if getattr(options, name) < 1:
            raise RequestError(f"--{name} must be at least 1, got {getattr(options, name)}")
    refuse_changes(more)
    from cnnbench.config.trusted_targets import trust
    from cnnbench.sweep.launcher import launch
    from cnnbench.sweep.plan import write_plan

    trust(options.trust)
    runs = collect([options.folder])
    board = build(runs)
    if not board.rows:
        raise RequestError(f"{options.folder} has no completed run to confirm")
    first = max((run.seed for run in runs if run.seed is not None), default=-1) + 1
    seeds = [*range(first, first + options.seeds)]
    chosen = winners(board, options.top, first)
    plan = {
        "sweep": str(options.folder),
        "metric": board.objective,
        "of": len(board.rows),
        "seeds": seeds,
        "winners": chosen,
    }
    where = options.folder.resolve()
    out = options.out or (options.folder if options.folder.name else where).with_name(f"{where.name}_confirm")
    refuse_another(out, plan)
    write_atomically(out / CONFIRM_FILE, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")
    ordered = sorted(more, key=lambda text: not text.startswith("hydra"))  # as a sweep keeps its command
    of_hydra = [text for text in ordered if text.startswith("hydra")]
    fresh = f"{SEED}={','.join(map(str, seeds))}"
    for winner in chosen:
        command = [*of_hydra, *winner["overrides"], fresh, *ordered[len(of_hydra) :]]
        write_plan(out, command, owners={})
    return launch(["-m", *command, "sweep.earlier=true", f"hydra.sweep.dir={quoted(out)}"])


def winners(board: Leaderboard, top: int, new_seed: int) -> list[dict[str, Any]]:
    """The overrides of the first ``top`` configurations, their means, and the fingerprint of each with ``new_seed``; raises
    RequestError where these are not to be had today, or may not be repeated."""
    from cnnbench.config.compose import compose, fingerprint, resolved
    from cnnbench.config.trusted_targets import repeatable

    found: dict[str, dict[str, Any]] = {}
    for row in board.rows:
        run = row.configuration.runs[0]
        overrides = [text for text in repeatable(run.overrides, str(run.path)) if override_key(text) != SEED]
        then, now = (fingerprint(resolved(compose([*overrides, f"{SEED}={seed}"]))) for seed in (run.seed, new_seed))
        if then != run.record.get("fingerprint"):
            raise RequestError(
                f"{run.path} had another configuration than its overrides give today ({' '.join(overrides)})"
            )
        winner = {"overrides": overrides, "value": row.objective.mean, "n": row.n, "fingerprint": now}
        found.setdefault(now, winner)  # those of several versions of the code are one
        if len(found) == top:
            break
    return [*found.values()]


def refuse_another(out: Path, plan: dict[str, Any]) -> None:
    """Raise RequestError where the folder holds anything but this confirmation."""
    try:
        same = not out.exists() or json.loads(read_file(out / CONFIRM_FILE)) == plan
    except (OSError, ValueError):
        same = not any(out.iterdir()) if out.is_dir() else False
    if not same:
        raise RequestError(f"{out} holds something else already; choose another folder (--out DIR)")
