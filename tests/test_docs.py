"""What the documentation shows works: its files are written and its commands run, page by page, on a small budget."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT
from pages import PAGES, Block, anchors, blocks, links, name
from PIL import Image

# Added to what trains. A page's own epochs and images would take hours; a sweep runs its first and its last cell.
BUDGET = [
    "trainer.max_epochs=1", "data.limit_train=64", "trainer.accelerator=cpu", "threads=1", "sweep.isolate=false",
    "callbacks.figures.pictures=false", "logger=none", "sweep.max_seeds=3",
]  # fmt: skip
# Commands that cannot run here, and why. Those of cnnbench are composed instead.
NOT_RUN = {
    "cnnbench model=resnet18 model.weights=imagenet data=cifar10 data.image_size=224 data.mean=[0.485,0.456,0.406] "
    "data.std=[0.229,0.224,0.225] fine_tune=head_first": "downloads 45 MB",
    "cnnbench -m optimizer=sgd,adam seed=0,1 sweep.timeout=30 sweep.retries=1": "a time limit needs processes of their "
    "own, which test_sweep.py starts",
}
NOT_RUN |= dict.fromkeys((
    "cnnbench data=hf data.name=ylecun/mnist data.source.channels=1",
    "cnnbench data=hf data.path=folder data.splits={train: train, test: validation}",
), "needs the package datasets, with which tests/data/test_hugging_face.py reads files")  # fmt: skip
PARALLEL = "needs processes of its own, which tests/sweep starts"
NOT_RUN |= dict.fromkeys((
    "cnnbench -m optimizer=sgd,adam seed=0,1 hydra/launcher=parallel",
    "cnnbench -m optimizer=sgd,adam seed=0,1 hydra.launcher.n_jobs=2",
    "cnnbench -m optimizer=sgd,adam seed=0,1,2 hydra/launcher=submitit_slurm hydra.launcher.partition=gpu "
    "hydra.launcher.gpus_per_node=1",
    "cnnbench -m optimizer=sgd,adam seed=0,1 hydra/launcher=ray",
    "cnnbench -m optimizer=sgd,adam seed=0,1 hydra/launcher=ray hydra.launcher.ray.init.address=auto",
    "cnnbench -m optimizer=sgd,adam seed=range(3) hydra/launcher=parallel",
    "cnnbench trainer=ddp trainer.devices=4 model=resnet18 data=cifar10 data.batch_size=512",
    "cnnbench trainer=ddp trainer.accelerator=cpu trainer.devices=2 threads=1",
    "cnnbench -m trainer=ddp trainer.devices=4 optimizer=sgd,adam seed=range(3)",
), PARALLEL)  # fmt: skip
# Files that a page takes for granted, made up below.
PHOTOS, MEDMNIST = "photos", "pathmnist.npz"
WITH_COMMANDS = [page for page in PAGES if any(block.language in ("sh", "console") for block in blocks(page))]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the code and the YAMLs, to which pages may add files; ``cnnbench`` is imported from it."""
    for folder in ("cnnbench", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder)  # with the bytecode, which times of change belong to
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "make_photos.py", tmp_path / "docs")
    kept = {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] == "cnnbench"}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for key in [key for key in sys.modules if key.split(".")[0] == "cnnbench"]:
        del sys.modules[key]
    sys.modules.update(kept)
    kept["cnnbench.config.compose"].register_resolvers()  # the copy has registered its own


@pytest.fixture
def main(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    """The command line on a small budget: made-up images for sets that are downloaded, the ends of each grid alone."""
    import cnnbench.sweep.grid
    from cnnbench.cli.main import COMMANDS
    from cnnbench.cli.main import main as run
    from cnnbench.data.sources import Digits, Torchvision
    from cnnbench.training import estimate

    assert Path(cnnbench.sweep.grid.__file__).is_relative_to(checkout)
    whole = cnnbench.sweep.grid.expand

    def ends(overrides: list[str]) -> list[list[str]]:
        cells = whole(overrides)
        return [cells[0], cells[-1]] if len(cells) > 2 else cells

    monkeypatch.setattr(cnnbench.sweep.grid, "expand", ends)
    read_digits = Digits.read
    monkeypatch.setattr(Digits, "identity", lambda self, location: {"set": "some digits"})
    monkeypatch.setattr(Digits, "read", lambda self, location: some(read_digits(self, location)))
    monkeypatch.setattr(Torchvision, "identity", lambda self, location: {"set": self.dataset})
    monkeypatch.setattr(Torchvision, "read", made_up)
    monkeypatch.setattr(estimate, "_mean_seconds", lambda call: (call(), 0.01)[1])
    monkeypatch.setattr(
        "cnnbench.analysis.report.html.svg", lambda *_: "<svg></svg>"
    )  # pictures are half of a report's time
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: path)

    def within_budget(arguments: list[str]) -> int:
        verb = arguments[0] if arguments and arguments[0] in COMMANDS else "train"
        more = {
            "train": BUDGET,
            "reproduce": BUDGET,
            "find-lr": [*BUDGET, "--steps", "12"],
            "noise": BUDGET,
            "confirm": ["--top", "1", "--seeds", "1"],
        }.get(verb, [])
        return run([*arguments, *(more if "-sc" not in arguments else ())])

    return within_budget


def made_up(self: object, location: Path | None) -> object:
    """Noise in the shape of MNIST or CIFAR, instead of the downloaded set."""
    from cnnbench.data.imageset import ImageSet, Split

    dataset = self.dataset  # type: ignore[attr-defined]
    shape = (32, 32, 3) if dataset.startswith("CIFAR") else (28, 28)
    classes = 100 if dataset == "CIFAR100" else 10
    random = np.random.default_rng(0)
    splits = {
        split: Split(random.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes)
        for split, count in (("train", 300), ("test", 60))
    }
    return ImageSet(splits, [str(number) for number in range(classes)], channels=(*shape, 1)[2])


