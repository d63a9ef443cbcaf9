"""Every YAML composes and is commented; wrong names and values are told in one line."""

from __future__ import annotations

import re

import pytest
from helpers import config

from cnnbench.config.compose import compose, fingerprint, resolved
from cnnbench.config.groups import CONFIG_DIR, groups
from cnnbench.config.resolvers import run_folder
from cnnbench.config.schema import check_values
from cnnbench.config.settings import find_factors, settings_of
from cnnbench.utils.errors import RequestError

CHOICES = [(group, choice) for group, choices in groups().items() for choice in choices]
YAMLS = sorted(CONFIG_DIR.rglob("*.yaml"))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_with_the_defaults(group: str, choice: str) -> None:
    needs = ["data.path=x"] if group == "data" and choice in ("csv", "image_folder", "npz") else []
    check_values(resolved(compose([f"{group}={choice}", *needs])))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONFIG_DIR)))
def test_every_yaml_has_a_headline_and_every_key_a_comment(path) -> None:
    first, *lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert first.startswith("# ") and len(first) > 10
    if "experiment" in path.parts:
        return  # a row sets keys that have their comments elsewhere, and its first line says what it changes
    if path.parent.parent.name == "hydra":
        return  # logging and help follow forms that are not ours
    in_hydra = False
    for line in lines:
        in_hydra = line.startswith(("hydra:", "defaults:")) or (in_hydra and line.startswith(" "))
        key = re.match((r"" if "study" in path.parts else r"\s*") + r"([\w]+):\s*(\S.*)?$", line)
        if key and key[2] and not in_hydra and key[1] not in ("_target_", "defaults"):
            assert "#" in line, f"{key[1]} has no comment"


def test_the_contract_has_its_choices() -> None:
    wanted = {
        "model": "tiny_cnn mnist_cnn three_layer_cnn four_layer_cnn lenet alexnet mlp resnet18 mobilenet shufflenet xnor",
        "data": "digits mnist fashion_mnist cifar10 cifar100 image_folder npz csv torchvision hf medmnist",
        "optimizer": "sgd momentum rmsprop adam adamw adadelta switch",
        "scheduler": "none step exp cosine onecycle plateau",
        "augment": "none flip crop flip_crop",
        "trainer": "auto cpu gpu ddp",
    }
    for group, names in wanted.items():
        assert set(names.split()) <= set(groups()[group]), group


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer=adma", "did you mean 'adam'?"),
        ("optimizer.lrr=1", "did you mean 'optimizer.lr'?"),
        ("optmizer=adam", "did you mean 'optimizer'?"),
        ("trainer.max_epoch=3", "did you mean 'trainer.max_epochs'?"),
        ("sed=1", "did you mean 'seed'?"),
        ("optimizer=switch optimizer.first.lrr=1", "did you mean 'optimizer.first.lr'?"),
        ("model=mlp model.hiden=3", "did you mean 'model.hidden'?"),
        ("loss=bce loss.gamma=1", "loss has no keys"),
        ("model.nope.x=1", "there is no model.nope"),
        ("data=npz", "data.path has no default"),
        ("seed=${nothing}", "refers to ${nothing}"),
        ("foo", "foo"),
    ],
)
def test_a_wrong_name_is_told_in_one_line_with_the_right_one(override: str, expected: str) -> None:
    with pytest.raises(RequestError) as error:
        resolved(compose(override.split()))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


WRONG_VALUES = {
    "momentum": "optimizer.lr=-1 optimizer.lr=abc optimizer.momentum=1 optimizer.weight_decay=-0.1 data.batch_size=0 "
    "seed=-1 seed=1.5 steps_per_execution=0 steps_per_execution=often trainer.max_epochs=0 trainer.gradient_clip_val=0 "
    "label_smoothing=1 data.limit_train=0 data.image_size=0 data.shuffle=2 test_with=first init_from=3 "
    "trainer.accumulate_grad_batches=0 fine_tune.frozen_epochs=-1 fine_tune.backbone_lr_factor=0",
    "switch": "optimizer.switch_at=1 optimizer.switch_at=0 optimizer.first.lr=0 optimizer.then.momentum=1 "
    "optimizer.then.weight_decay=-1",
}


@pytest.mark.parametrize(
    ("optimizer", "override"), [(name, text) for name, texts in WRONG_VALUES.items() for text in texts.split()]
)
def test_a_wrong_value_names_its_key(optimizer: str, override: str) -> None:
    with pytest.raises(RequestError, match=override.partition("=")[0].replace(".", r"\.")):
        check_values(resolved(compose([f"optimizer={optimizer}", override])))


def test_null_is_the_choice_none() -> None:
    groups_with_none = [group for group, choices in groups().items() if "none" in choices]
    assert {"logger", "scheduler", "augment"} <= {*groups_with_none}
    null = compose([f"{group}=null" for group in groups_with_none])
    assert null == compose([f"{group}=none" for group in groups_with_none])


def test_fingerprint_changes_with_what_changes_the_result_and_with_nothing_else() -> None:
    base = fingerprint(config())
    assert fingerprint(config()) == base
    for same in (
        "name=other",
        "metrics=[f1]",
        "steps_per_execution=3",
        "data.storage=memory",
        "data.worker_seconds=7",
        "data.cache=/elsewhere",
        "threads=1",
    ):
        assert fingerprint(config(same)) == base, same
    for other in ("seed=1", "optimizer.lr=0.5", "data.split_seed=3", "augment=flip", "trainer.max_epochs=3"):
        assert fingerprint(config(other)) != base, other


def test_run_folders_are_safe_names() -> None:
    assert run_folder("optimizer=sgd,scheduler=exp") == "optimizer=sgd,scheduler=exp"
    assert "/" not in run_folder("experiment=eq2425/default,data.path=/a b/c")
    assert run_folder("../..") not in ("", ".", "..") and "/" not in run_folder("../..")
    long = [run_folder(f"key={'x' * 300}{end}") for end in "ab"]
    assert long[0] != long[1] and all(len(name) <= 120 for name in long)


def test_a_warm_up_is_one_factor_though_a_schedules_length_is_written_otherwise_with_it():
    sweep = [["scheduler=cosine", f"scheduler.warmup={share}", f"seed={seed}"] for share in (0, 0.1) for seed in (0, 1)]
    settings = [settings_of(resolved(compose(overrides)), {"scheduler": "cosine"}, overrides) for overrides in sweep]
    assert find_factors(settings, ["scheduler"], ["scheduler", "scheduler.warmup", "seed"]) == ("scheduler.warmup",)
