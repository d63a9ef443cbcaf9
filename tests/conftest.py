"""Shared by all tests: nothing is written outside temporary folders, and real sets are used where they lie."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests that start many processes or wait for some: begun first, so that none of them is alone at the end.
SLOW = ("test_machines", "test_slurm", "test_sweep", "test_distributed", "test_ray", "test_out_of_memory", "test_search",
        "test_resume", "test_docs", "test_reproduce")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow files first."""
    items.sort(key=lambda item: item.path.stem not in SLOW)


gc.disable()  # while the tests are imported, and torch with them


def pytest_collection_finish() -> None:
    """Look no more for garbage in what was imported, which stays for good."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # triton looks for leaks at the end
    gc.set_threshold(100_000, 50, 100)  # composing and training make no cycles worth a twentieth of the time
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of prepared sets for this test session, also for the processes that tests start."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CNNBENCH_CACHE"] = str(folder)
    os.environ["CNNBENCH_TRUST"] = "faults"  # what goes wrong on purpose is asked for by overrides that resume repeats
    return folder


@pytest.fixture(scope="session", autouse=True)
def control_c() -> None:
    """Where the tests are a shell's background job, SIGINT is ignored, also in the commands that they start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def reports_without_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drawing is most of a report's time; tests/analysis draws, and so does every process that a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        if "analysis" not in request.path.parts:
            patch.setattr("cnnbench.analysis.report.html.svg", lambda *of: f"<svg><title>{of[-1]}</title></svg>")
        yield


@pytest.fixture(autouse=True)
def nothing_checked_before() -> None:
    """A process checks a configuration once; a test that breaks something has to see it checked, whatever ran before."""
    if (preflight := sys.modules.get("cnnbench.training.preflight")) is not None:
        preflight._checked.clear()


@pytest.fixture(autouse=True)
def no_log_left_open() -> Iterator[None]:
    """Hydra, called in this process, lets all that is logged after it go to a file in the test's folder."""
    kept = list(logging.root.handlers)
    yield
    for handler in [one for one in logging.root.handlers if isinstance(one, logging.FileHandler) and one not in kept]:
        logging.root.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real MNIST and CIFAR-10; the test is skipped where there is none."""
    folder = Path(os.environ.get("CNNBENCH_DATA", ""))
    if not os.environ.get("CNNBENCH_DATA") or not (folder / "MNIST").is_dir():
        pytest.skip("needs real images: point CNNBENCH_DATA at a folder with MNIST/raw and cifar10/{train,test}")
    return folder
