"""The analysis of variance against statsmodels, and the sentences made from it."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_up import make_record
from scipy.stats import f_oneway
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from cnnbench.analysis.anova import fit_anova
from cnnbench.analysis.effects import find_effects
from cnnbench.analysis.grouping import group
from cnnbench.analysis.runs import collect
from cnnbench.analysis.statistics import holm

LEVELS = {"a": ["x", "y"], "b": ["p", "q", "r"], "c": ["u", "v"]}


def grid(seeds=3, drop=0.0, seed=0, effect=lambda a, b, c: 0.0):
    """Rows and values of a full grid; ``drop`` is the share of the runs that failed."""
    random = np.random.default_rng(seed)
    rows, y = [], []
    for a in LEVELS["a"]:
        for b in LEVELS["b"]:
            for c in LEVELS["c"]:
                for _ in range(seeds):
                    if random.random() >= drop:
                        rows.append({"a": a, "b": b, "c": c})
                        y.append(effect(a, b, c) + random.normal(0, 1))
    return rows, y


@pytest.mark.parametrize("drop", [0.0, 0.25], ids=["balanced", "unbalanced"])
def test_the_table_is_statsmodels(drop):
    rows, y = grid(seeds=5, drop=drop, effect=lambda a, b, c: (a == "y") + 2 * (b == "r") + (b == "q") * (c == "v"))
    found = fit_anova(LEVELS, pd.DataFrame(rows), y)
    right = anova_lm(ols("y ~ (C(a) + C(b) + C(c)) ** 2", pd.DataFrame(rows).assign(y=y)).fit(), typ=2)
    for line in found.rows:
        expected = right.loc[":".join(f"C({factor})" for factor in line.term)]
        assert line.df == expected["df"]
        assert [line.sum_of_squares, line.f, line.p_raw] == pytest.approx(list(expected[["sum_sq", "F", "PR(>F)"]]))
    assert found.full.residual == pytest.approx(right.loc["Residual", "sum_sq"])
    assert found.full.df == right.loc["Residual", "df"]
    assert [line.p for line in found.rows] == holm([line.p_raw for line in found.rows])


def test_a_missing_cell_costs_a_degree_of_freedom_and_nothing_else():
    rows, y = grid(seeds=4, effect=lambda a, b, c: 3.0 * (a == "y"))
    kept = [(row, value) for row, value in zip(rows, y, strict=True) if (row["a"], row["b"]) != ("y", "r")]
    found = fit_anova(LEVELS, pd.DataFrame([row for row, _ in kept]), [value for _, value in kept])
    lines = {line.term: line for line in found.rows}
    assert lines["a", "b"].df == 1  # 2 without the missing cell
    assert lines[("a",)].p is not None and lines[("a",)].p < 0.001
    # the model of this many cells by hand: the same residual
    frame = pd.DataFrame([row for row, _ in kept]).assign(y=[value for _, value in kept])
    frame["ab"] = frame["a"] + frame["b"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the deficient rank that is meant
        by_hand = ols("y ~ C(ab) + C(c) + C(a):C(c) + C(b):C(c)", frame).fit()
    assert found.full.residual == pytest.approx(by_hand.ssr)
    assert found.full.df == by_hand.df_resid


def test_under_no_effect_a_significant_term_is_rare():
    random = np.random.default_rng(1)
    rows = [{"a": a, "b": b} for a in "xy" for b in "pq" for _ in range(3)]
    tables = [
        fit_anova({"a": ["x", "y"], "b": ["p", "q"]}, pd.DataFrame(rows), random.normal(size=12)) for _ in range(400)
    ]
    wrong = sum(any(line.p < 0.05 for line in table.rows) for table in tables)
    assert wrong <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5


def test_one_run_a_cell_has_no_interactions_to_tell():
    rows = [{"a": a, "b": b} for a in "xy" for b in "pqr"]
    found = fit_anova({"a": ["x", "y"], "b": ["p", "q", "r"]}, pd.DataFrame(rows), [1.0, 2.0, 3.0, 2.1, 2.9, 4.2])
    assert found.full is found.additive and found.full.df == 2
    right = anova_lm(ols("y ~ C(a) + C(b)", pd.DataFrame(rows).assign(y=[1.0, 2.0, 3.0, 2.1, 2.9, 4.2])).fit(), typ=2)
    assert [line.p_raw for line in found.rows] == pytest.approx(list(right["PR(>F)"].dropna()))


def test_equal_values_give_no_p_value():
    rows, _ = grid(seeds=2)
    found = fit_anova(LEVELS, pd.DataFrame(rows), [0.5] * len(rows))
    assert found.full.variance is None
    assert all(line.p is None and line.sum_of_squares == pytest.approx(0) for line in found.rows)


def effects_of(runs, metric="test/accuracy", reference=None):
    board = group(collect([runs.root]))
    return find_effects(board.configurations, board.factors, metric, board.find(reference) if reference else None)


def test_known_effects_are_found_with_their_size(runs):
    def effect(model__norm, model__dropout):
        return (
            0.90 + 0.031 * (model__norm == "batch") + (0.01 if model__norm == "none" else -0.004) * (model__dropout > 0)
        )

    runs.grid(effect, seeds=5, noise=0.001, model__norm=["none", "batch"], model__dropout=[0.0, 0.5])
    found = effects_of(runs)
    assert found is not None
    norm, dropout = found.mains
    assert (norm.factor, norm.before, norm.after) == ("model.norm", "none", "batch")
    assert norm.value == pytest.approx(0.024, abs=0.002)  # 3.1 and 1.7 points, averaged over dropout
    assert norm.low < norm.value < norm.high
    assert found.sentence(norm).startswith("norm=batch instead of norm=none raises test accuracy by 2.")
    assert "which is better" in found.sentence(norm)
    assert (dropout.before, dropout.after) == ("0", "0.5")
    (joint,) = found.interactions
    assert joint.factor == "model.dropout" and joint.other == "model.norm"
    assert joint.effects["none"] == pytest.approx(0.010, abs=0.002)
    assert joint.effects["batch"] == pytest.approx(-0.004, abs=0.002)
    assert found.sentence(joint).startswith("The effect of dropout depends on norm: dropout=0 to 0.5 is +")


def test_of_a_loss_less_is_better(runs):
    runs.grid(lambda model__norm: 0.9 + 0.02 * (model__norm == "batch"), model__norm=["none", "batch"])
    found = effects_of(runs, "test/loss")
    assert "lowers test loss" in found.sentence(found.mains[0]) and "which is better" in found.sentence(found.mains[0])


def test_an_interval_of_two_levels_is_students(runs):
    runs.grid(lambda model__norm: 0.9 + 0.02 * (model__norm == "batch"), seeds=4, model__norm=["none", "batch"])
    board = group(collect([runs.root]))
    effect = find_effects(board.configurations, board.factors, "test/accuracy").mains[0]
    from scipy import stats

    none, batch = (
        [run.value("test/accuracy") for run in c.runs] for c in (board.find("norm=none"), board.find("norm=batch"))
    )
    right = stats.ttest_ind(batch, none).confidence_interval()
    assert [effect.low, effect.high] == pytest.approx([right.low, right.high])


def test_nothing_to_tell_says_so(runs):
    runs.grid(lambda **_: 0.9, noise=0.01, model__norm=["none", "batch"], model__dropout=[0.0, 0.5])
    found = effects_of(runs)
    assert all("no effect shown" in found.sentence(effect) for effect in found.mains)
    assert all("no interaction shown" in found.sentence(item) for item in found.interactions)


def test_the_baselines_levels_stand_first(runs):
    runs.grid(lambda model__norm: 0.9, model__norm=["none", "batch"])
    assert effects_of(runs, reference="norm=batch").levels["model.norm"] == ["batch", "none"]


def test_numbers_stand_in_order_on_both_sides_of_zero(runs):
    runs.grid(lambda data__mean: 0.9, data__mean=[0, 1, -1, "null"])
    assert effects_of(runs).levels["data.mean"] == ["null", "-1", "0", "1"]


def test_a_setting_of_one_choice_alone_becomes_part_of_the_choice(runs):
    runs.grid(lambda optimizer: 0.9, optimizer=["adam"])
    runs.grid(lambda optimizer, optimizer__lr: 0.8 + optimizer__lr, optimizer=["sgd"], optimizer__lr=[0.01, 0.1])
    found = effects_of(runs)
    assert list(found.levels) == ["optimizer"]
    assert set(found.levels["optimizer"]) == {"adam", "sgd lr=0.01", "sgd lr=0.1"}


def test_a_partly_failed_crossing_keeps_both_factors(runs):
    runs.grid(lambda **_: 0.9, optimizer=["adam", "sgd"], optimizer__lr=[0.01])
    runs.grid(lambda **_: 0.9, optimizer=["sgd"], optimizer__lr=[0.1])
    assert set(effects_of(runs).levels) == {"optimizer", "optimizer.lr"}


def test_hostile_names_are_only_names(runs):
    values = ["C(x) + 1", "a:b", "`q`", "__import__"]
    runs.grid(lambda **_: 0.9, model__activation=values, model__norm=["Q('z')", "none"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = effects_of(runs)
    assert set(found.levels["model.activation"]) == set(values)


def test_too_few_runs_are_told(runs):
    runs.grid(lambda **_: 0.9, seeds=1, model__norm=["none", "batch"], model__dropout=[0.0, 0.5])
    assert any("Too few runs to tell interactions" in note for note in effects_of(runs).notes)


def test_runs_of_one_training_are_one_observation(runs):
    """Six trainings, each evaluated in two ways, once counted as twelve, and a third of equal rates as different."""
    random, values = np.random.default_rng(0), {}
    for warmup, seed in product((0.1, 0.2), range(3)):
        values[warmup, seed] = accuracy = 0.8 + random.normal(0, 0.01)
        for views, gain in (("none", 0.0), ("flip", 0.003)):
            overrides = [f"scheduler.warmup={warmup}", f"test_time_augmentation={views}", f"seed={seed}"]
            losses = [2.0, 1.0 + accuracy, accuracy]
            runs.add(make_record(overrides, accuracy + gain, history={"train/loss": losses}))
    found = effects_of(runs)
    assert list(found.levels) == ["scheduler.warmup"]
    groups = [[value for (rate, _), value in values.items() if rate == one] for one in (0.1, 0.2)]
    assert found.mains[0].anova.p_raw == pytest.approx(f_oneway(*groups).pvalue)
    assert any("test_time_augmentation changes the evaluation and not the training" in note for note in found.notes)
    (told,) = found.cautions  # the same gain in each: no spread, so that p is that of the 2^6 ways of their signs
    assert (
        told.startswith("test_time_augmentation=flip instead of test_time_augmentation=none") and "+0.30 points" in told
    )
    assert "6 trainings" in told and "corrected p = 0.031" in told


def averaged(runs, settings, gain=0.0):
    """Runs of two rates and three seeds, each evaluated with all of these settings, which are lists of overrides."""
    random = np.random.default_rng(1)
    for warmup, seed in product((0.1, 0.2), range(3)):
        accuracy = 0.8 + random.normal(0, 0.01)
        for overrides in settings:
            named = [f"scheduler.warmup={warmup}", *overrides, f"seed={seed}"]
            runs.add(make_record(named, accuracy + gain * len(overrides), history={"train/loss": [2.0, accuracy]}))


def test_a_choice_and_its_keys_that_change_no_training_are_left_out_together(runs):
    averaged(runs, [[], ["average=ema"], ["average=ema", "average.decay=0.9"]], gain=0.001)
    found = effects_of(runs)
    assert list(found.levels) == ["scheduler.warmup"] and found.table.full.df == 4  # of six trainings


def test_each_key_of_a_choice_is_compared_with_the_choice_that_means_off(runs):
    """Decays that add and take a point were once one level, which did nothing."""
    random = np.random.default_rng(2)
    for warmup, seed in product((0.1, 0.2), range(3)):
        accuracy = 0.8 + random.normal(0, 0.01)
        for own, gain in (([], 0), (["average.decay=0.9"], 0.01), (["average.decay=0.99"], -0.01)):
            named = [f"scheduler.warmup={warmup}", *(["average=ema", *own] if own else []), f"seed={seed}"]
            noise = random.normal(0, 0.001)
            runs.add(make_record(named, accuracy + gain + noise, history={"train/loss": [2.0, accuracy]}))
    up, down = effects_of(runs).cautions
    assert up.startswith("average=ema decay=0.9 instead of average=none in evaluating the same 6 trainings: +")
    assert down.startswith("average=ema decay=0.99 instead of average=none in evaluating the same 6 trainings: -")


@pytest.mark.parametrize("left_out", [None, ("none", "none", 2)])
def test_trainings_that_were_evaluated_in_a_star_are_one_observation_each_or_it_is_said(runs, left_out):
    random = np.random.default_rng(3)
    for warmup, seed in product((0.1, 0.2), range(3)):
        accuracy = 0.8 + random.normal(0, 0.01)
        for views, average in (("none", "none"), ("flip", "none"), ("none", "ema")):
            if (views, average, seed) != left_out or warmup == 0.1:
                named = [f"scheduler.warmup={warmup}", f"test_time_augmentation={views}", f"average={average}"]
                noise = random.normal(0, 0.001)
                runs.add(
                    make_record([*named, f"seed={seed}"], accuracy + noise, history={"train/loss": [2.0, accuracy]})
                )
    found = effects_of(runs)
    if left_out is None:
        assert list(found.levels) == ["scheduler.warmup"] and found.table.full.df == 4
    else:
        assert any("p-values are too small" in note for note in found.notes)


def test_what_only_some_trainings_were_evaluated_with_is_no_effect_of_theirs(runs):
    """A mean over both views beside one of the better view alone once made the optimizer look worse."""
    for optimizer, views in (("sgd", ("none", "flip")), ("adam", ("flip",))):
        for view, seed in product(views, range(3)):
            overrides = [f"optimizer={optimizer}", f"test_time_augmentation={view}", f"seed={seed}"]
            losses = [2.0, 0.5 + seed / 100 + (optimizer == "sgd")]
            runs.add(make_record(overrides, 0.8 + seed / 100 + 0.05 * (view == "flip"), history={"train/loss": losses}))
    by_factor = {effect.factor: effect.value for effect in effects_of(runs).mains}
    assert by_factor["optimizer"] == pytest.approx(0.0, abs=1e-9)


def test_interactions_that_are_not_looked_for_lack_no_runs(runs):
    """What runs of several versions of the code differ in is no factor that others are crossed with."""
    for seed, norm, version in product(range(3), ("none", "batch"), ("0123456789abcdef", "fedcba9876543210")):
        runs.add(
            make_record(
                [f"seed={seed}", f"model.norm={norm}"],
                0.8 + seed / 100,
                environment={"git": version},
            )
        )
    found = effects_of(runs)
    assert set(found.levels) == {"code", "model.norm"} and not found.interactions
    assert not any("Too few runs" in note for note in found.notes)


@pytest.mark.parametrize("value", [1.0, 0.1, 97.3])
def test_where_nothing_varies_nothing_is_explained(value):
    """Six runs at 100 % once gave a partial eta squared of 0.875: the ratio of two rounding errors."""
    rows = pd.DataFrame([{"a": a, "b": b} for a in "xy" for b in "pqr"])
    found = fit_anova({"a": ["x", "y"], "b": ["p", "q", "r"]}, rows, [value] * 6)
    assert [(row.sum_of_squares, row.partial_eta_squared, row.p) for row in found.rows] == [(0.0, None, None)] * 2
    assert found.full.residual == 0.0 and found.full.variance is None
    assert found.full.estimate(found.full.point({"a": "y"}) - found.full.point({"a": "x"})) == 0.0
    assert found.full.estimate(found.full.point({"a": "y"})) == value


def test_without_noise_an_effect_explains_everything_and_an_interaction_that_is_not_there_nothing():
    rows, _ = grid(seeds=2)
    found = fit_anova(
        LEVELS, pd.DataFrame(rows), [0.9 + 0.03 * (row["a"] == "y") + 0.01 * (row["b"] == "q") for row in rows]
    )
    shares = {row.term: row.partial_eta_squared for row in found.rows}
    assert shares[("a",)] == shares[("b",)] == 1.0
    assert {shares[term] for term in shares if term not in (("a",), ("b",))} == {None}
    assert found.full.variance is None
