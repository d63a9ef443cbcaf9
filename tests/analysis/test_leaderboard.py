"""The order of the rows, what stands in them, and how they look in a terminal."""

from __future__ import annotations

import csv
import io
import math
import statistics

import pytest
from made_up import failed, make_record
from statsmodels.stats.proportion import proportion_confint

from cnnbench.analysis.leaderboard import build
from cnnbench.analysis.report.text import leaderboard_text, text_table
from cnnbench.analysis.report.write import leaderboard_csv, leaderboard_markdown, write_leaderboard
from cnnbench.analysis.runs import Run, collect
from cnnbench.analysis.statistics import places
from cnnbench.utils.errors import RequestError


def board_of(runs, **options):
    return build(collect([runs.root]), **options)


def test_rows_are_ordered_by_the_objective_in_its_direction(runs):
    runs.grid(
        lambda optimizer: {"sgd": 0.9, "adam": 0.95, "rmsprop": 0.8}[optimizer], optimizer=["sgd", "adam", "rmsprop"]
    )
    order = [row.configuration.label for row in board_of(runs).rows]
    assert order == ["optimizer=adam", "optimizer=sgd", "optimizer=rmsprop"]
    assert [row.configuration.label for row in board_of(runs, objective="val/loss").rows] == order
    for objective in ("val/recall", "test/accuracy", "test/loss"):
        assert [row.rank for row in board_of(runs, objective=objective).rows] == [1, 2, 3]
        assert [row.configuration.label for row in board_of(runs, objective=objective).rows] == order


def test_rows_that_differ_by_rounding_alone_are_ordered_by_name(runs):
    values = {"adam": [0.3, 0.3], "rmsprop": [0.1 + 0.2, 0.3], "sgd": [0.1 + 0.2] * 2}
    for optimizer, of in values.items():
        for seed, value in enumerate(of):
            one = {"best": {"val/accuracy": value}, "metrics": {"test/accuracy": value, "test/loss": value}}
            runs.add(make_record([f"optimizer={optimizer}", f"seed={seed}"], 0.5, **one))
    assert len({sum(of) / 2 for of in values.values()}) > 1
    for objective in ("val/accuracy", "test/accuracy", "test/loss"):
        rows = board_of(runs, objective=objective).rows
        assert [row.configuration.label for row in rows] == [f"optimizer={name}" for name in sorted(values)]


def test_places_are_shared_where_values_differ_by_rounding_alone():
    third = math.nextafter(1 / 3, 1)
    assert places([0.5, None, 1 / 3, third, 0.2, 0.5], True) == {0.5: 0, 1 / 3: 1, third: 1, 0.2: 2, None: 4}
    assert places([0.5, third, 1 / 3, 0.2], False) == {0.2: 0, 1 / 3: 1, third: 1, 0.5: 2, None: 4}
    assert places([1.0, 1 + 1e-9], True) == {1 + 1e-9: 0, 1.0: 1, None: 2} and places([], True) == {None: 0}


def test_a_cost_can_be_the_objective(runs):
    runs.add(make_record(["model=lenet", "seed=0"], 0.9, model={"parameters": 62006}))
    runs.add(make_record(["model=tiny_cnn", "seed=0"], 0.8))
    assert board_of(runs, objective="parameters").rows[0].configuration.label == "model=tiny_cnn"
    assert board_of(runs, objective="images_per_second").rows


def test_numbers_are_of_the_best_epoch_and_of_the_last(runs):
    records = [make_record([f"seed={seed}"], 0.9 + seed / 100) for seed in range(3)]
    for record in records:
        record["best"]["val/accuracy"] = 0.97
        record["best"]["epoch"] = 1
        runs.add(record)
    (row,) = board_of(runs).rows
    assert row.objective.mean == row.value("val/accuracy", Run.best).mean == 0.97 and row.objective.std == 0
    last = [record["metrics"]["val/accuracy"] for record in records]
    assert row.value("val/accuracy", Run.final).mean == pytest.approx(statistics.mean(last))
    assert row.value("val/accuracy", Run.final).std == pytest.approx(statistics.stdev(last))
    assert row.value("test/accuracy", Run.final).mean == pytest.approx(0.91)
    assert row.best_epoch == 2  # counted from 1
    assert row.cost("seconds_per_epoch") == 0.4  # the median: the first epoch warms up


def test_last_weights_stand_for_the_run_where_the_protocol_says_so(runs):
    record = make_record(["seed=0"], 0.9, protocol={"weights": "last"})
    record["best"]["val/accuracy"] = 0.99
    runs.add(record)
    assert board_of(runs).rows[0].objective.mean == record["metrics"]["val/accuracy"]


def test_the_runs_own_objective_is_the_default(runs):
    runs.add(make_record(["objective=val/loss", "seed=0"], 0.9))
    assert board_of(runs).objective == "val/loss"


def test_selecting_on_the_test_set_is_told(runs):
    runs.add(make_record(["seed=0"], 0.9))
    assert board_of(runs).notes == []
    assert any("chosen on the test set" in note for note in board_of(runs, objective="test/accuracy").notes)


def test_an_unknown_metric_names_the_nearest(runs):
    runs.add(make_record(["seed=0"], 0.9))
    with pytest.raises(RequestError, match=r"did you mean 'val/accuracy'"):
        board_of(runs, objective="val/acuracy")


