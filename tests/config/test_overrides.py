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
