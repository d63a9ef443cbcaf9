"""Loggers: several at a time, those of other packages for real where they are installed, and what a resumed run does."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL, config
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from cnnbench.cli.main import main
from cnnbench.sweep.run_summary import _send_report
from cnnbench.training.loggers import build_loggers, check_packages, send_report
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError

BASE = [*SMALL, "steps_per_execution=2"]  # five steps in each of two epochs


def stop_once(folder: Path) -> list[str]:
    return ["+callbacks.fault._target_=faults.Fault", "+callbacks.fault.how=term", "+callbacks.fault.step=7",
            f"+callbacks.fault.folder='{folder}'"]  # fmt: skip


def stopped_and_resumed(tmp_path: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    folder, asked = tmp_path / "run", config(*overrides, *stop_once(tmp_path), base=BASE)
    assert train(asked, folder)["status"] == "interrupted"
    return folder, asked


def test_many_loggers_and_a_resumed_csv_with_all_epochs(tmp_path: Path) -> None:
    folder, asked = stopped_and_resumed(tmp_path, "logger=many")
    record = train(asked, folder)
    rows = list(csv.DictReader((folder / "csv" / "metrics.csv").open()))
    shown = [float(row["accuracy/val"]) for row in rows if row["accuracy/val"]]
    assert shown == record["history"]["val/accuracy"] and len(shown) == 2
    assert float(rows[-1]["accuracy/test"]) == record["metrics"]["test/accuracy"]
    assert list(folder.glob("tensorboard/events.out.tfevents.*"))


def test_loggers_are_built_alone_several_or_not_at_all(tmp_path: Path) -> None:
    kinds = {choice: [type(one) for one in build_loggers(config(f"logger={choice}")["logger"], tmp_path, None)]
             for choice in ("none", "csv", "many")}  # fmt: skip
    assert kinds == {"none": [], "csv": [CSVLogger], "many": [TensorBoardLogger, CSVLogger]}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.training.loggers.find_spec", lambda _: None)
    with pytest.raises(RequestError, match=rf"logger={name} needs {name}.*pip install 'cnnbench\[{name}\]'"):
        check_packages(config(f"logger={name}")["logger"])


def test_a_kept_override_sends_a_run_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("[logger=mlflow, 'logger.tracking_uri=http://elsewhere']")
    assert main(["resume", str(tmp_path)]) == 2
    assert "logger.tracking_uri" in capsys.readouterr().err


def test_mlflow_goes_on_with_the_same_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    more = [f"logger.tracking_uri={store}", f"logger.artifact_location={tmp_path / 'files'}"]
    folder, asked = stopped_and_resumed(tmp_path, "logger=mlflow", *more)
    record, client = train(asked, folder), MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("cnnbench").experiment_id])
    assert run.info.run_id == json.loads((folder / "loggers.json").read_text())["mlflow"]
    assert (run.info.status, run.data.metrics["accuracy/test"]) == ("FINISHED", record["metrics"]["test/accuracy"])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "accuracy/val")]
    assert steps == [1, 2]
    assert {"figures", "metrics.csv"} == {file.path for file in client.list_artifacts(run.info.run_id)}


def sweep_with_a_report(folder: Path) -> list[Path]:
    folder.mkdir()
    files = [folder / name for name in ("report.html", "leaderboard.csv")]
    for path in (folder / "sweep.json", *files):
        path.write_text("{}")
    return files


def test_mlflow_gets_the_report_of_a_sweep_once(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    more = [f"logger.tracking_uri={store}", f"logger.artifact_location={tmp_path / 'files'}"]
    node, files = config("logger=mlflow", *more)["logger"], sweep_with_a_report(tmp_path / "a_sweep")
    for _ in range(2):  # as where it goes on
        send_report(node, tmp_path / "a_sweep", files)
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("cnnbench").experiment_id])
    assert (run.info.run_name, run.data.tags["sweep"], run.info.status) == ("a_sweep", "a_sweep", "FINISHED")
    assert {"report.html", "leaderboard.csv"} == {file.path for file in client.list_artifacts(run.info.run_id)}


def test_wandb_offline_gets_the_report_of_a_sweep(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    node = config("logger=wandb", "logger.offline=true", f"logger.save_dir={tmp_path}")["logger"]
    send_report(node, tmp_path / "a_sweep", sweep_with_a_report(tmp_path / "a_sweep"))
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert all(text in kept.read_bytes() for text in (b"a_sweep", b"report.html", b"leaderboard.csv"))


@pytest.mark.parametrize(
    ("logger", "told"), [("MLFlowLogger", "could not be sent: OSError: no network"), ("CSVLogger", "")]
)
def test_a_sweep_sends_its_report_to_services_alone_and_does_not_fail_with_them(
    logger: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("cnnbench.training.loggers.send_report", fails)
    _send_report({"_target_": f"lightning.pytorch.loggers.{logger}"}, tmp_path, [])
    printed = capsys.readouterr().out
    assert told in printed and bool(told) == bool(printed)


def test_wandb_offline_goes_on_with_the_same_id_in_the_group_of_its_sweep(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    sweep = tmp_path / "sweep_of_one"
    sweep.mkdir()
    (sweep / "sweep.json").write_text("{}")
    more = ["logger=wandb", "logger.offline=true", f"logger.save_dir={tmp_path}"]
    folder, asked = stopped_and_resumed(sweep, *more)
    name = json.loads((folder / "loggers.json").read_text())["wandb"]
    assert train(asked, folder)["status"] == "completed"
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{name}*/run-{name}.wandb"))
    assert json.loads((folder / "loggers.json").read_text()) == {"wandb": name}
    assert len(files) == len([*(tmp_path / "wandb").glob("offline-run-*")]) and files
    assert all(b"sweep_of_one" in file.read_bytes() for file in files)
    assert list((tmp_path / "wandb").glob("*/files/media/images/figures/confusion_test*.png"))
