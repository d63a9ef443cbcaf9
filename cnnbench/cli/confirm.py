"""``cnnbench confirm SWEEP``: run the best configurations of a sweep again with fresh seeds, and report those alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from cnnbench.analysis.leaderboard import Leaderboard, LeaderboardRow, build
from cnnbench.analysis.metric_names import plural
from cnnbench.analysis.report.text import leaderboard_text
from cnnbench.analysis.runs import collect, find_runs
from cnnbench.cli.parser import Parser, existing_folder
from cnnbench.cli.resume import refuse_changes, refuse_links
from cnnbench.config.overrides import override_key, quoted
from cnnbench.config.settings import SEED, SPLIT
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError


def main(arguments: Sequence[str]) -> int:
    """Confirm the winners of a sweep; returns and raises as ``launch`` does."""
    parser = Parser(
        "confirm",
        "Run the best configurations of a grid or a search again, with seeds that it has not used, in a folder of their own "
        "that `cnnbench resume` goes on with. The winner of many was partly lucky; fresh runs tell how much.",
        "Example: cnnbench confirm outputs/cnnbench/sweep_... --top 3 --seeds 5 hydra/launcher=parallel",
    )
    add = parser.add_argument
    add("folder", metavar="SWEEP", type=existing_folder, help="folder of a sweep")
    add("--top", type=int, default=3, metavar="N", help="configurations on each data set, by mean objective (3)")
    add("--seeds", type=int, default=5, metavar="N", help="fresh seeds of each, on each of its splits (5)")
    add("--out", type=Path, metavar="DIR", help="of the new runs (SWEEP_confirm)")
    parser.add_trust()
    options, more = parser.parse_with_overrides(arguments)
    for name in ("top", "seeds"):
        if getattr(options, name) < 1:
            raise RequestError(f"--{name} must be at least 1, got {getattr(options, name)}")
    refuse_changes(more)
    from cnnbench.config.trusted_targets import trust
    from cnnbench.sweep.launcher import launch
    from cnnbench.sweep.plan import FILE, write_plan

    trust(options.trust)
    folder, runs = options.folder, collect([options.folder])
    chosen = winners(board := build(runs), options.top)
    if not chosen:
        raise RequestError(f"{folder} has no completed run to confirm")
    first = max((run.seed for run in runs if run.seed is not None), default=-1) + 1
    seeds = ",".join(str(first + more) for more in range(options.seeds))
    commands = [[*more, *overrides, f"{SEED}={seeds}"] for _, overrides in chosen]
    out = options.out or (folder if folder.name else folder.resolve()).with_name(f"{folder.resolve().name}_confirm")
    if options.out is None and out.is_symlink():  # beside a folder that was received there may be more of theirs
        raise RequestError(f"{out} is a link, and nothing is written there (--out DIR says where)")
    refuse_links(out)
    if next(find_runs(out), None) is not None:
        raise RequestError(
            f"{out} has runs already: `cnnbench resume {quote(str(out))}` goes on, --out DIR keeps new ones apart"
        )
    (out / FILE).unlink(missing_ok=True)  # of a confirmation that was refused
    for command in commands:
        write_plan(out, command)
    count = plural(len(board.rows), "configuration")
    print_info(f"the best {len(chosen)} of {count} in {folder}, by runs that chose them:")
    print_info(leaderboard_text(replace(board, rows=[row for row, _ in chosen], notes=[])))
    return launch(["-m", *commands[-1], "sweep.earlier=true", f"hydra.sweep.dir={quoted(out)}"])


def winners(board: Leaderboard, top: int) -> list[tuple[LeaderboardRow, list[str]]]:
    """The first ``top`` configurations on each data set with their overrides but for the seed, on all splits that they have
    had; raises RequestError where these give another configuration today, or may not be repeated."""
    from cnnbench.config.compose import compose, fingerprint, resolved
    from cnnbench.config.trusted_targets import repeatable

    found: dict[tuple[str, ...], LeaderboardRow] = {}
    for row in board.rows:
        data_set, (run, *_) = row.configuration.data_set, row.configuration.runs
        if [one.configuration.data_set for one in found.values()].count(data_set) == top:
            continue
        kept = [text for one in row.configuration.runs for text in repeatable(one.overrides, str(one.path))]
        values = dict.fromkeys((override_key(text), text.partition("=")[2]) for text in kept)  # each once
        splits = {key: f"{key}={','.join(value for of, value in values if of == key)}" for key in SPLIT}
        overrides = [text for text in repeatable(run.overrides, str(run.path)) if override_key(text) != SEED]
        if fingerprint(resolved(compose([*overrides, f"{SEED}={run.seed}"]))) != run.record.get("fingerprint"):
            given = " ".join(overrides)
            raise RequestError(f"{run.path} had another configuration than its overrides give today ({given})")
        # those of several versions of the code are one
        found.setdefault(tuple(splits.get(override_key(text), text) for text in overrides), row)
    return [(row, list(overrides)) for overrides, row in found.items()]
