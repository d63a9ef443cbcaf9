"""What a folder from a stranger may make this program do: nothing. The hostile folders are made by ``hostile.py``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import hostile
import pytest
from helpers import config
from PIL import Image

from cnnbench.cli.main import main
from cnnbench.cli.tensorboard import link_runs
from cnnbench.config.compose import compose, resolved
from cnnbench.config.groups import groups
from cnnbench.config.trusted_targets import ALLOW, check_config, repeatable
from cnnbench.data.cache import find_prepared
from cnnbench.sweep.plan import hydra_fingerprint
from cnnbench.training.train import train
from cnnbench.utils.errors import RequestError
from cnnbench.utils.record import read_record, write_record


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "run"
    Image.new("L", (12, 12)).save(folder.parent / "x.png")
    assert train(config("trainer.max_epochs=1"), folder, ["logger=none"])["status"] == "completed"
    return folder


@pytest.fixture(scope="module")
def made(run: Path) -> dict[str, list[Path]]:
    """The hostile folders by kind."""
    return hostile.make(run, run.parent / "all")


@pytest.fixture
def theirs(
    made: dict[str, list[Path]], run: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, list[Path]], Callable[[], list[str]]]:
    """The hostile folders by kind, and what has appeared beside them since."""
    monkeypatch.chdir(run.parent)
    monkeypatch.syspath_prepend(str(run.parent / "all" / "theirs"))

    def names() -> set[str]:
        return {path.name for folder in (".", "all") for path in Path(folder).iterdir()}

    there = names()
    return made, lambda: sorted(names() - there)


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "predict": lambda folder: ["predict", str(folder), "x.png"],
    "export": lambda folder: ["export", str(folder)],
    "rerun": lambda folder: ["rerun", str(folder), "again"],
    "resume": lambda folder: ["resume", str(folder)],
    "confirm": lambda folder: ["confirm", str(folder)],
    "resume of a sweep": lambda folder: ["resume", str(folder / "sweep")],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_hostile_is_refused_in_a_line(
    theirs: tuple[dict[str, list[Path]], Callable[[], list[str]]], command: str, capfd: pytest.CaptureFixture
) -> None:
    made, appeared = theirs
    kinds = ["configuration"] if command in ("predict", "export") else ["configuration", "values"]
    kinds = ["configuration", "values", "overrides"] if command.startswith("resume") else kinds
    kinds = ["configuration", "overrides"] if command == "confirm" else kinds
    for kind in kinds:
        for folder in made[kind]:
            status, told = main(COMMANDS[command](folder)), capfd.readouterr()
            if command == "rerun" and folder.name in ("a search's storage elsewhere", "prepared images elsewhere"):
                assert status in (0, 1), told  # done without, into a folder of its own
                assert appeared() == ["again"]
                shutil.rmtree("again")
                continue
            assert status == 2 and not told.out and told.err.count("\n") == 1, (folder.name, status, told)
            assert appeared() == [], folder.name


def test_there_are_enough_of_them(theirs: tuple[dict[str, list[Path]], Callable[[], list[str]]]) -> None:
    assert sum(map(len, theirs[0].values())) > 90


def test_what_is_hostile_is_nothing_to_a_report_and_to_tensorboard(
    theirs: tuple[dict[str, list[Path]], Callable[[], list[str]]], run: Path, capfd: pytest.CaptureFixture
) -> None:
    made, appeared = theirs
    for folder in (folder for folders in made.values() for folder in folders):
        (folder / "tensorboard").mkdir()
        (folder / "tensorboard" / "events.out.tfevents.1").touch()
    odd = run.parent / "all" / "optimizer=.." / "tensorboard"
    odd.mkdir(parents=True)
    (odd / "events.out.tfevents.1").touch()
    link_runs(Path("links"), [Path("all")])
    assert len(list(Path("links").rglob("*"))) > 90
    some = [str(folder) for folders in made.values() for folder in folders[::9]]
    assert main(["report", *some, "--format", "md", "--out", "out"]) == 0
    assert appeared() == ["links", "optimizer=..", "out"] and "\x1b" not in capfd.readouterr().out


RECORDS: dict[str, dict[str, Any]] = {
    "a configuration that is a list": {"config": []},
    "a configuration that is empty": {"config": {}},
    "an environment that is text": {"environment": "cuda"},
    "classes that are a number": {"per_class": {"classes": 3}},
    "no data": {"data": None},
    "a status that is a list": {"status": ["completed"]},
    "a schema that is text": {"schema": "1"},
}


@pytest.mark.parametrize("command", ["predict", "rerun"])
@pytest.mark.parametrize("case", RECORDS)
def test_a_record_of_another_form_is_refused_in_a_line(
    run: Path, tmp_path: Path, case: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if command == "rerun" and case in ("classes that are a number", "no data"):
        pytest.skip("these are of the result, which it makes anew")
    monkeypatch.chdir(tmp_path)
    Image.new("L", (12, 12)).save("x.png")
    write_record(tmp_path / "theirs", {**read_record(run), **RECORDS[case]})
    assert main(COMMANDS[command](Path("theirs"))) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"status": "completed", "schema": 1, "config": ' + '{"a":' * 50_000, "\x00"]
)
def test_a_record_that_is_no_json_is_refused_in_a_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "result.json").write_text(text)
    assert main(["rerun", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_written_through_a_link(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(run, tmp_path / "theirs")
    (tmp_path / "mine").mkdir()
    for name, command in (("figures", "resume"), ("export", "export")):
        shutil.rmtree(tmp_path / "theirs" / name, ignore_errors=True)
        (tmp_path / "theirs" / name).symlink_to(tmp_path / "mine")
        assert main([command, str(tmp_path / "theirs")]) == 2
        assert "is a link out of" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


def test_all_that_can_be_chosen_is_trusted() -> None:
    choices = [[f"{group}={choice}" for choice in names] for group, names in groups().items() if group != "experiment"]
    together = [[*filter(None, row)] for row in zip_longest(*choices)]  # a choice of each group, while it has one left
    for chosen in [*together, *([f"experiment={row}"] for row in groups()["experiment"][:3])]:
        check_config(resolved(compose([*chosen, "++data.path=x"])), " ".join(chosen))


@pytest.mark.parametrize(
    "override",
    [
        "optimizer=adam", "model=lenet,alexnet", "model=glob(le*)", "optimizer@optimizer.first=rmsprop", "~callbacks.figures",
        "experiment=eq2425/default", "optimizer.lr=tag(log,interval(1e-4,1))", "seed=range(3)", "model.filters=[8,16],[4,4]",
        "hydra/launcher=parallel", "hydra.launcher.n_jobs=-1", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=20",
        "hydra.sweeper.sampler=qmc", "hydra.launcher.partition=gpu-long", "hydra.launcher.mem_gb=null", "hydra.mode=MULTIRUN",
        "optimizer._target_=torch.optim.NAdam", "optimizer.then._target_=torch.optim.adam.Adam", "name='a run, of mine'",
        "+callbacks.x._target_=null", "+callbacks.x={_target_:cnnbench.training.callbacks.EarlyStopping,objective:val/loss}",
        "scheduler._target_=torch.optim.lr_scheduler.PolynomialLR", "+augment._target_=cnnbench.augment.Augment",
        "data.path='/a b/c'", "+trainer.limit_train_batches=3",
    ],
)  # fmt: skip
def test_what_a_user_says_is_repeated(override: str) -> None:
    if "_target_=null" in override:
        with pytest.raises(RequestError, match="not what this installation has"):
            repeatable([override], "it")
    else:
        assert repeatable([override], "it") == [override]


def test_what_is_given_anew_is_not_repeated() -> None:
    kept = ["hydra.launcher.setup=['module load cuda']", "name=${seed}", "hydra.run.dir=/x", "seed=0"]
    assert repeatable(kept, "it", ["hydra.launcher.setup=['x']", "+name=a"]) == ["seed=0"]
    with pytest.raises(RequestError, match=r"give hydra\.launcher\.setup\.0=|give hydra\.launcher\.setup="):
        repeatable(kept[:1], "it")


def test_the_user_may_trust_more(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"model": {"_target_": "collections.Counter"}}
    with pytest.raises(RequestError, match=r"--trust collections, or CNNBENCH_TRUST=collections"):
        check_config(node, "it")
    check_config(node, "it", ["collections"])
    monkeypatch.setenv(ALLOW, "numpy, collections")
    check_config(node, "it")
    assert repeatable(["model._target_=collections.Counter"], "it")
    with pytest.raises(RequestError, match="not there"):
        check_config({"optimizer": {"_target_": "torch.optim.Nope"}}, "it")
    with pytest.raises(RequestError, match="not what this installation has"):
        check_config({"model": {"_target_": "logging.os.mkdir"}}, "it", ["logging"])  # which logging does not define


def test_a_trusted_package_may_be_named_on_the_command_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOW, "")
    Path("my_nets.py").write_text("from cnnbench.models import ConvNet\nclass Net(ConvNet): pass\n")
    Image.new("L", (12, 12)).save("x.png")
    record = read_record(run)
    record["config"]["model"]["_target_"] = "my_nets.Net"
    write_record(tmp_path / "theirs", record)
    Path("theirs/checkpoints").symlink_to(run / "checkpoints")
    assert main(["predict", "theirs", "x.png"]) == 2
    assert "--trust my_nets" in capsys.readouterr().err
    assert main(["predict", "theirs", "x.png", "--trust", "my_nets", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["class"]


def hostile_copy(run: Path, folder: Path, change: Callable[[dict[str, Any]], Any] = lambda record: None) -> Path:
    """A copy of the run, whose record has been changed."""
    shutil.copytree(run, folder)
    record = read_record(run)
    change(record)
    (folder / "result.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("change", "command", "told"),
    [
        ({"config": None}, "predict", "the network of the run"),
        ({"config": None}, "rerun", "is not whole"),
        ({"overrides": 5}, "rerun", "'overrides' is not what it has to be"),
        ({"environment": {"packages": 3}}, "rerun", "'environment' is not what it has to be"),
    ],
)
def test_a_record_of_the_wrong_kind_is_refused_and_reported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, change: Any, command: str, told: str
) -> None:
    folder = hostile_copy(run, tmp_path / "theirs", lambda record: record.update(change))
    more = str(run.parent / "x.png") if command == "predict" else str(tmp_path / "again")
    assert main([command, str(folder), more]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": 5}, {"fingerprint": {"a": 1}}, {"protocol": {"objective": [1]}}, {"choices": {"optimizer": ["x"]}},
        {"confusion_matrix": {"test": [["a"]]}},
    ],
)  # fmt: skip
def test_a_report_has_a_record_of_the_wrong_kind_as_unreadable(run: Path, tmp_path: Path, change: Any) -> None:
    folder = hostile_copy(run, tmp_path / "theirs", lambda record: record.update(change))
    assert main(["report", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "unreadable" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("key", ["name", "version", "sub_dir", "filename_suffix"])
def test_a_logger_expands_no_variable_into_a_folder_above(run: Path, tmp_path: Path, key: str) -> None:
    node = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", key: ".$CNNBENCH_VERBOSITY./.$HOME./MARK"}
    folder = hostile_copy(run, tmp_path / "theirs", lambda record: record["config"].update(logger=node))
    assert main(["rerun", str(folder), str(tmp_path / "again")]) == 2


def test_a_pipe_in_a_folder_is_not_waited_for(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, image = hostile_copy(run, tmp_path / "theirs"), str(run.parent / "x.png")
    for name, command in (
        ("predictions.npz", ["report", str(folder), "--out", str(tmp_path)]),
        ("checkpoints/best.ckpt", ["predict", str(folder), image]),
        ("result.json", ["rerun", str(folder), str(tmp_path / "again")]),
        (".hydra", ["resume", str(folder)]),
    ):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        assert main(command) == (0 if command[0] == "report" else 2), capsys.readouterr()


def test_a_few_lines_do_not_fill_the_memory(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    kept, here = tmp_path / ".hydra", "0123456789abcdefghij"
    kept.mkdir()
    lines = [f"- &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise(here)]
    (kept / "overrides.yaml").write_text("\n".join(["- &0 [x]", *lines]))
    assert main(["resume", str(tmp_path)]) == 2
    assert "has aliases" in capsys.readouterr().err
    lines = [f"k{new}: '{'${k' + old + '}'}{'${k' + old + '}'}'" for old, new in pairwise(here * 2)]
    (kept / "config.yaml").write_text("\n".join(["a: b", *dict.fromkeys(lines)]))
    assert hydra_fingerprint(tmp_path) is None


def test_links_in_a_circle_end_nothing(run: Path, tmp_path: Path) -> None:
    kept = tmp_path / ".hydra"
    kept.mkdir()
    (kept / "overrides.yaml").write_text("- what?")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert main(["resume", str(tmp_path)]) == 2


@pytest.mark.parametrize("text", ["[]", "[" * 100_000])
def test_a_cache_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "meta.json").write_text(text)
    assert find_prepared(tmp_path, "0") is None
