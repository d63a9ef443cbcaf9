"""Hundreds of wrong configurations: each is told in one line that names the key, before any work starts.

What is wrong for a key is told here by the kind of its default, or by name where that is not enough.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import SMALL
from hydra.errors import HydraException

from cnnbench.config.compose import compose, explain, resolved, unknown_key
from cnnbench.config.groups import groups, read_yaml
from cnnbench.config.schema import check_values
from cnnbench.config.settings import flatten
from cnnbench.sweep.launcher import launch
from cnnbench.training import preflight
from cnnbench.utils.errors import RequestError

NOT_A_NUMBER: list[Any] = ["abc", [[1]], {}, math.nan, math.inf, "1e", True]
WRONG: dict[type, list[Any]] = {
    bool: ["maybe", 2, None, []],
    int: [*NOT_A_NUMBER, -1, 1.5, None],
    float: [*NOT_A_NUMBER, -1e9, None],
    str: ["abcx", 3.5, ["abc"], None],
    list: ["abc", {}, [None], [[1]], [-1]],
    type(None): [[], {}],
}
TEXT: list[Any] = [3.5, ["abc"], None, {}]
NULL_IS_RIGHT: list[Any] = ["abc", [[1]], {}, math.nan, math.inf, -1, True]
BY_NAME: dict[str, list[Any]] = {
    **dict.fromkeys(("name", "data.path", "data.root", "data.cache"), TEXT),
    **dict.fromkeys(
        [f"logger.{part}{key}" for part in ("", "tensorboard.", "csv.") for key in ("name", "version")], TEXT
    ),
    **dict.fromkeys([f"logger.{key}" for key in ("project", "save_dir", "experiment_name", "tracking_uri")], TEXT),
    **dict.fromkeys(("checkpoint.minutes", "divergence.above"), NULL_IS_RIGHT),
    **{
        f"optimizer.{part}{key}": ["maybe", 2, []]
        for part in ("", "first.", "then.", "base_optimizer.")
        for key in ("fused", "foreach")
    },
    "optimizer.max_grad_norm": NULL_IS_RIGHT,
    "loss.alpha": [*NOT_A_NUMBER, 0, 1],
    "callbacks.progress.seconds": [*NOT_A_NUMBER, -1, None],
    "callbacks.progress.minutes": [*NOT_A_NUMBER, -1],
    "data.worker_seconds": [*NOT_A_NUMBER, 0, -1, 1e7, float("inf"), None],
    "data.mean": [*NOT_A_NUMBER, [], [0.5, 0.5], ["a"]],
    "model.groups": ["abc", 0, -1, 1.5, [[1]], {}, None],
    "init_from": [[], {}, 3, ""],
    "model.weights": [[], {}, 3, "nowhere.pt"],
    "trainer.devices": ["abc", 0, -1, 1.5, [], {}, None, True],
}
OWN_KEYS = set(groups()) - {"experiment", "study"}
NEEDS = {f"data={name}": ["data.path=x"] for name in ("csv", "hf", "image_folder", "npz")}


@cache
def composed(override: str) -> dict[str, Any]:
    return resolved(compose([override, *NEEDS.get(override, [])]))


# Of which at least so many values are tried: those of the defaults, and of the choices of groups that have keys of their own.
LEAST = {"": 700, "data": 50, "logger": 40, "optimizer": 120, "scheduler": 70}


def cases(group: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Each key of a group's choices once that the defaults do not have (without a group, each of the defaults): a choice
    that has it, the key, and wrong values for it."""
    seen = set(flatten(composed("seed=0"))) if group else set()
    for name in groups()[group] if group else [""]:
        own = yaml.safe_load(read_yaml(group, name)) if group else {"defaults": []}
        if "defaults" not in own and {f"{group}.{key}" for key in flatten(own)} <= seen:
            continue  # which need not be composed to see it
        override = f"{group}={name}" if group else "seed=0"
        for key, default in flatten(composed(override)).items():
            if key not in seen and "_target_" not in key and "_partial_" not in key:
                seen.add(key)
                yield override, key, BY_NAME.get(key, WRONG[type(default)])


