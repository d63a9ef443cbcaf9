"""What is printed of one run at its start and at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnbench.analysis.metric_names import SPLITS, number, title, unit
from cnnbench.utils.console import bold, duration, is_verbose
from cnnbench.utils.record import RECORD_FILE

METRICS = {"loss": "loss", "accuracy": "accuracy", "recall": "macro recall"}


def beginning(config: Mapping[str, Any], choices: Mapping[str, str], folder: Path) -> str:
    """``lenet_bn on digits: adam (lr 0.001), cosine, 20 epochs of batches of 64; seed 0; in outputs/...``."""
    settings = config["optimizer"]
    rates = [part["lr"] for part in (settings, settings.get("first", {}), settings.get("then", {})) if "lr" in part]
    optimizer = f"{choices.get('optimizer')} (lr {', then '.join(map(str, rates))})"
    used = [choices.get(group) for group in ("scheduler", "augment", "fine_tune")]
    parts = [optimizer, *(name for name in used if name not in (None, "none"))]
    budget = f"{config['trainer']['max_epochs']} epochs of batches of {config['data']['batch_size']}"
    name = bold(f"{choices.get('model')} on {choices.get('data')}")
    return f"{name}: {', '.join(map(str, parts))}, {budget}; seed {config['seed']}\n  in {folder}"


def ending(record: Mapping[str, Any], folder: Path, short: bool = False) -> str:
    """How a run ended: one of a sweep in a line, another in a small table with what to open next."""
    if record["status"] != "completed":
        error = record["error"] or {}
        lines = [f"  {record['status']}: {error.get('type')}: {error.get('message')}"]
        if is_verbose():
            lines.append(error.get("traceback") or "")
        if not short and record["status"] == "interrupted":
            lines.append(f"  `cnnbench resume {folder}` goes on")
        return "\n".join(lines if short else [*lines, f"  {'record':<12} {folder / RECORD_FILE}"])
    metrics, best, protocol, time = (record[key] for key in ("metrics", "best", "protocol", "time"))
    if not short:
        lines = _table(record)
    else:
        lines = [
            f"  test accuracy {metrics['test/accuracy']:.2%}, macro recall {metrics['test/recall']:.2%}, "
            f"loss {metrics['test/loss']:.4f}, with the {protocol['weights']} weights (epoch {best['epoch'] + 1}: "
            f"{protocol['objective']} {best[protocol['objective']]:.4f}); {time['fit_seconds']:.1f} s"
        ]
    if record["data"]["validation"] == "test" and protocol["weights"] == "best":
        lines.append("  note: data.validation=test, so the epoch was selected on the test set, as the reports did")
    if not short:
        rate = time.get("images_per_second")
        speed = f"{len(record['history']['epoch'])} epochs" + (
            f", {rate:,.0f} images a second in training" if rate else ""
        )
        rows = {
            "time": f"{duration(time['fit_seconds'])} ({speed})",
            "record": folder / RECORD_FILE,
            "figures": folder / "figures",
            "tensorboard": f"cnnbench tensorboard {folder}",
        }
        lines += ["", *(f"  {name:<12} {text}" for name, text in rows.items())]
    return "\n".join(lines)


def _table(record: Mapping[str, Any]) -> list[str]:
    """A row a split, and which weights each is of."""
    metrics, best, objective = record["metrics"], record["best"], record["protocol"]["objective"]
    last = record["protocol"]["weights"] == "last"
    epoch = f"epoch {best['epoch'] + 1}, the best by {title(objective)}"
    rows = [
        ("train", metrics, f"epoch {len(record['history']['epoch'])}, the last, while it trained"),
        ("val", metrics if last else best, "the last epoch" if last else epoch),
        ("test", metrics, f"once, with the weights of {'the last' if last else 'that'} epoch"),
    ]
    lines = [f"  {'':<10} " + " ".join(f"{heading:>12}" for heading in METRICS.values())]
    for split, values, note in rows:
        if f"{split}/loss" in values:
            cells = (f"{number(values.get(m), m)}{unit(m)}" for m in (f"{split}/{name}" for name in METRICS))
            lines.append(f"  {SPLITS[split]:<10} " + " ".join(f"{cell:>12}" for cell in cells) + f"   {note}")
    lines[-1] = bold(lines[-1])
    return lines
