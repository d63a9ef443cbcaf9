"""Overrides are read as Hydra reads them: one by one, as a grid, with globs written out."""

from __future__ import annotations

import pytest

from cnnbench.config.overrides import expand, parse, parse_override, parse_value, quoted, without_shorthand
from cnnbench.utils.errors import RequestError


def test_expand_gives_every_run_of_a_grid() -> None:
    runs = expand(["optimizer=sgd,adam", "seed=range(3)", "data=digits"])
    assert len(runs) == 6
    assert runs[0] == ["optimizer=sgd", "seed=0", "data=digits"] and runs[-1] == [
        "optimizer=adam",
        "seed=2",
        "data=digits",
    ]
    assert [run[0] for run in expand(["augment=null,flip"])] == ["augment=none", "augment=flip"]
    with pytest.raises(RequestError, match="add hydra/sweeper=optuna"):
        expand(["optimizer.lr=interval(0,1)"])


def test_globs_of_choices_are_written_out() -> None:
    (text,) = without_shorthand(["optimizer=glob(ada*,exclude=*w)"])
    assert text == "optimizer=adadelta,adam"
    with pytest.raises(RequestError, match="matches none of"):
        without_shorthand(["optimizer=glob(x*)"])


def test_keys_and_values_are_read_without_what_is_for_hydra_alone() -> None:
    assert parse_override("+model.filters=[8,16]") == ("model.filters", [8, 16])
    assert parse_override("optimizer@optimizer.then=sgd") == ("optimizer", "sgd")
    assert parse_override("seed=0,1") == ("seed", "0,1")
    assert parse_override("name=a(b") == ("name", "a(b")  # as it may stand in a record
    assert [parse_value(text) for text in ("1e-3", "null", "true", "adam", "'a b'")] == [
        1e-3,
        None,
        True,
        "adam",
        "a b",
    ]


@pytest.mark.parametrize("text", ["a", "a b", "it's", "a=b,c", "[x]", "back\\slash", "end\\", "\\'", "${x}", "ü {}"])
def test_any_text_can_be_a_value(text: str) -> None:
    assert parse(f"key={quoted(text)}").value() == text
    assert not parse(f"key={quoted(text)}").is_sweep_override()


def test_what_cannot_be_read_is_said_in_one_line() -> None:
    with pytest.raises(RequestError, match="foo cannot be read") as error:
        parse("foo")
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError) as error:
        without_shorthand(["seed=1", "data.path=my(photos)"])
    hint = "data.path='my(photos)'"
    assert f'"{hint}"' in str(error.value) and parse(hint).value() == "my(photos)"
    with pytest.raises(RequestError, match="model=null is not a choice of model: alexnet"):
        without_shorthand(["model=null"])


def test_a_key_that_every_run_has_is_not_removed() -> None:
    for text in (
        "~scheduler",
        "~augment=none",
        "~fine_tune",
        "~quirks",
        "~data.batch_size",
        "~trainer.precision",
        "~sweep.retries",
    ):
        with pytest.raises(RequestError, match=r"only keys of callbacks, .* can be removed") as error:
            without_shorthand([text])
        assert f"{text.strip('~').partition('=')[0]}=..." in str(error.value)
    for text in ("~callbacks.figures", "~optimizer.weight_decay", "~model.dropout=0.0"):
        assert without_shorthand([text]) == [text]


def test_choices_that_would_cover_each_other_are_refused() -> None:
    with pytest.raises(RequestError, match=r"-m augment=flip,crop"):  # crop has the flip of none
        without_shorthand(["augment=[flip,crop]"])
    with pytest.raises(RequestError, match="optimizer"):
        expand(["optimizer=[sgd,adam],adam"])
    for text in ("logger=[tensorboard,csv]", "callbacks=[default,early_stopping]", "optimizer=[adam]"):
        assert without_shorthand([text]) == [text]


@pytest.mark.parametrize("text", ["study=null", "sweep=null", "study=foo"])
def test_a_node_of_keys_takes_keys(text: str) -> None:
    with pytest.raises(RequestError, match="names no key"):
        without_shorthand([text])
