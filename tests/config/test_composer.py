"""A configuration whose values are set on a copy of what Hydra composed is the one that Hydra composes."""

from itertools import permutations

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cnnbench.config.compose import COMPOSE_ERRORS, Composer, compose, resolved
from cnnbench.config.groups import CONFIG_DIR
from cnnbench.utils.errors import RequestError

OVERRIDES = [
    ["seed=3"],
    ["optimizer=sgd", "optimizer.lr=0.3", "seed=1"],
    ["optimizer.lr=0.3", "optimizer=adam", "seed=1", "seed=2"],
    ["model.filters=[4,8]", "model=tiny_cnn", "name='a=b, c'"],
    ["+trainer.profiler=simple", "trainer.max_epochs=2", "trainer.profiler=null"],
    ["trainer.max_epochs=2", "~callbacks.figures", "seed=4"],
    ["++model.stride=2", "model.stride=3", "model={filters:[4]}"],
    ["experiment=dl2020_mnist/lr_0.01", "data.limit_train=100", "optimizer.lr=0.02"],
    ["hydra.job.config.override_dirname.exclude_keys=[seed]", "seed=1", "optimizer=sgd", "data.batch_size=8"],
    ["trainer={max_epochs:3}", "callbacks=none"],
    ["+callbacks.f._target_=faults.Fault", "+callbacks.f.by_seed={1:kill}", "callbacks.f.step=9", "optimizer=sgd"],
    ["hydra.sweep.dir='a b'", "++trainer.max_epochs=3", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2"],
    ["+trainer.max_epochs=3", "hydra.job.env_copy=[HOME]", "+callbacks.x={a:1}"],
    ["scheduler=cosine", "scheduler.interval=step", "data.fold=0", "data.folds=3"],
]


@pytest.fixture(autouse=True)
def _nothing_composed_before(monkeypatch):
    monkeypatch.setattr(Composer, "by_choices", {})


def whole(overrides):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def plain(cfg):
    return (
        OmegaConf.to_container(cfg.hydra.overrides),
        OmegaConf.to_container(cfg.hydra.sweep),
        OmegaConf.to_container(cfg.hydra.launcher),
        OmegaConf.to_container(cfg.hydra.job.env_set),
        cfg.hydra.job.override_dirname,
        cfg.hydra.runtime.choices,
        resolved(cfg),
    )


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_equal_to_hydra_in_any_order_of_overrides(overrides):
    composer = Composer(whole)
    for some in [*permutations(overrides)][:3]:
        try:
            expected = plain(whole(some))
        except (RequestError, *COMPOSE_ERRORS) as error:
            with pytest.raises(type(error)) as raised:
                composer(some)
            assert str(raised.value) == str(error)
        else:
            assert plain(composer(some)) == expected


def test_hydra_composes_each_choice_of_groups_once():
    calls = []
    composer = Composer(lambda overrides: calls.append(overrides) or whole(overrides))
    for name in ("sgd", "adam"):
        for lr in (0.1, 0.2, 0.3):
            cfg = composer([f"optimizer={name}", f"optimizer.lr={lr}", f"+trainer.x={lr}", f"hydra.run.dir=a{lr}"])
            assert cfg.optimizer.lr == cfg.trainer.x == lr and cfg.hydra.run.dir == f"a{lr}"
    assert calls == [["optimizer=sgd"], ["optimizer=adam"]]


@pytest.mark.parametrize(
    "wrong", ["optimizer.rate=1", "sed=1", "optimizer=sdg", "model.filters.x=1", "model.filters.7=1"]
)
def test_what_is_wrong_is_said_as_by_hydra(wrong):
    with pytest.raises(COMPOSE_ERRORS) as expected:
        whole(["seed=1", wrong])
    with pytest.raises(COMPOSE_ERRORS) as raised:
        Composer(whole)(["seed=1", wrong])
    assert str(raised.value) == str(expected.value)
    with pytest.raises(RequestError, match=wrong.partition("=")[0].replace("sdg", "")):
        compose(["seed=1", wrong])


def test_a_yaml_that_changes_is_read_again(tmp_path, monkeypatch):
    yaml = tmp_path / "own" / "model" / "mine.yaml"
    yaml.parent.mkdir(parents=True)
    monkeypatch.setenv("CNNBENCH_CONFIG_DIR", str(tmp_path / "own"))
    for width in (3, 5):
        yaml.write_text(f"_target_: cnnbench.models.ConvNet\nfilters: [{width}]\n")
        assert compose(["model=mine"]).model.filters == [width]
