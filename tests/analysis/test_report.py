"""The report: every format with the same numbers, one file without a request, everything escaped."""

from __future__ import annotations

import csv
import html.parser
import io
import itertools
import json
import re
import time

import pytest
from made_up import Folders, failed, make_record

from cnnbench.analysis.analyse import analyse
from cnnbench.analysis.grouping import group
from cnnbench.analysis.report import write as report
from cnnbench.analysis.report.figures.charts import pareto_front
from cnnbench.analysis.report.figures.curves import Curve, band, fit_text, over_epochs
from cnnbench.analysis.runs import Run, collect
from cnnbench.cli.report import main as report_command
from cnnbench.utils.errors import RequestError

EVIL = '<script>alert("x")</script><img src=http://evil.example/x.png>&\'$x^2$'
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Tags in order, ids, what is linked, and the text; complains about a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.words, self.open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [
            value for key, value in attrs if key in ("href", "src", "xlink:href", "action", "data") and value
        ]
        assert not any(key.startswith("on") for key in values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def made(runs, **options):
    paths = report.build([runs.root], **options).write(runs.root)
    return paths[0].read_text(encoding="utf-8")


def optimizers(runs, **options):
    runs.grid(lambda optimizer: 0.90 + 0.05 * (optimizer == "adam"), optimizer=["sgd", "adam", "rmsprop"], **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    runs = Folders(tmp_path_factory.mktemp("small"))
    optimizers(runs, seeds=2)
    return runs.root


def test_the_page_is_whole_and_asks_nothing_of_the_network(runs):
    runs.grid(lambda optimizer, model__norm: 0.9 + 0.03 * (optimizer == "adam") + 0.02 * (model__norm == "batch"),
              optimizer=["sgd", "adam"], model__norm=["none", "batch"])  # fmt: skip
    runs.add(failed(["optimizer=adam", "model.norm=batch", "seed=7"]))
    text = made(runs, baseline="optimizer=sgd norm=none")
    page = Page(text)
    assert [link for link in page.links if not link.startswith(("#", "data:image/png"))] == []
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    words = " ".join(page.words)
    for told in ("Against the baseline", "What each factor does", "Curves", "Classes", "Confusion matrix", "Not completed",
                 "out of memory", "cnnbench -m", "cnnbench report", "torch"):  # fmt: skip
        assert told in words, told
    assert page.tags.count("svg") > 15


@pytest.mark.usefixtures("without_pictures")
def test_what_was_written_is_told(runs, tmp_path):
    optimizers(runs)
    paths = report.build([runs.root]).write(tmp_path / "out")
    assert [path.name for path in paths] == ["report.html", "leaderboard.csv", "leaderboard.md"]
    assert all(path.parent == tmp_path / "out" for path in paths)


def test_names_from_outside_are_escaped_everywhere(runs):
    for seed in range(2):
        for value in (EVIL, "relu"):
            record = make_record([f"model.activation={value}", f"seed={seed}"], 0.9, classes=[EVIL, "b", "c", "d"])
            record["environment"]["cpu"] = EVIL
            runs.add(record, f"run{len(value)}_{seed}")
    runs.add(failed([f"model.activation={EVIL}", "seed=5"], EVIL), "failed")
    text = made(runs)
    page = Page(text)
    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert "http://evil" in " ".join(page.words)  # shown, as text
    for fmt in ("md", "json", "csv", "latex"):
        made(runs, fmt=fmt)
    assert "<script" not in made(runs, fmt="md")


def numbers(text):
    return re.findall(r"[+-]?\d+\.\d+", text)


@pytest.mark.usefixtures("without_pictures")
def test_every_format_has_the_same_numbers(runs):
    optimizers(runs, seeds=4)
    analysis = analyse(collect([runs.root]), baseline="optimizer=sgd")
    board, c = analysis.board, analysis.comparisons[0]
    told = json.loads(made(runs, baseline="optimizer=sgd", fmt="json"))
    lines = list(csv.DictReader(io.StringIO(made(runs, baseline="optimizer=sgd", fmt="csv"))))
    page, markdown, latex = (made(runs, baseline="optimizer=sgd", fmt=fmt) for fmt in ("html", "md", "latex"))
    for row, entry, line in zip(board.rows, told["leaderboard"], lines, strict=True):
        found = analysis.comparison(row.configuration)
        for key, value in (
            ("val/accuracy best mean", row.objective.mean),
            ("test/accuracy high", row.value("test/accuracy", Run.final).high),
        ):
            assert entry[key] == float(line[key]) == value
        assert entry["p Holm"] == (found.p if found else None)
        assert line["p Holm"] == ("" if found is None else repr(found.p))
        mean = f"{100 * row.objective.mean:.2f}"
        for text in (page, markdown, latex):
            assert mean in numbers(text)
    for text in (page, markdown, latex):
        assert f"{100 * c.difference.value:+.2f}" in numbers(text)
        assert f"{100 * c.difference.low:+.2f} to {100 * c.difference.high:+.2f}" in text
    assert told["answer"] == list(analysis.answer)
    assert all(line.sum_of_squares == pytest.approx(entry["sum_of_squares"])
               for line, entry in zip(analysis.effects.table.rows, told["anova"], strict=True))  # fmt: skip


def test_words_and_reference_are_those_asked_for(runs):
    optimizers(runs, seeds=6, noise=0.001)
    analysis = analyse(collect([runs.root]), baseline="optimizer=sgd")
    words = {c.configuration.label: c.verdict for c in analysis.comparisons}
    assert words == {"optimizer=adam": "better", "optimizer=rmsprop": "no difference shown"}
    assert analyse(collect([runs.root]), baseline="optimizer=adam").comparisons[0].verdict == "worse"
    decided = analyse(collect([runs.root]), baseline="optimizer=sgd", practical=0.5)  # points
    words = {c.configuration.label: c.verdict for c in decided.comparisons}
    assert words == {"optimizer=adam": "better", "optimizer=rmsprop": "practically the same"}
    assert decided.comparisons[0].size == 0.005 and "1 practically the same, 0 undecided" in " ".join(decided.answer)
    assert analyse(collect([runs.root]), practical=0.001).comparisons[-1].verdict in ("worse", "undecided")
    loss = analyse(collect([runs.root]), baseline="optimizer=sgd", objective="val/loss")
    assert loss.metric == "test/loss" and loss.comparisons[0].verdict == "better"
    free = analyse(collect([runs.root]))
    assert not free.baseline_given and free.reference.label == "optimizer=adam"


def test_evidence_is_from_the_test_set_and_selection_from_validation(runs):
    optimizers(runs)
    analysis = analyse(collect([runs.root]))
    assert (analysis.board.objective, analysis.metric) == ("val/accuracy", "test/accuracy")
    assert analyse(collect([runs.root]), metric="val/recall").metric == "val/recall"


@pytest.mark.usefixtures("without_pictures")
def test_selection_on_the_test_set_stands_on_top(runs):
    runs.grid(lambda **_: 0.9, optimizer=["sgd", "adam"], data__validation=["test"])
    text = made(runs)
    assert text.index("Validation was on the test set") < text.index('id="answer"')
    assert "the test value is not" not in text
    assert "Validation was on the test set" in made(runs, fmt="md")


def test_the_report_of_failures_alone(runs):
    runs.add(failed(["seed=0"]))
    runs.add(failed(["seed=0", "optimizer=sgd"]))
    runs.unfinished(["seed=1"])
    text = made(runs)
    Page(text)
    assert "No run has completed" in text
    for fmt in ("json", "csv", "md", "latex"):
        made(runs, fmt=fmt)


def test_the_curve_of_one_epoch_does_not_fall(runs):
    runs.add(make_record(["trainer.max_epochs=1", "seed=0"], 0.9))
    text = fit_text(group(collect([runs.root])).configurations[0])
    assert text == ""  # nothing can be said of a course


def test_train_accuracy_is_above_or_below_validation_accuracy(runs):
    for seed, train in enumerate((0.95, 0.85)):
        record = make_record(["trainer.max_epochs=2", f"seed={seed}"], 0.9)
        record["history"] |= {"train/accuracy": [0.5, train], "val/accuracy": [0.6, 0.9]}
        folders = Folders(runs.root / str(seed))
        folders.add(record)
        text = fit_text(group(collect([folders.root])).configurations[0])
        assert f"train accuracy ends 5.0 points {('above', 'below')[seed]} validation accuracy" in text


def test_runs_that_ended_early_have_their_own_ends(runs):
    """The gap at the last epoch was once that of the one run that got so far."""
    for seed, (epochs, gap) in enumerate(((2, 0.1), (3, 0.05), (4, 0.0))):
        record = make_record([f"seed={seed}"], 0.9)
        curves = {"val/loss": [1.0 - 0.1 * e for e in range(epochs)], "train/accuracy": [0.8 + gap] * epochs}
        record["history"] = {"epoch": list(range(epochs)), "val/accuracy": [0.8] * epochs, **curves}
        runs.add(record)
    text = fit_text(group(collect([runs.root])).configurations[0])
    assert text.startswith("The runs ended after 2 to 4 epochs") and "lowest" not in text and "falling" not in text
    assert "train accuracy ends 5.0 points above validation accuracy" in text


def test_curves_of_a_study_differ_in_more_than_colour_and_their_ticks_do_not_touch(runs):
    for rate, loss in (("0.1", 1e5), ("0.01", 2.0), ("0.001", 0.02)):
        record = make_record([f"optimizer.lr={rate}", "seed=0"], 0.9)
        record["history"]["train/loss"] = [loss, *record["history"]["train/loss"][1:-1], 0.02]
        runs.add(record)
    rows = {c.short: c for c in group(collect([runs.root])).configurations}
    figure = over_epochs(rows, ["train/loss", "val/accuracy"])
    axes = figure.axes[0]
    assert [line.is_dashed() for line in axes.lines] == [False, True, True]
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    ticks = sorted(axes.transData.transform([(0, tick) for tick in axes.get_yticks() if low <= tick <= high])[:, 1])
    font = axes.yaxis.get_ticklabels()[0].get_fontsize() * figure.dpi / 72  # pixels
    assert len(ticks) > 3 and min(b - a for a, b in itertools.pairwise(ticks)) > font


def test_a_run_that_was_interrupted_says_by_what_alone(runs):
    runs.add(
        make_record(["seed=0"], 0.9, status="interrupted", error={"type": "Stopped", "message": "stopped by SIGINT"})
    )
    assert collect([runs.root])[0].reason == "stopped by SIGINT"


def test_the_report_of_one_run(runs):
    runs.add(make_record(["seed=0"], 0.9))
    text = made(runs)
    Page(text)
    assert "has one seed only" in text


def test_records_without_history_matrices_or_costs(runs):
    for seed in range(2):
        for optimizer in ("sgd", "adam"):
            record = make_record([f"optimizer={optimizer}", f"seed={seed}"], 0.9)
            for key in ("history", "per_class", "confusion_matrix", "model", "time", "environment", "data", "protocol"):
                record[key] = None
            runs.add(record)
    Page(made(runs))


def heat_maps(text):
    """The texts of the cells of each matrix in a page, by its caption."""
    tables = re.findall(r'<table class="heat[^>]*><caption>(.*?)</caption>(.*?)</table>', text, flags=re.DOTALL)
    return {caption: re.findall(r"<td[^>]*>(.*?)</td>", body.split("<tbody>")[1]) for caption, body in tables}


@pytest.mark.usefixtures("without_pictures")
def test_matrices_show_their_numbers(runs):
    for optimizer, accuracy in (("adam", 0.9), ("sgd", 0.0)):
        runs.add(make_record([f"optimizer={optimizer}", "seed=0"], accuracy, images=50))
    maps = heat_maps(made(runs))
    assert maps["share of the true class, %"][:4] == ["90", "10", "", ""] and maps["counts"][:4] == ["45", "5", "", ""]
    assert maps["difference, points"][:4] == ["+90.0", "-90.0", "", ""]
    assert maps["recall, %: the stronger the colour, the more is missed"] == ["90"] * 4 + ["0"] * 4


@pytest.mark.usefixtures("without_pictures")
def test_a_hundred_classes(runs):
    for seed in range(2):
        runs.add(make_record([f"seed={seed}"], 0.5, classes=[f"class {i}" for i in range(100)]))
    text = made(runs)
    cells = heat_maps(text)["share of the true class, %"]
    assert "class 0" in text and len(cells) == 100 * 100 and not any(cells)


def test_different_class_counts_side_by_side(runs):
    runs.add(make_record(["data=digits", "seed=0"], 0.9))
    runs.add(make_record(["data=mnist", "seed=0"], 0.9, classes=list("abcdef")))
    Page(made(runs))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--baseline", "optimizer=sdg"], "did you mean 'optimizer=sgd'"),
        (["--baseline", "scheduler=cosine"], "what varies here is optimizer"),
        (["--objective", "val/acc"], "did you mean 'val/accuracy'"),
        (["--metric", "test/f1"], "metric='test/f1' is in none of the finished runs"),
        (["--size", "0"], "--size must be a number above 0, got 0"),
        (["--size", "2"], "--size 2: test/accuracy is a share here, of which 0.01 is one point; did you mean 0.02?"),
        (["--size", "nan"], "--size must be a number above 0, got nan"),
        (["--format", "pdf"], "format='pdf' is not one of"),
        (["--run", "nothing"], "is no finished run's folder"),
        (["--ignore", "seed"], "does not vary"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--size", "big"], "invalid float value"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(small, arguments, told):
    with pytest.raises(RequestError) as error:
        report_command([str(small), *arguments])
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.usefixtures("without_pictures")
def test_the_command_line(runs, capsys, tmp_path):
    optimizers(runs)
    assert report_command([str(runs.root), "--baseline", "optimizer=sgd", "--out", str(tmp_path / "o")]) == 0
    shown = capsys.readouterr().out
    assert "report.html" in shown and "optimizer" in shown and "\n- Best of 3: optimizer=" in shown
    text = (tmp_path / "o" / "report.html").read_text()
    assert "--baseline optimizer=sgd" in text
    assert report_command([str(runs.root), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["factors"] == ["optimizer"]
    with pytest.raises(RequestError, match="not there"):
        report_command([str(tmp_path / "missing")])
    with pytest.raises(RequestError, match="DIR"):
        report_command([])


@pytest.mark.usefixtures("without_pictures")
def test_each_record_is_read_once(runs, monkeypatch, capsys):
    from cnnbench.analysis.runs import read_record

    optimizers(runs)
    read = []
    monkeypatch.setattr("cnnbench.analysis.runs.read_record", lambda path: read.append(path) or read_record(path))
    assert report_command([str(runs.root)]) == 0
    assert len(read) == len(set(read)) == 9
    assert "adam" in capsys.readouterr().out


def test_the_run_and_the_one_to_hold_against_it_can_be_chosen(runs):
    optimizers(runs)
    analysis = analyse(collect([runs.root]), run="optimizer=sgd,seed=1", versus="optimizer=rmsprop,seed=2")
    assert (analysis.run.path.name, analysis.versus.path.name) == ("optimizer=sgd,seed=1", "optimizer=rmsprop,seed=2")


def test_pareto_front():
    points = [(1, 0.5), (2, 0.7), (2, 0.6), (3, 0.7), (4, 0.9), (None, 1.0), (0.5, None)]
    assert pareto_front(points, higher=True) == [0, 1, 4]
    assert pareto_front([(1, 0.5), (2, 0.4), (3, 0.45)], higher=False) == [0, 1]
    assert pareto_front([], higher=True) == []


def test_two_hundred_runs_take_seconds(runs):
    runs.grid(lambda **_: 0.9, seeds=5, noise=0.01, optimizer=["sgd", "adam"], model__norm=["none", "batch"],
              model__dropout=[0.0, 0.1, 0.2, 0.3, 0.5], scheduler=["cosine", "exp"])  # fmt: skip
    start = time.perf_counter()
    paths = report.build([runs.root]).write(runs.root)
    took = time.perf_counter() - start
    print(f"\n200 runs, 40 configurations: report in {took:.1f} s, {paths[0].stat().st_size / 1e6:.1f} MB")
    assert "The first 24 of 40" in paths[0].read_text()


def test_the_band_of_a_share_stays_within_what_a_share_can_be():
    low, high = band(Curve([1, 2], [0.5, 0.9], [0.6, 0.2]), "val/accuracy")
    assert low == pytest.approx([0, 70]) and high == pytest.approx([100, 100])
    assert band(Curve([1], [0.5], [0.6]), "val/loss")[0] == pytest.approx([-0.1])


def test_a_report_that_cannot_be_written_names_another_way(runs, monkeypatch):
    runs.add(make_record(["seed=0"], 0.9))

    def refused(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("cnnbench.analysis.report.write.write_atomically", refused)
    with pytest.raises(RequestError, match=r"report\.html cannot be written \(Permission denied\); --out DIR writes"):
        report_command([str(runs.root)])


@pytest.mark.usefixtures("without_pictures")
def test_rare_classes_have_intervals_and_accuracy_does_not_hide_them(runs):
    counts = [[0, 1, 0, 0], [2, 95, 2, 1], [0, 3, 97, 0], [3, 6, 1, 2]]  # classes of 1, 100, 100 and 12 images
    runs.add({**make_record(["seed=0"], 0.9), "confusion_matrix": {"test": counts}})
    page = Page(made(runs))
    words = " ".join(" ".join(page.words).split())
    assert "imbalance" in page.ids and "100 times the images of the smallest" in words
    assert "91.08 %, and balanced accuracy, which is the mean recall over classes, 52.17 %" in words
    # Wilson's interval of 2 of 12, as statsmodels' proportion_confint(2, 12, method="wilson") has it
    assert "Accuracy hides class 3: 2 of its 12 images are right (95% interval 4.70 to 44.80 %)" in words
    assert "hides class 0" in words and "hides class 1" not in words and "hides class 2" not in words


@pytest.mark.usefixtures("without_pictures")
def test_a_set_of_equal_classes_has_no_section_on_rare_ones(runs):
    runs.add({**make_record(["seed=0"], 0.9), "confusion_matrix": {"test": [[9, 1], [2, 13]]}})
    assert "imbalance" not in Page(made(runs)).ids
