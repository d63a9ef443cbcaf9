"""What is printed: nothing of a stranger's text moves the cursor, and nothing that a terminal cannot show ends a command."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import config

from cnnbench.analysis.report.write import _markdown_text
from cnnbench.cli.main import main
from cnnbench.data.imageset import printable
from cnnbench.inference.predict import as_csv, as_json, as_table
from cnnbench.training.train import train
from cnnbench.utils.console import bold, cell, escape, print_error, print_result
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record, write_record

CLEAR, TITLE, CSI, TURN, HALF = "\x1b[2J", "\x1b]0;mine\x07", "\x9b2J", "\u202etxt.exe", "caf\udce9"
NAMES = [CLEAR, TITLE, CSI, TURN, HALF, "a\x00b", "a\nb\rc", "=1+1", "<script>", "x" * 500, "$\\frac{$", "|", "é"]
UNSEEN = [chr(code) for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x202E, 0xDCE9)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_has_no_control_characters(name: str, capsys: pytest.CaptureFixture) -> None:
    print_result(f"a\t{name}\nb")
    print_error(RequestError(f"{name} is wrong"))
    told = capsys.readouterr()
    assert not set(UNSEEN) & set(told.out + told.err) and told.err.count("\n") == 1
    assert "\r" not in told.out and told.out.startswith("a\t") and told.out.endswith("\nb\n")


def test_plain_text_of_any_language_stays() -> None:
    for text in ("é ß Ω 猫 🐈 עברית", "a b", "'=1'"):
        assert escape(text) == text


def test_bold_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for terminal, expected in ((False, "a\n"), (True, "\033[1ma\033[0m\n")):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        print_result(bold("a"))
        assert capsys.readouterr().out == expected


def test_predictions_of_odd_names_are_a_line_each_and_no_formula() -> None:
    rows = [
        {"file": name, "class": name, "confidence": 0.5, "top": [{"class": name, "confidence": 0.5}]} for name in NAMES
    ]
    assert len(as_table(rows).splitlines()) == len(rows) + 1
    assert json.loads(escape(as_json(rows), keep="\n")) == rows
    cells = [row["predicted"] for row in csv.DictReader(io.StringIO(as_csv(rows)))]
    assert "'=1+1" in cells and not any(text.startswith(("=", "+", "-", "@")) for text in cells)
    assert cell(-0.5) == -0.5 and cell("-0.5") == "'-0.5"


@pytest.mark.parametrize(
    "text", ["[a](javascript:alert(1))", "![a](http://example.org)", "[a][b]", "[a]: http://example.org", "see https://example.org",
             "www.example.org", "<http://example.org>", CLEAR],
)  # fmt: skip
def test_markdown_has_no_links_of_strangers(text: str) -> None:
    written = _markdown_text(text)
    for link in ("](", "][", "]:", "://", "www.", "<", "\x1b"):
        assert link not in written
    assert _markdown_text("filters=[8, 16], lr=0.1: 3") == "filters=[8, 16], lr=0.1: 3"


def test_a_run_on_odd_class_names_completes_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.arange(8 * len(NAMES)) % len(NAMES)
    images = random.integers(0, 256, (len(labels), 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "odd.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels,
             classes=np.array(NAMES))  # fmt: skip
    cfg = config(
        "data=npz",
        "data.path=odd.npz",
        "data.validation=0.3",
        "data.limit_train=null",
        "trainer.max_epochs=1",
        "logger=tensorboard",
    )
    record = train(cfg, tmp_path / "run")
    assert record["status"] == "completed", record["error"]
    assert read_record(tmp_path / "run")["per_class"]["classes"] == [printable(name) for name in NAMES]
    np.save("x.npy", images[0])
    from PIL import Image

    Image.fromarray(images[0]).save("x.png")
    assert main(["predict", "run", "x.png", "--top", "20", "--sheet", "sheet.png"]) == 0
    assert main(["report", "run", "--baseline", "nope"]) == 2
    assert main(["report", "run"]) == 0
    told = capfd.readouterr()
    assert not set(UNSEEN) & set(told.out + told.err)
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in html.replace("<script>\n", "") or html.count("<script>") == 1


def test_a_record_full_of_escapes_is_shown_without(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    for number, name in enumerate(NAMES):
        write_record(tmp_path / f"run{number}", {
            "status": "failed", "name": name, "fingerprint": name, "overrides": [f"model={name}"], "choices": {"model": name},
            "config": {"model": {"_target_": name}}, "seed": 0, "error": {"type": name, "message": name, "traceback": name},
        })  # fmt: skip
    for arguments in (
        ["report", str(tmp_path)],
        *(["report", str(tmp_path), "--format", f] for f in ("md", "csv", "json")),
    ):
        assert main(arguments) == 0
        told = capfd.readouterr()
        assert not set(UNSEEN) & set(told.out + told.err)