def with_value(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    node = config
    *path, last = key.split(".")
    for name in path:
        node = node[name]
    node[last] = value
    return config


@pytest.mark.parametrize("group", ["", *sorted(OWN_KEYS)])
def test_a_wrong_value_is_told_in_a_line_that_names_its_key(group: str) -> None:
    tried, wrong = 0, []
    for override, key, values in cases(group):
        for value in values:
            config, told, tried = with_value(composed(override), key, value), "nothing", tried + 1
            preflight._checked.clear()
            try:
                check_values(config)
                preflight.check(config)
            except RequestError as error:
                told = str(error)
            names_it = key in told or key.split(".")[0] in told or key.split(".")[-1] in told
            if "\n" in told or not names_it:
                wrong.append(f"{override}, {key}={value!r}: {told}")
    assert not wrong, "\n".join(wrong)
    assert tried >= LEAST.get(group, 0)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("+trainer.max_steps=5", "a Lightning step is several optimizer steps"),
        ("+trainer.limit_train_batches=2", "data.limit_train"),
        ("+trainer.check_val_every_n_epoch=2", "not supported"),
        ("+trainer.gradient_clip=1", "did you mean 'gradient_clip_val'"),
        ("+trainer.gradient_clip_algorithm=values", "norm or value"),
        ("trainer.precision=16-mixed", "needs a GPU"),
        ("trainer.precision=16-true", "needs a GPU"),
        ("scheduler=plateau scheduler.interval=step", "scheduler.interval=epoch"),
        ("model=resnet18 data.image_size=8 data.batch_size=3 data.limit_train=10", "data.limit_train=9 or a larger"),
        # of a batch of two or three images one of two devices has one
        (
            "model=resnet18 data.image_size=8 data.batch_size=8 data.limit_train=11 +trainer.num_nodes=2",
            "data.limit_train=8 ",
        ),
        (
            "callbacks=early_stopping callbacks.early_stopping.objective=test/loss",
            r"early_stopping.objective=test/\.\.\. would",
        ),
        (
            "callbacks=early_stopping callbacks.early_stopping.objective=val/loss objective=train/loss data.validation=none",
            "use callbacks.early_stopping.objective=train/loss",
        ),
        ("quirks.train_in_eval_mode=true objective=train/loss data.validation=none", "not with data.validation=none"),
        ("+quirks.batch_recal=true", "did you mean 'batch_recall'"),
        ("+sweep.retires=1", "did you mean 'retries'"),
        ("quirks=null", "it has keys of its own, softmax"),
        ("+checkpoint.hours=1", "checkpoint has minutes, steps"),
        ("+callbacks.figures.foo=1", "callbacks.figures.foo is no key"),
        ("+loss.label_smoothing=0.1", "label_smoothing is a key of its own"),
        ("+loss.gamma=2", "loss.gamma is no key"),
        ("+callbacks.foo=1", "callbacks.foo=1"),
        ("+optimizer.foo=1", "Adam.*unexpected keyword argument 'foo'"),
        ("+scheduler.foo=1", "Cosine.*unexpected keyword argument 'foo'"),
        ("optimizer=switch optimizer.then=sgd", "optimizer@optimizer.then=sgd"),
        ("data=mnist data.root=null", "data.root=null: give the folder"),
        ("data=medmnist data.root=null", "data.root=null: give the folder"),
        ("scheduler=onecycle scheduler.interval=epoch", "a cycle of 2 intervals does not rise and fall"),
        ("scheduler=wsd scheduler.interval=epoch trainer.max_epochs=4 scheduler.warmup=0", "would not fall"),
    ],
)
def test_what_would_not_do_what_it_says_is_refused(asked: str, told: str) -> None:
    config = resolved(compose([*SMALL, *asked.split()]))
    with pytest.raises(RequestError, match=told):
        check_values(config)
        preflight.check(config)


@pytest.mark.parametrize("wrong", ["logger=wandb", "callbacks.figures.foo=1", "metrics=[top5_accuracy]"])
def test_what_changes_no_result_is_checked_for_each_run(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.training.loggers.find_spec", lambda _: None)
    monkeypatch.setattr("cnnbench.training.metrics.TOP", 10)  # as of a set with few classes
    preflight.check(resolved(compose([*SMALL, "logger=none"])))
    plus = "+" * wrong.startswith("callbacks")
    with pytest.raises(RequestError, match=wrong.partition("=")[2].strip("[]1") or "foo"):
        preflight.check(resolved(compose([*SMALL, "logger=none", plus + wrong])))


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_working_folder_for_each_run_is_refused(sweep: list[str]) -> None:
    with pytest.raises(RequestError, match=r"hydra\.job\.chdir must be false"):
        launch([*sweep, *SMALL, "hydra.job.chdir=true", "sweep.isolate=false"])


def misspelt() -> list[tuple[str, str]]:
    """Wrong spellings of every key of the defaults, with the right one."""
    keys = [key for key in flatten(composed("model=lenet_bn")) if "_target_" not in key and "_partial_" not in key]
    return [(f"{key}{end}", key) for key in keys for end in ("x", "_")] + [(key[:-1], key) for key in keys]


def test_a_misspelt_key_is_told_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the function behind the message, and composed once: some hundred times would take a minute."""
    whole = compose([])
    monkeypatch.setattr("cnnbench.config.compose.compose", lambda choices, hydra: whole)
    for wrong, right in misspelt():
        told = unknown_key(wrong)
        assert "did you mean" in told and "\n" not in told, told
        near = told.partition("did you mean '")[2].partition("'")[0]
        # a letter may be missing at the end of several keys alike
        assert near == right or difflib.SequenceMatcher(None, wrong, near).ratio() >= 0.8, (wrong, told)


@pytest.mark.parametrize("group", [group for group in groups() if group != "experiment"])
def test_a_misspelt_choice_is_told_with_the_right_one(group: str) -> None:
    for choice in groups()[group]:
        told = explain(HydraException(f"Could not find '{group}/{choice}x'"))
        assert f"did you mean '{choice}'" in told or choice == "none", told


@pytest.mark.parametrize("launcher", ["submitit_slurm", "ray"])
def test_a_sweep_for_gpus_can_be_sent_from_a_machine_without_one(launcher: str, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    asked = ["-m", "trainer=gpu", "seed=0,1", "hydra.sweeper.dry_run=true", "sweep.isolate=false", *SMALL[:2]]
    asked.append(f"hydra.sweep.dir={tmp_path / 's'}")
    assert launch([*asked, f"hydra/launcher={launcher}"]) == 0
    with pytest.raises(RequestError, match="gpu"):
        launch(asked)
    with pytest.raises(RequestError, match="too small"):  # the rest is checked as ever
        launch([*asked, f"hydra/launcher={launcher}", "model.kernels=13"])
