"""``sweep.until=decided``: a grid to which seeds are added, one a round, until what was asked is decided.

Every decision comes from the records on disk, in the order of the rounds, so that a sweep which was killed goes on to the
same runs.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from cnnbench.analysis.decided import DECIDED_FILE, read_decided, write_decided
from cnnbench.analysis.grouping import group
from cnnbench.analysis.metric_names import higher_is_better, is_share, plural
from cnnbench.analysis.runs import Run, read_run
from cnnbench.analysis.sequential import FEWEST, Decisions
from cnnbench.config.overrides import override_key, parse_override
from cnnbench.config.schema import check_values
from cnnbench.config.settings import SEED, settings_of
from cnnbench.sweep import plan
from cnnbench.sweep.plan import PlannedRun
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.sweep import Sweep, compose_all, shared_keys
from cnnbench.training.same_data import refuse_changed_data
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError
from cnnbench.utils.signals import stop_requested

ENDED = ("completed", *plan.FAILED)


def sweep_until_decided(sweep: Sweep, commands: Sequence[Sequence[str]], dry_run: bool) -> int:
    """Run rounds until all is decided, or only check the first; ``commands`` are the overrides of the grid's runs as they
    were given. Returns and raises as ``sweep_grid`` does."""
    rounds = Rounds(sweep, commands)
    sweep.check([run for run in rounds.first if run.left(rounds.repeat_failed)])  # later ones differ in the seed alone
    refuse_changed_data((run.config, sweep.folder / run.folder) for run in rounds.first if run.state != "new")
    if dry_run:
        return 0
    sweep.settle_folder()
    if not (sweep.folder / DECIDED_FILE).exists():
        rounds.write()  # before the plan: it says what the folder is
    fewest, most = len(rounds.seeds), rounds.rule["max_seeds"]
    print_info(f"{len(rounds.names)} configurations of {fewest} to {most} seeds, until decided; in {sweep.folder}")
    with sweep.running(0, 0, rounds.rule["metric"]):
        rounds.run()
        interrupted = stop_requested() is not None
    return finish(sweep.folder, [*rounds.runs.values()], interrupted)


class Rounds:
    """The configurations of a grid, their runs so far, and what these have decided.

    Raises RequestError where there is nothing to compare, a key is wrong, or the folder's sweep has another rule.
    """

    def __init__(self, sweep: Sweep, commands: Sequence[Sequence[str]]) -> None:
        self.sweep = sweep
        given = [parse_override(text) for command in commands for text in command]
        self.seeds = [*dict.fromkeys(value for key, value in given if key == SEED)] or [sweep.config.seed]
        if not all(type(seed) is int for seed in self.seeds):
            raise RequestError(f"sweep.until=decided goes on from whole seeds, got {self.seeds}")
        self.seeds += [max(self.seeds) + more for more in range(1, 1 + FEWEST - len(self.seeds))]
        fewest, options = len(self.seeds), cast(dict[str, Any], OmegaConf.to_container(sweep.config.sweep))
        metric, self.repeat_failed = str(sweep.config.objective), options["repeat_failed"]
        most, practical = options["max_seeds"], options["practical"]
        check_values({"sweep": options})
        if fewest > most:
            raise RequestError(f"sweep.max_seeds={most} is less than the {fewest} seeds that were given")
        if practical is None and not is_share(metric):
            raise RequestError(
                f"sweep.until=decided by {metric} needs sweep.practical=..., a difference that does not matter"
            )
        practical = (practical or 0.5) / (100 if is_share(metric) else 1)
        self.cells = [*dict.fromkeys(tuple(t for t in command if override_key(t) != SEED) for command in commands)]
        self.shared = shared_keys(self._commands(range(len(self.cells)), self.seeds))
        self.first = self._compose(range(len(self.cells)), self.seeds)
        self.names, baseline = self._name(options["baseline"])
        self.runs: dict[tuple[str, int], PlannedRun] = {}
        looks, higher = range(fewest, most + 1), higher_is_better(metric)
        self.decisions = Decisions(self.names, looks, practical, higher, baseline)
        self.rule = {
            "metric": metric, "on_test": self.first[0].config["data"]["validation"] == "test", "practical": practical,
            "baseline": baseline, "seeds": self.seeds, "max_seeds": most, "configurations": self.names,
        }  # fmt: skip
        sweep.folder = Path(str(OmegaConf.select(self.first[0].cfg, "hydra.sweep.dir")))
        if sweep.is_named:
            self._refuse_another_rule()
            self._assign(self.first)

    def _commands(self, cells: Iterable[int], seeds: Sequence[int]) -> list[list[str]]:
        return [[*self.cells[cell], f"{SEED}={seed}"] for cell in cells for seed in seeds]

    def _compose(self, cells: Iterable[int], seeds: Sequence[int]) -> list[PlannedRun]:
        return [*compose_all(self.sweep, self._commands(cells, seeds), self.shared).values()]

    def _assign(self, runs: Sequence[PlannedRun]) -> None:
        plan.assign_folders(runs, self.sweep.folder, plan.read_plan(self.sweep.folder)["runs"])

    def _name(self, baseline: str | None) -> tuple[list[str], str | None]:
        """The names that a report has for the configurations, and that of the baseline."""
        runs = []
        for number, run in enumerate(self.first):
            choices = {key: str(name) for key, name in run.cfg.hydra.runtime.choices.items() if "hydra/" not in key}
            record = {"config": run.config, "choices": choices, "overrides": [*self.cells[number // len(self.seeds)]]}
            runs.append(Run(Path(str(number)), "", record, settings_of(run.config, choices, record["overrides"])))
        grid = group(runs)
        if len(self.cells) < 2 or len(grid.configurations) != len(self.cells):
            wrong = "two of these differ in nothing that changes the result" if len(self.cells) > 1 else "there is one"
            raise RequestError(f"sweep.until=decided compares configurations, such as optimizer=sgd,adam, and {wrong}")
        return [c.short for c in grid.configurations], None if baseline is None else grid.find(baseline).short

    def _refuse_another_rule(self) -> None:
        """A rule that changes after a look does not keep its error."""
        folder = self.sweep.folder
        if plan.read_plan(folder)["commands"] and not (folder / DECIDED_FILE).exists():
            raise RequestError(f"{folder} holds a sweep without sweep.until=decided; choose another folder")
        for known in read_decided([folder]):
            for key in [key for key, value in self.rule.items() if known.rule.get(key) != value]:
                now = f"{known.rule.get(key)}, not {self.rule[key]}"
                raise RequestError(f"{folder} is decided with {key.replace('_', ' ')} {now}; choose another folder")

    def run(self) -> None:
        """Run rounds until all is decided, the most seeds are there, or a run has not ended."""
        names, seeds, runs = self.names, self.seeds, self.first
        for n in self.decisions.rule.looks:
            self._launch(runs)
            self.runs |= dict(zip([(name, seed) for name in names for seed in seeds], runs, strict=True))
            done = {key: read_run(self.sweep.folder / run.folder) for key, run in self.runs.items()}
            if stop_requested() is not None or any(run.status not in ENDED for run in done.values()):
                return
            values: dict[str, dict[int, float | None]] = {name: {} for name in self.names}
            for (name, seed), run in done.items():
                values[name][seed] = run.value(self.rule["metric"]) if run.completed else None
            self.decisions.look(values)
            self.write()
            print_info(f"\n{self._describe(n)}")
            names, seeds = self.decisions.active, [max(seeds) + 1]
            if not names or n == self.rule["max_seeds"]:
                return
            runs = self._compose(map(self.names.index, names), seeds)
            self._assign(runs)

    def _launch(self, runs: Sequence[PlannedRun]) -> None:
        owners = plan.read_plan(self.sweep.folder)["runs"]
        plan.write_plan(self.sweep.folder, self.sweep.command, runs, owners)
        left = [run for run in runs if run.left(self.repeat_failed)]
        self.sweep.total = len(self.runs) + len(runs)
        self.sweep.progress.total += len(left)
        for number, run in enumerate(left, start=self.sweep.total - len(left) + 1):
            run.number = number
        if left:
            self.sweep.launch(left)

    def _describe(self, n: int) -> str:
        """``after 4 seeds: 1 of 3 pairs undecided; dropped: optimizer=sgd``."""
        out = sorted(self.decisions.dropped | self.decisions.failed)
        pairs = f"{len(self.decisions.open)} of {plural(len(self.decisions.pairs), 'pair')} undecided"
        return f"after {n} seeds: {pairs}" + (f"; dropped: {', '.join(out)}" if out else "")

    def write(self) -> None:
        """Write ``decided.json``."""
        given = Counter(name for name, _ in self.runs)
        write_decided(self.sweep.folder, self.rule, self.decisions, {name: given[name] for name in self.names})
