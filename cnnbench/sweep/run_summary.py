"""What is printed of a run at its start and its end, and of a sweep at its end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from textwrap import fill
from typing import Any

from cnnbench.analysis.metric_names import SPLITS, number, plural, title, unit
from cnnbench.sweep.plan import PlannedRun
from cnnbench.utils.console import bold, duration, is_verbose, print_result
from cnnbench.utils.errors import RequestError, one_line
from cnnbench.utils.record import RECORD_FILE

METRICS = {"loss": "loss", "accuracy": "accuracy", "recall": "macro recall"}


def beginning(config: Mapping[str, Any], choices: Mapping[str, str], folder: Path) -> str:
    """``lenet_bn on digits: adam (lr 0.001), cosine, 20 epochs of batches of 64; seed 0; in outputs/...``."""
    settings = config["optimizer"]
    parts = [settings, *(settings.get(name, {}) for name in ("base_optimizer", "first", "then"))]
    rates = [part["lr"] for part in parts if "lr" in part]
    optimizer = f"{choices.get('optimizer')} (lr {', then '.join(map(str, rates))})"
    used = [choices.get(group) for group in ("scheduler", "augment", "loss", "average", "fine_tune")]
    shown = [optimizer, *(name for name in used if name not in (None, "none", "cross_entropy"))]
    budget = f"{plural(config['trainer']['max_epochs'], 'epoch')} of batches of {config['data']['batch_size']}"
    data = config["data"]
    name = f"{choices.get('model')} on {choices.get('data')}" + (f" {data['name']}" if data.get("name") else "")
    fold = f", fold {data['fold']} of {data['folds']}" if data.get("folds") else ""
    return f"{bold(name)}: {', '.join(map(str, shown))}, {budget}; seed {config['seed']}{fold}\n  in {folder}"


def ending(record: Mapping[str, Any], folder: Path, short: bool = False) -> str:
    """How a run ended: one of a sweep in a line, another in a small table with what to open next."""
    where = f"  {'record':<12} {folder / RECORD_FILE}"
    if record["status"] != "completed":
        error = record["error"] or {}
        kind = f"{error.get('type')}: " if record["status"] == "failed" else ""
        lines = [f"  {record['status']}: {kind}{error.get('message')}"]
        lines += [error.get("traceback") or ""] if is_verbose() else []
        goes_on = f"  `cnnbench resume {quote(str(folder))}` goes on"
        lines += [goes_on] * (not short and record["status"] == "interrupted")
        return "\n".join(lines if short else [*lines, where])
    metrics, best, protocol, time = (record[key] for key in ("metrics", "best", "protocol", "time"))
    objective, weights = protocol["objective"], f"{protocol['weights']} weights{averaged(record)}"
    accuracy, recall, loss = (number(metrics[f"test/{name}"], name) for name in ("accuracy", "recall", "loss"))
    test = f"  test accuracy {accuracy}%, macro recall {recall}%, loss {loss}, with the {weights}"
    value = f"{title(objective)} {number(best[objective], objective)}{unit(objective).strip()}"
    test += f"; best {value} in epoch {best['epoch'] + 1}; {time['fit_seconds']:.1f} s"
    lines = [test] if short else _table(record)
    if record["data"]["validation"] == "test" and protocol["weights"] == "best":
        lines.append("  note: data.validation=test, so the epoch was selected on the test set, as the reports did")
    if not short:
        rate = time.get("images_per_second")
        speed = f", {rate:,.0f} images a second in training" if rate else ""
        epochs = plural(len(record["history"]["epoch"]), "epoch")
        lines += [f"\n  {'time':<12} {duration(time['fit_seconds'])} ({epochs}{speed})", where]
        lines.append(f"  {'figures':<12} {folder / 'figures'}")
        lines.append(f"  {'tensorboard':<12} cnnbench tensorboard {quote(str(folder))}")
    return "\n".join(lines)


def averaged(record: Mapping[str, Any]) -> str:
    """Which averages the test had, of weights and over views of an image, in words; empty where it had none."""
    average, views = (record["protocol"].get(key) for key in ("average", "test_time_augmentation"))
    of_views = f"; probabilities averaged over views of each image ({views})" if views not in (None, "none") else ""
    return (f", averaged ({average})" if average else "") + of_views


def _table(record: Mapping[str, Any]) -> list[str]:
    """A row a split, and which weights each is of."""
    metrics, best, objective = record["metrics"], record["best"], record["protocol"]["objective"]
    last = record["protocol"]["weights"] == "last"
    epoch = f"epoch {best['epoch'] + 1}, the best by {title(objective)}"
    chosen = record["config"]["augment"]
    mixed = ", by the label with the greater share" if chosen.get("mixup") or chosen.get("cutmix") else ""
    rows = [
        ("train", metrics, f"epoch {len(record['history']['epoch'])}, the last, while it trained{mixed}"),
        ("val", metrics if last else best, "the last epoch" if last else epoch),
        ("test", metrics, f"once, with the weights of {'the last' if last else 'that'} epoch{averaged(record)}"),
    ]
    lines = [f"  {'':<10} " + " ".join(f"{heading:>12}" for heading in METRICS.values())]
    for split, values, note in rows:
        if f"{split}/loss" in values:
            cells = (f"{number(values.get(m), m)}{unit(m)}" for m in (f"{split}/{name}" for name in METRICS))
            lines.append(f"  {SPLITS[split]:<10} " + " ".join(f"{cell:>12}" for cell in cells) + f"   {note}")
    lines[-1] = bold(lines[-1])
    return lines


def given_up(failures: Sequence[str], folder: Path, is_search: bool = False) -> str:
    """Why a sweep has started no more runs, with the error that most of the failures have, and how to go on."""
    (error, count), *others = Counter(failures).most_common()
    failed = f"{plural(len(failures), 'run')} in a row failed{f', {count} of them' if others else ''} with {error}"
    resume = f"cnnbench resume {quote(str(folder))}{'' if is_search else ' sweep.repeat_failed=true'}"
    remedy = f"Once the cause is gone, `{resume}` {'draws the rest' if is_search else 'does all of them'}"
    return f"{failed}\nso no more were started (sweep.stop_on_failure). {remedy}"


def _send_report(node: Mapping[str, Any], folder: Path, files: Sequence[Path]) -> None:
    """Send it where the loggers of the runs do; torch is imported only then."""
    if not any(name in str(node) for name in ("WandbLogger", "MLFlowLogger")):
        return
    from cnnbench.training.loggers import send_report

    try:
        send_report(node, folder, files)
    except Exception as error:  # of a service, which have no common kind
        print_result(f"the report could not be sent: {type(error).__name__}: {one_line(error)[:200]}")


def finish(folder: Path, runs: Sequence[PlannedRun], interrupted: bool = False, is_search: bool = False) -> int:
    """Print the leaderboard of a sweep and write it and the report; 0 when each of its ``runs``, of a search each in the
    folder, completed or was pruned, else 1. Raises KeyboardInterrupt where it was interrupted, so that a command of several
    sweeps stops."""
    from cnnbench.analysis.leaderboard import build
    from cnnbench.analysis.report import write as report
    from cnnbench.analysis.report.tables import decided_table
    from cnnbench.analysis.report.text import answer_text, leaderboard_text, text_table
    from cnnbench.analysis.runs import collect, read_run
    from cnnbench.analysis.sequential import read_decided

    try:
        collected = collect([folder])
        print_result(f"\n{leaderboard_text(build(collected))}")
        for table in map(decided_table, read_decided([folder])):
            text = text_table(table.headers, [[cell.text for cell in row] for row in table.rows], table.numeric)
            print_result(f"{fill(table.caption, 100, break_on_hyphens=False)}\n{text}\n")
    except RequestError:  # stopped before the first began
        collected = []
    if interrupted:
        print_result(f"interrupted; what has been done is kept. `cnnbench resume {quote(str(folder))}` goes on")
        raise KeyboardInterrupt
    built = report.build([folder]) if collected else None
    files = built.write(folder) if built else ()
    print_result(f"{answer_text(built.answer)}\n" if built else "")
    for path in files:
        print_result(f"  {path.suffix[1:]:<12} {path}")
    print_result(f"  {'runs':<12} {folder}\n  {'tensorboard':<12} cnnbench tensorboard {quote(str(folder))}")
    if files and runs:
        _send_report(runs[0].config["logger"], folder, files)
    planned = collected if is_search else [read_run(folder / run.folder) for run in runs]  # not those of another sweep
    if collected and all(run.completed or run.pruned for run in planned):
        return 0
    more = "with sweep.repeat_failed=true failed ones too"
    more = "and draws more in place of failed ones with a larger hydra.sweeper.n_trials" if is_search else more
    print_result(f"not all runs completed: `cnnbench resume {quote(str(folder))}` goes on, {more}")
    return 1
