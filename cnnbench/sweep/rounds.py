"""``sweep.until=decided``: a grid to which seeds are added, one a round, until what was asked is decided.

Every decision comes from the records on disk, in the order of the rounds, so that a sweep which was killed goes on to the
same runs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cnnbench.analysis.metric_names import higher_is_better, is_share, plural
from cnnbench.analysis.runs import read_run
from cnnbench.analysis.sequential import DECIDED_FILE, FEWEST, Decisions, read_decided
from cnnbench.analysis.wording import sentences
from cnnbench.config.overrides import override_key
from cnnbench.config.schema import check_values
from cnnbench.config.settings import SEED, SPLIT
from cnnbench.sweep import plan
from cnnbench.sweep.plan import PlannedRun
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.sweep import Runs, Sweep, compose_all, shared_keys
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError, one_of
from cnnbench.utils.record import write_atomically
from cnnbench.utils.signals import stop_requested

ENDED = ("completed", *plan.FAILED)


def sweep_until_decided(sweep: Sweep, commands: Sequence[Sequence[str]], dry_run: bool) -> int:
    """Run rounds until all is decided, or only check the first; ``commands`` are the overrides of the grid's runs.
    Returns and raises as ``sweep_grid`` does."""
    rounds = Rounds(sweep, commands)
    first, most = [*rounds.first.values()], rounds.rule["max_seeds"]
    sweep.folder = Path(str(OmegaConf.select(first[0].cfg, "hydra.sweep.dir")))
    if sweep.is_named:
        known = plan.read_plan(sweep.folder)
        if known["commands"] and [one.rule for one in read_decided([sweep.folder])] != [rounds.rule]:
            raise RequestError(f"{sweep.folder} holds another sweep, or one with another rule; choose another folder")
        plan.assign_folders(first, sweep.folder, known["runs"])
    sweep.check(first, rounds.repeat_failed)  # later ones differ in the seed alone
    if dry_run:
        return 0
    sweep.settle_folder()
    if not (sweep.folder / DECIDED_FILE).exists():
        rounds.write()  # before the plan: it says what the folder is
    counts = f"{len(rounds.cells)} configurations of {FEWEST} to {most} seeds"
    print_info(f"{counts}, until decided; in {sweep.folder}")
    with sweep.running(0, 0, rounds.rule["metric"]):
        rounds.run()
    return finish(sweep.folder, [*rounds.runs.values()], sweep.interrupted)


class Rounds:
    """The configurations of a grid, their runs so far, and what these have decided; raises RequestError where there is
    nothing to compare or a key is wrong."""

    def __init__(self, sweep: Sweep, commands: Sequence[Sequence[str]]) -> None:
        check_values({"sweep": OmegaConf.to_container(sweep.config.sweep)})
        self.sweep, options, metric = sweep, sweep.config.sweep, str(sweep.config.objective)
        self.repeat_failed, self.runs = bool(options.repeat_failed), Runs()
        if options.practical is None and not is_share(metric):
            raise RequestError(f"sweep.until=decided by {metric} needs sweep.practical, a difference that is too small "
                               "to matter")  # fmt: skip
        seeds = {text for run in commands for text in run if override_key(text) == SEED}
        if type(sweep.config.seed) is not int or len(seeds) > 1:
            raise RequestError("sweep.until=decided adds the seeds itself: give the first one alone, such as seed=0")
        cells = [[text for text in run if text not in seeds] for run in commands]
        self.shared = shared_keys(cells)
        self.cells = {" ".join(text for text in cell if override_key(text) not in self.shared): cell for cell in cells}
        if len(self.cells) < 2:
            raise RequestError("sweep.until=decided compares configurations, such as optimizer=sgd,adam: there is one")
        if varied := {override_key(text) for cell in cells for text in cell} & {*SPLIT} - {*self.shared}:
            wrong = f"sweep.until=decided compares configurations on the same images, so {min(varied)} can have one value alone"
            raise RequestError(f"{wrong}; data.split_seed='${{seed}}' draws a split for each seed")
        if (baseline := options.baseline) is not None:
            one_of("sweep.baseline", baseline, self.cells)
        self.first = self._compose(self.cells, range(sweep.config.seed, sweep.config.seed + FEWEST))
        practical = (options.practical or 0.5) / (100 if is_share(metric) else 1)
        looks = range(FEWEST, options.max_seeds + 1)
        self.decisions = Decisions([*self.cells], looks, practical, higher_is_better(metric), baseline)
        self.rule: dict[str, Any] = {
            "metric": metric, "practical": practical, "baseline": baseline, "seed": sweep.config.seed,
            "max_seeds": options.max_seeds, "configurations": [*self.cells],
        }  # fmt: skip

    def _compose(self, names: Iterable[str], seeds: Iterable[int]) -> Runs:
        keys = [*product(names, seeds)]
        runs = compose_all(self.sweep, [[*self.cells[name], f"{SEED}={seed}"] for name, seed in keys], self.shared)
        if any(repeat for _, repeat in runs) or len(runs) < len(keys):
            raise RequestError("sweep.until=decided: two configurations differ in nothing that changes the result")
        return dict(zip(keys, runs.values(), strict=True))

    def run(self) -> None:
        """Run rounds until all is decided, the most seeds are there, or a run has not ended."""
        new = self.first
        for n in self.decisions.looks:
            self._launch([*new.values()])
            self.runs |= new
            done = {key: read_run(self.sweep.folder / run.folder) for key, run in self.runs.items()}
            if stop_requested() is not None or any(run.status not in ENDED for run in done.values()):
                return
            values: dict[str, dict[int, float | None]] = {name: {} for name in self.cells}
            for (name, seed), run in done.items():
                values[name][seed] = run.value(self.rule["metric"]) if run.completed else None
            self.decisions.look(values)
            self.write()
            pairs = f"{len(self.decisions.open)} of {plural(len(self.decisions.pairs), 'pair')} undecided"
            out = ", ".join(sorted(self.decisions.dropped))
            print_info(f"\nafter {n} seeds: {pairs}" + (f"; dropped: {out}" if out else ""))
            if not (names := self.decisions.active) or n == self.rule["max_seeds"]:
                return
            new = self._compose(names, [max(seed for _, seed in self.runs) + 1])

    def _launch(self, runs: Sequence[PlannedRun]) -> None:
        plan.write_plan(self.sweep.folder, self.sweep.command, runs)
        left = [run for run in runs if run.left(self.repeat_failed)]
        self.sweep.total = len(self.runs) + len(runs)
        self.sweep.progress.total += len(left)
        for number, run in enumerate(left, start=self.sweep.total - len(left) + 1):
            run.number = number
        if left:
            self.sweep.launch(left)

    def write(self) -> None:
        """Write ``decided.json``; pairs that were still open when one of them was dropped are left out."""
        counts, still = Counter(name for name, _ in self.runs), self.decisions.open
        pairs = self.decisions.pairs.items()
        judged = [(pair, it) for pair, it in pairs if it.decision != "undecided" or pair in still]
        told = sentences("decided", self.rule, {name: counts[name] for name in self.cells}, len(still))
        content = {"rule": self.rule, "pairs": [(*pair, *it) for pair, it in judged], "told": told}
        write_atomically(self.sweep.folder / DECIDED_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
