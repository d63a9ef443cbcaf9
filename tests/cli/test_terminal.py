"""What a person reads: with -q results and what goes wrong, with -v everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import SMALL, config

from cnnbench.cli.main import main
from cnnbench.sweep.run_summary import ending
from cnnbench.training.train import train
from cnnbench.utils.console import duration, is_quiet, verbosity
from cnnbench.utils.record import read_record

RUN = [*SMALL, "logger=none", "hydra.run.dir=r", "callbacks.progress.seconds=0"]


def test_a_run_begins_with_what_it_is_and_ends_with_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(RUN) == 0
    told = capsys.readouterr().out
    assert told.startswith("tiny_cnn on digits: adam (lr 0.001), cosine, 2 epochs of batches of 32; seed 0")
    metrics = read_record(tmp_path / "r")["metrics"]
    (row,) = re.findall(r"^  test +([\d.]+) +([\d.]+) % +([\d.]+) %", told, re.MULTILINE)
    assert [float(value) for value in row] == pytest.approx(
        [metrics["test/loss"], 100 * metrics["test/accuracy"], 100 * metrics["test/recall"]], abs=0.005
    )
    assert "r/result.json" in told and "cnnbench tensorboard" in told and "\033" not in told


def test_a_loss_that_is_no_number_has_a_dash(tmp_path: Path) -> None:
    asked = [
        "data.limit_train=100",
        "data.batch_size=50",
        "trainer.max_epochs=1",
        "data.validation=none",
        "objective=train/loss",
    ]
    asked += ["model.norm=batch", "optimizer=sgd", "optimizer.lr=1e8", "scheduler=none", "divergence.above=null"]
    train(config(*asked), tmp_path)  # batch norm in evaluation mode: the test's activations are beyond float32
    record = read_record(tmp_path)  # as a sweep has it, whose other runs must go on
    assert (record["status"], record["metrics"]["test/loss"]) == ("completed", None)
    assert "loss –" in ending(record, tmp_path, short=True) and "–" in ending(record, tmp_path)  # noqa: RUF001
    record["best"]["train/loss"] = None
    assert "train loss –" in ending(record, tmp_path, short=True)  # noqa: RUF001


def test_folders_in_commands_that_are_printed_can_be_copied(tmp_path: Path) -> None:
    folder = tmp_path / "a b,filters=[4]"
    record = train(config(), folder)
    assert f"cnnbench tensorboard '{folder}'" in ending(record, folder)
    stopped = {"status": "interrupted", "error": None}
    assert f"`cnnbench resume '{folder}'`" in ending(stopped, folder)


def test_a_long_epoch_is_told_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "steps_per_execution=1", "callbacks.progress.minutes=0"]) == 0
    told = capsys.readouterr().out
    within = re.findall(r"^  epoch 2/2 +(\d+)%, loss ([\d.]+) acc +([\d.]+)%, [\d.]+k? images/s", told, re.MULTILINE)
    assert [int(share) for share, _, _ in within] == [20, 40, 60, 80, 100]
    history = read_record(tmp_path / "r")["history"]
    assert float(within[-1][1]) == pytest.approx(history["train/loss"][1], abs=1e-4)
    assert float(within[-1][2]) == pytest.approx(100 * history["train/accuracy"][1], abs=0.01)
    assert main([*RUN, "hydra.run.dir=s", "steps_per_execution=1"]) == 0
    assert not re.search(r"epoch ./2 +\d+%", capsys.readouterr().out)  # these take less than a minute


def test_what_comes_after_the_bar_begins_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("cnnbench.training.callbacks.progress.BAR_SECONDS", 0.0)
    fault = ["+callbacks.f._target_=faults.Fault", "+callbacks.f.how=raise", "+callbacks.f.step=8"]
    assert main([*RUN, *fault, "steps_per_execution=1"]) == 1
    told = capsys.readouterr().out
    bars = re.findall(r"\r(  epoch ./2 +\d+%\|[^\r\n]*)", told)
    assert len(bars) >= 7 and all(len(bar) < 50 for bar in bars)
    assert re.search(r"[\r\n] *failed: RuntimeError", told)


def test_quiet_tells_results_alone_and_verbose_where_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["-q", *RUN]) == 0
    told = capsys.readouterr().out
    assert "epoch 1/2" not in told and "weights;" not in told and re.search(r"^  test ", told, re.MULTILINE)
    broken = [*RUN[:-2], "+callbacks.f._target_=faults.Fault", "+callbacks.f.how=raise"]
    assert main([*broken, "hydra.run.dir=a", "--quiet"]) == 1
    told = capsys.readouterr().out
    assert "failed: RuntimeError: it went off" in told and "Traceback" not in told
    assert main([*broken, "hydra.run.dir=b", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().out and not is_quiet()


def test_a_level_may_stand_before_the_command(capsys: pytest.CaptureFixture) -> None:
    assert main(["-q", "list", "optimizer"]) == 0
    before = capsys.readouterr().out
    assert main(["list", "optimizer", "--quiet"]) == 0
    assert "adam" in before and capsys.readouterr().out == before
    assert main(["-q", "reprot"]) == 2 and "did you mean 'report'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "there", "absent"),
    [
        ("cnnbench re", {"report", "resume", "reproduce", "rerun"}, {"predict"}),
        ("cnnbench ", {"report", "optimizer=", "trainer."}, set()),
        ("cnnbench optimizer=ad", {"optimizer=adam", "optimizer=adadelta"}, {"report"}),
        ("cnnbench -q train optimizer=sgd optimizer.l", {"optimizer.lr="}, {"list"}),
        ("cnnbench -m optimizer=sgd,adam sched", {"scheduler="}, {"train"}),
        ("cnnbench find-lr --steps 12 trainer.max_e", {"trainer.max_epochs="}, set()),
        ("cnnbench noise --seeds 3 trainer.max_e", {"trainer.max_epochs="}, {"noise"}),
        ("cnnbench reproduce eq", {"eq2425"}, {"optimizer="}),
        ("cnnbench reproduce eq2425 see", {"seed="}, set()),
    ],
)  # fmt: skip
def test_commands_and_overrides_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, line: str, there: set, absent: set
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", f"query={'fish' if 'see' in line else 'bash'}"]) == 0
    told = capsys.readouterr()
    words = set(told.out.split())
    assert there <= words and not absent & words and told.err == "", told


@pytest.mark.parametrize("line", ["cnnbench report out", "cnnbench resume ", "cnnbench what =[", "cnnbench a=[ b"])
def test_completion_is_silent_where_it_knows_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, line: str
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    told = capfd.readouterr()
    assert told.out.strip() == told.err == ""


def test_a_level_holds_for_its_command_alone() -> None:
    with verbosity("quiet"):
        assert is_quiet()
        with verbosity(None):
            assert is_quiet()
    assert not is_quiet()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