def some(digits: Any) -> Any:
    """A fourth of them: what evaluates the rest of them is most of what a run of 64 images does."""
    for split in digits.splits.values():
        split.images, split.labels = split.images[::4], split.labels[::4]
    return digits


def take_for_granted(folder: Path, page: list[Block]) -> None:
    """Make the photographs and the MedMNIST file that a reader has, unless the page makes them."""
    if not any("make_photos.py" in block.text for block in page):
        for label in ("cat", "dog"):
            (folder / PHOTOS / label).mkdir(parents=True)
            for number in range(12):
                Image.new("RGB", (20, 16), (10 * number, 80, 120)).save(folder / PHOTOS / label / f"{number}.jpg")
    images = np.zeros((40, 28, 28, 3), np.uint8)
    labels = (np.arange(40) % 9)[:, None].astype(np.uint8)
    splits = {
        f"{split}_{key}": v for split in ("train", "val", "test") for key, v in (("images", images), ("labels", labels))
    }
    np.savez(folder / MEDMNIST, **splits)


def filled(line: str) -> str:
    """A command line with the newest run for ``<time>``, and the newest sweep for ``sweep_...`` and ``sweep_*``."""
    for pattern, found in (("<time>", "[0-9]*"), (r"sweep_(\.\.\.|\*)", "sweep_*")):
        if re.search(pattern, line):
            newest = max(Path("outputs/cnnbench").glob(found), key=lambda path: path.stat().st_mtime_ns)
            line = re.sub(pattern, newest.name, line)
    return line


def composed(arguments: list[str]) -> None:
    """Compose and check every run that a command asks for."""
    from cnnbench.config.compose import compose, resolved
    from cnnbench.config.overrides import expand
    from cnnbench.config.schema import check_values

    for cell in expand([text for text in arguments if text != "-m"]):
        check_values(resolved(compose(cell)))


def run(line: str, main: Callable[[list[str]], int]) -> None:
    """Run one command line as far as it can be run here; anything that is not known fails."""
    words = shlex.split(filled(line), comments=True)
    if words[:3] == ["python", "-m", "cnnbench"]:
        words = ["cnnbench", *words[3:]]
    if shlex.join(words).replace("'", "") in NOT_RUN:
        composed(words[1:])
    elif words[:2] == ["cnnbench", "tensorboard"]:  # would serve until it is stopped; test_tensorboard.py starts it
        assert Path(words[2]).is_dir(), line
    elif "-sc" in line:  # for the shell; what it would read is asked for
        command = re.search(r"cnnbench (-sc \S+=\w+)", line)
        assert command is not None and main(command[1].split()) == 0, line
    elif words[0] == "cnnbench":
        assert main(words[1:]) == 0, line
    elif words[0] == "make":  # installs; what it calls of cnnbench is run
        arguments = shlex.join([*words[1:], "VENV=nowhere"])
        environ = {
            key: value for key, value in os.environ.items() if "MAKE" not in key and key != "ARGS"
        }  # of make test
        plan = subprocess.run(
            f"make --dry-run {arguments}", shell=True, cwd=ROOT, capture_output=True, text=True, env=environ
        )
        assert plan.returncode == 0, f"{line}: {plan.stderr}"
        for command in re.findall(r"^nowhere/bin/python -m cnnbench (.*)$", plan.stdout, flags=re.MULTILINE):
            run(f"cnnbench {command}", main)
    elif words[0] == "torchrun":  # tests/training/test_machines.py starts two machines
        composed(words[words.index("cnnbench") + 1 :])
    elif words[0] == "python" and len(words) == 2:
        runpy.run_path(words[1], run_name="__main__")
    elif words[:2] == ["python", "-c"]:
        exec(words[2], {})
    else:
        pytest.fail(f"{line}: nobody knows how to run this; NOT_RUN may name it with a reason")


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_what_a_page_shows_works(page: Path, checkout: Path, main: Callable[[list[str]], int], capsys) -> None:
    shown = blocks(page)
    take_for_granted(checkout, shown)
    for block in shown:
        if block.title:
            assert not (ROOT / block.title).exists(), f"{block.title} is there already"
            path = checkout / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "sh":
            for line in block.commands():
                run(line, main)
        elif block.language == "console":
            command, *told = block.text.removeprefix("$ ").splitlines()
            capsys.readouterr()
            assert main(shlex.split(command)[1:]) == 2, command
            assert capsys.readouterr().err.splitlines() == told


def test_every_exception_is_shown_on_a_page() -> None:
    shown = {shlex.join(shlex.split(line, comments=True)).replace("'", "") for page in PAGES for block in blocks(page)
             for line in block.commands() if block.language == "sh"}  # fmt: skip
    assert set(NOT_RUN) <= shown


WITH_EXAMPLES = [path.relative_to(ROOT) for path in (ROOT / "cnnbench").rglob("*.py") if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_an_example_in_a_docstring_gives_what_it_says(path: Path) -> None:
    result = doctest.testmod(import_module(".".join(path.with_suffix("").parts)))
    assert result.attempted and not result.failed


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        generated = "reference" in Path(path).parts  # checked when the site is built
        assert generated or target.exists(), f"{name(page)}: {link} leads nowhere"
        assert generated or not anchor or anchor in anchors(target), f"{name(page)}: {link} has no such heading"
