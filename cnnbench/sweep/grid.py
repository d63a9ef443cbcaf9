"""A grid: every combination of what commas separate, but for the runs that a folder has already."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from cnnbench.analysis.sequential import DECIDED_FILE
from cnnbench.config.overrides import expand, override_key
from cnnbench.config.trusted_targets import repeatable
from cnnbench.sweep import plan
from cnnbench.sweep.rounds import sweep_until_decided
from cnnbench.sweep.run_summary import finish
from cnnbench.sweep.sweep import Sweep, compose_all, shared_keys
from cnnbench.utils.console import print_info
from cnnbench.utils.errors import RequestError


def sweep_grid(sweep: Sweep, arguments: Sequence[str], dry_run: bool) -> int:
    """Run what is left of a grid, or only check it; returns 0 when every run has completed, else 1. Raises RequestError
    before anything is started, and KeyboardInterrupt as ``finish`` does."""
    commands = expand(arguments)
    if sweep.config.sweep.until is not None:
        return sweep_until_decided(sweep, commands, dry_run)
    runs_by_key = compose_all(sweep, commands, shared_keys(commands))
    first = next(iter(runs_by_key.values()))
    options = first.config["sweep"]
    sweep.folder = Path(str(OmegaConf.select(first.cfg, "hydra.sweep.dir")))
    owners = None
    if sweep.is_named:  # another folder will be new, whatever another command of the same second has put there
        if (sweep.folder / DECIDED_FILE).exists():
            raise RequestError(f"{sweep.folder} holds a sweep with sweep.until=decided; choose another folder")
        known = plan.read_plan(sweep.folder)
        kept = (repeatable(one, str(sweep.folder / plan.FILE)) for one in known["commands"] if options["earlier"])
        earlier = [expand([text for text in command if not text.startswith("hydra")]) for command in kept]
        shared = shared_keys([run for runs in earlier or [commands] for run in runs])
        if len(earlier) > 1:  # names that tell the runs of all commands apart
            shared |= {override_key(text) for text in plan.NOT_KEPT}
            runs_by_key = compose_all(sweep, commands, shared)
        for more in (compose_all(sweep, runs, shared) for runs in earlier):
            runs_by_key |= {key: run for key, run in more.items() if key not in runs_by_key}
        owners = known["runs"]
        plan.assign_folders([*runs_by_key.values()], sweep.folder, owners)
    runs = [*runs_by_key.values()]
    sweep.check(runs, options["repeat_failed"])
    if dry_run:
        return 0
    sweep.settle_folder()
    plan.write_plan(sweep.folder, sweep.command, runs, owners)
    left = [run for run in runs if run.left(options["repeat_failed"])]
    print_info(f"{plan.describe(runs, options['repeat_failed'])}; in {sweep.folder}")
    if not left:
        return finish(sweep.folder, runs)
    for number, run in enumerate(left, start=len(runs) - len(left) + 1):
        run.number = number
    with sweep.running(len(left), len(runs), left[0].config["objective"]):
        sweep.launch(left)
    return finish(sweep.folder, runs, sweep.interrupted)
