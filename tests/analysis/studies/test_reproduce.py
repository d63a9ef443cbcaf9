"""``cnnbench reproduce`` from the command line to the page."""

from __future__ import annotations

import shutil
from itertools import pairwise

import helpers
import pytest
import torch

from cnnbench.cli import reproduce
from cnnbench.cli.main import main
from cnnbench.cli.reproduce import default_folder
from cnnbench.training.estimate import run_seconds
from cnnbench.utils.errors import RequestError

SMALL = ["data=digits", "data.limit_train=160", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=none"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A study run small, in a folder of its own."""
    folder = tmp_path_factory.mktemp("reproduce")
    arguments = ["--rows", "lr_0.01", "lr_0.05", "--seeds", "2", "--folder", str(folder / "runs")]
    status = main(["reproduce", "dl2020_mnist", *arguments, "--out", str(folder / "docs"), *SMALL])
    return status, folder


def test_a_small_reproduction_says_that_it_is_small(made):
    status, folder = made
    assert status == 0
    page = (folder / "docs" / "dl2020_mnist.md").read_text()
    assert "a smaller budget: 2 of 30 epochs; other images: Digits instead of MNIST (160 training images)" in page
    assert "`data=digits`" in page
    assert "| `lr_0.01` |" in page and "| `lr_0.0001` |" not in page
    # of the six claims five are of a row that was not asked for, and the other needs a baseline that learns
    assert "lr_0.0001 has not been seen to learn at this budget" in page and "No verdict at this budget: " in page
    assert "`lr_0.0001 " not in page and "5 claims of rows that were not asked for are left out." in page


def test_its_pictures_are_there(made):
    _, folder = made
    page = (folder / "docs" / "dl2020_mnist.md").read_text()
    names = [line.partition("](")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(names) >= 5
    assert all((folder / "docs" / name).read_bytes()[:4] == b"\x89PNG" for name in names)


def test_no_train_writes_the_same_tables_again(made, tmp_path, monkeypatch):
    _, folder = made
    monkeypatch.setattr("cnnbench.sweep.launcher.launch", lambda *_: pytest.fail("it trained"))
    arguments = ["--rows", "lr_0.01", "lr_0.05", "--seeds", "2", "--folder", str(folder / "runs")]
    assert reproduce.main(["dl2020_mnist", *arguments, "--out", str(tmp_path), "--no-train"]) == 0
    again, before = ((path / "dl2020_mnist.md").read_text() for path in (tmp_path, folder / "docs"))
    assert again == before
    # the command is of what ran, though this call has no overrides
    options = "--rows lr_0.01 lr_0.05 --seeds 2 --form published data=digits data.limit_train=160"
    assert f"cnnbench reproduce dl2020_mnist {options} trainer.max_epochs=2" in again


def test_a_page_names_every_device_that_its_runs_used(made, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(made[1] / "runs", runs)
    record = next(runs.rglob("result.json"))
    record.write_text(record.read_text().replace('"device": "cpu"', '"device": "cuda:0"'))
    arguments = ["--rows", "lr_0.01", "lr_0.05", "--seeds", "2", "--folder", str(runs), "--out", str(tmp_path)]
    assert reproduce.main(["dl2020_mnist", *arguments, "--no-train"]) == 0
    page = (tmp_path / "dl2020_mnist.md").read_text()
    assert "device cpu or cuda:0, " in page or "device cuda:0 or cpu, " in page


def test_a_page_of_one_row_has_a_name_of_its_own_and_its_curve(made, tmp_path):
    arguments = ["--rows", "lr_0.01", "--seeds", "2", "--folder", str(made[1] / "runs"), "--no-train"]
    assert reproduce.main(["dl2020_mnist", *arguments, "--out", str(tmp_path / "short.md")]) == 0
    page = (tmp_path / "short.md").read_text()
    pictures = [line.partition("](")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert pictures[0] == "short/published_curves_learning_rate_accuracy.png"
    assert all((tmp_path / name).is_file() for name in pictures)
    assert not (tmp_path / "dl2020_mnist.md").exists()


def test_no_train_says_which_runs_are_missing(made, tmp_path, capsys):
    _, folder = made
    arguments = ["--rows", "lr_0.0001", "lr_0.01", "--folder", str(folder / "runs"), "--out", str(tmp_path)]
    assert reproduce.main(["dl2020_mnist", *arguments, "--no-train"]) == 1
    told = capsys.readouterr().out
    assert "published, lr_0.0001: seeds 0, 1, 2 not run" in told
    assert "published, lr_0.01: seed 2 not run" in told
    assert "| `lr_0.0001` | learning rate 0.0001 | 97.00 to 98.00 | – |" in (tmp_path / "dl2020_mnist.md").read_text()  # noqa: RUF001


def test_a_run_is_named_after_its_row_however_many_rows_are_asked_for_with_it(tmp_path):
    arguments = ["--rows", "lr_0.01", "--seeds", "2", "--folder", str(tmp_path), "trainer.max_epochs=1"]
    assert main(["reproduce", "dl2020_mnist", *arguments, *SMALL]) == 0
    names = {path.parent.name for path in tmp_path.glob("published/*/result.json")}
    assert names == {f"experiment=dl2020_mnist-lr_0.01,seed={seed}" for seed in (0, 1)}


def test_runs_of_two_budgets_are_not_pooled(made, tmp_path, monkeypatch):
    _, folder = made
    monkeypatch.setattr("cnnbench.sweep.launcher.launch", lambda *_: pytest.fail("it trained"))
    arguments = ["dl2020_mnist", "--rows", "lr_0.01", "--folder"]
    says = "row lr_0.01 with trainer.max_epochs 2 and 3 would be pooled"
    with pytest.raises(RequestError, match=says):  # before it trains
        reproduce.main([*arguments, str(folder / "runs"), *SMALL, "trainer.max_epochs=3"])
    shutil.copytree(folder / "runs", tmp_path / "runs")
    record = next(tmp_path.glob("runs/published/*lr_0.01*seed=1*/result.json"))
    record.write_text(record.read_text().replace('"max_epochs": 2', '"max_epochs": 3'))
    with pytest.raises(RequestError, match=says):  # and of what is there
        reproduce.main([*arguments, str(tmp_path / "runs"), "--no-train"])


def test_a_row_that_cannot_be_run_does_not_keep_the_others_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    rows = ["--rows", "baseline", "fine_tune", "--seeds", "1"]
    monkeypatch.setattr("cnnbench.training.estimate._mean_seconds", lambda call: (call(), 0.01)[1])
    here = [*SMALL, "data.image_size=28", "sweep.isolate=false"]  # so that it is this process that has no network
    assert main(["reproduce", "int305_mnist", *rows, *here, "--dry-run"]) == 1
    told = capsys.readouterr().out
    assert "baseline                 1 x" in told and "fine_tune                cannot be run: model.weights" in told
    folder = tmp_path / "o'b"  # an apostrophe in a folder's name is no quote
    assert main(["reproduce", "int305_mnist", *rows, *here, "--folder", str(folder)]) == 1
    assert "published, fine_tune: seed 0 not run" in capsys.readouterr().out
    page = (folder / "reproduction.md").read_text()
    lines = page.splitlines()
    for above, line in pairwise(lines):  # else Markdown makes a paragraph of them
        begins = line.startswith("#") or (line.startswith("|") and not above.startswith("|"))
        assert not begins or not above or "```" in above, (above, line)
    assert "Not run here: `fine_tune` (model.weights: https" in page
    assert [line.rpartition("| ")[2] for line in page.splitlines() if line.startswith("| `")] == ["1 |", "not run |"]


def test_the_folder_is_named_after_what_changes_a_result():
    plain = default_folder("eq2425", ["optimizer.lr=0.1"])
    nothing = ["sweep.repeat_failed=true", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "logger=none"]
    assert default_folder("eq2425", ["optimizer.lr=0.1", *nothing]) == plain
    assert default_folder("eq2425", ["optimizer.lr=0.2"]) != plain != default_folder("eq2425", [])


def test_a_dry_run_lists_and_estimates_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0))
    assert reproduce.main(["dl2020_mnist", "--dry-run", "--seeds", "2", "--rows", "lr_0.0001", "lr_0.05", *SMALL]) == 0
    told = capsys.readouterr().out
    assert "lr_0.0001" in told and "4 runs, " in told
    assert told.startswith("this machine is busy (load 99.0 on ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked, cores, expected",
    [((), 2, 1), (("threads=2",), 1, 2), (("model.filters=[64,64]", "data.batch_size=64"), 2, 2)],
)
def test_an_estimate_takes_the_threads_that_the_run_would(asked: tuple[str, ...], cores: int, expected: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    unset = [item for item in helpers.SMALL if not item.startswith("threads")]
    try:
        assert run_seconds(helpers.config(*asked, base=unset)) > 0
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["eq2424"], "eq2425"),
        (["eq2425", "--rows", "4a_filters"], "4a1_filters"),
        (["eq2425", "--form", "correct"], "corrected"),
        (["eq2425", "--seeds", "0"], "at least 1"),
        (["eq2425", "--dry"], "--dry"),
        (["eq2425", "optimizer.lr=0.1,0.2"], "pooled"),
        (["eq2425", "optimizer.lr=interval(0.1,0.2)"], "pooled"),
        (["eq2425", "optimizer.lr=[0.1"], "optimizer.lr"),
        (["eq2425", "seed=3"], "--seeds"),
        ([], "STUDY"),
    ],
)
def test_a_wrong_request_is_told_in_a_line(arguments, says):
    with pytest.raises(RequestError, match=says):
        reproduce.main(arguments)


def test_control_c_ends_all_forms(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnbench.sweep.sweep.Sweep.launch", interrupted)
    folder = tmp_path / "runs"
    assert main(["reproduce", "dl2020_mnist", "--form", "both", "--folder", str(folder), *SMALL]) == 1
    assert [path.name for path in folder.iterdir()] == ["published"]
