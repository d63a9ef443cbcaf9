"""Where the YAMLs lie, and which groups and choices there are."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnbench.utils.errors import RequestError

PACKAGE = Path(__file__).parent.parent
# beside the package in a checkout, inside it in a wheel
CONFIG_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
OWN = "CNNBENCH_CONFIG_DIR"  # an environment variable: a folder of the user's, as --config-dir
PLUGINS = ("hydra/launcher", "hydra/sweeper")
BASIC = "# One run after the other, all in this process."  # the launcher that is Hydra's own, and has no YAML here


@contextmanager
def own_config_dir(folder: str | None) -> Iterator[None]:
    """Use a folder of YAMLs beside ours within this, in the processes that it starts too; None changes nothing. Raises
    RequestError where it is not there, has a choice that is one of ours, or a file that is not in UTF-8."""
    before = {key: os.environ.get(key) for key in (OWN, "PYTHONPATH")}
    if folder:
        os.environ[OWN] = str(Path(folder).expanduser().absolute())
    try:
        own = own_configs()
        if own is not None:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [before["PYTHONPATH"], str(_importable(own))]))
            for path in own.rglob("*.yaml"):
                try:
                    path.read_text(encoding="utf-8")
                except UnicodeDecodeError as error:
                    raise RequestError(f"{path} is not in UTF-8: {error}") from error
        yield
    finally:
        os.environ.update({key: value for key, value in before.items() if value is not None})
        for key in [key for key, value in before.items() if value is None]:
            os.environ.pop(key, None)


def own_configs() -> Path | None:
    """The user's folder, what it names made importable; raises as ``own_config_dir``, but for what files hold."""
    if not os.environ.get(OWN):
        return None
    own = Path(os.environ[OWN])
    if not own.is_dir():
        raise RequestError(f"--config-dir {own} is not a folder; give the one that holds model/mine.yaml")
    if same := [path for path in own.rglob("*.yaml") if (CONFIG_DIR / path.relative_to(own)).exists()]:
        raise RequestError(f"{same[0]} has the name of a file of cnnbench; give it another name")
    if str(_importable(own)) not in sys.path:
        sys.path.append(str(_importable(own)))
    return own


def _importable(own: Path) -> Path:
    """The folder of the modules beside the user's folder, or of the package that holds it."""
    folder = own.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


def config_dirs() -> tuple[Path, ...]:
    """The folders of YAMLs: ours, and the user's."""
    own = own_configs()
    return (CONFIG_DIR,) if own is None else (CONFIG_DIR, own)


def groups() -> dict[str, list[str]]:
    """Every config group and its choices, as they lie on disk, the user's too; ``study`` is none, for it is not composed."""
    folders = [path for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name not in ("hydra", "study")]
    found = {}
    for name in sorted(folder.name for folder in folders):
        files = [(path, base / name) for base in config_dirs() for path in (base / name).rglob("*.yaml")]
        choices = sorted(str(path.relative_to(folder).with_suffix("")) for path, folder in files)
        found[name] = [choice for choice in choices if not choice.split("/")[-1].startswith("_")]
    return found


def plugins() -> dict[str, list[str]]:
    """Hydra's launchers and sweepers that a sweep can be run by, as ``groups``."""
    names = {
        kind: sorted({path.stem for folder in config_dirs() for path in (folder / kind).glob("*.yaml")})
        for kind in PLUGINS
    }
    names["hydra/launcher"].insert(0, "basic")
    return names


def read_yaml(group: str, choice: str) -> str:
    """The text of a choice's YAML; for what is Hydra's own a comment."""
    if choice == "basic":
        return BASIC
    paths = [folder / group / f"{choice}.yaml" for folder in config_dirs()]
    return next((path for path in paths if path.exists()), paths[0]).read_text(encoding="utf-8").rstrip()