def test_one_run_has_the_interval_of_its_images_and_says_so(runs):
    record = make_record(["seed=0"], 0.9)
    runs.add(record)
    images = record["data"]["val"]
    low, high = (100 * limit for limit in proportion_confint(round(0.9 * images), images, method="wilson"))
    for text in (leaderboard_markdown(board_of(runs)), leaderboard_text(board_of(runs))):
        assert f"{low:.2f} to {high:.2f}*" in text and "*: of one seed" in text
    for text in (leaderboard_markdown(board_of(runs, objective="val/loss")),):
        assert "none: n = 1" in text


def test_nan_and_missing_metrics_stand_last(runs):
    runs.add(make_record(["optimizer=sgd", "seed=0"], 0.5))
    runs.add(
        make_record(
            ["optimizer=adam", "seed=0"], 0.9, best={"val/accuracy": None}, metrics={"val/accuracy": float("nan")}
        )
    )
    board = board_of(runs)
    assert [row.configuration.label for row in board.rows] == ["optimizer=sgd", "optimizer=adam"]
    assert leaderboard_markdown(board).count("–") > 0  # noqa: RUF001 the table's dash


def test_the_terminal_table_fits_and_tells_what_failed(runs):
    runs.grid(lambda **_: 0.9, model__filters=["[16,4]", "[32,8]"], model__norm=["none", "batch"],
              model__activation=["relu", "leaky_relu"], model__dropout=[0.0, 0.3], scheduler=["cosine", "exp"])  # fmt: skip
    runs.add(failed(["optimizer=sgd", "seed=0"], "CUDA out of memory\nat line 3 " + "x" * 400))
    runs.unfinished(["optimizer=sgd", "seed=1"])
    text = leaderboard_text(board_of(runs))
    assert max(map(len, text.splitlines())) <= 100
    assert "failed: " in text and "RuntimeError: CUDA out of memory at line 3" in text
    assert "unfinished: " in text
    assert text.index(" 1  ") < text.index(" 2  ")


def test_a_long_name_gives_way(runs):
    for name in ("a" * 200, "b" * 200):
        runs.add(make_record([f"model.activation={name}", "seed=0"], 0.9), name[:5])
    assert max(map(len, leaderboard_text(board_of(runs)).splitlines())) <= 100


def test_only_failures_still_make_a_leaderboard(runs, tmp_path):
    runs.add(failed(["seed=0"]))
    board = board_of(runs)
    text = leaderboard_text(board)
    assert board.rows == [] and "failed" in text and "Ordered by" not in text
    paths = write_leaderboard(board, tmp_path / "out")
    assert [path.name for path in paths] == ["leaderboard.csv", "leaderboard.md"]
    assert "out of memory" in paths[1].read_text()


def test_the_csv_has_every_number_in_full(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"])
    board = board_of(runs)
    lines = list(csv.DictReader(io.StringIO(leaderboard_csv(board))))
    for line, row in zip(lines, board.rows, strict=True):
        assert line["optimizer"] == row.configuration.values["optimizer"]
        assert float(line["test/accuracy mean"]) == row.value("test/accuracy", Run.final).mean
        assert float(line["val/accuracy best low"]) == row.value("val/accuracy", Run.best).low
        assert int(line["n"]) == 3 and float(line["parameters"]) == 2710


def test_markdown_cells_hold_whatever_they_are_given(runs):
    for value in ("a|b", "<script>x</script>", "two\nlines"):
        runs.add(make_record([f"model.activation={value}", "seed=0"], 0.9), "run")
    text = leaderboard_markdown(board_of(runs))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 5  # head, rule, three
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "<script" not in text


def test_markdown_names_what_all_share_on_one_line_of_code(runs):
    path = "/x`<script>x</script>\n# y"
    runs.add({**make_record(["seed=0"], 0.9, config={"data": {"path": path}}), "overrides": ["data.path=x"]}, "run")
    assert "`data.path=/x'<script>x</script> # y`." in leaderboard_markdown(board_of(runs))


def test_the_interval_of_a_share_stays_within_what_a_share_can_be(runs):
    for seed, value in enumerate((0.7, 0.99)):
        runs.add(make_record([f"seed={seed}"], value))
    board = board_of(runs)
    (row,) = board.rows
    assert row.objective.high > 1  # Student's t knows no bound; the CSV has what it says
    assert "0.00 to 100.00" in leaderboard_markdown(board)
    assert f"{row.objective.high:.6g}"[:6] in leaderboard_csv(board)


def test_numbers_of_a_factor_are_written_in_full(runs):
    for rate in (0.0012345678, 0.0012345679):
        runs.add(make_record([f"optimizer.lr={rate}", "seed=0"], 0.9), f"run{rate}")
    lines = list(csv.DictReader(io.StringIO(leaderboard_csv(build(collect([runs.root]))))))
    assert {float(line["optimizer.lr"]) for line in lines} == {0.0012345678, 0.0012345679}


def test_a_text_table_is_aligned():
    text = text_table(["name", "n"], [["a", "10"], ["long name", "2"]], [False, True])
    assert text.splitlines() == ["name        n", "-" * 13, "a          10", "long name   2"]
