"""Where the YAMLs lie, and which groups and choices there are."""

from pathlib import Path

PACKAGE = Path(__file__).parent.parent
# beside the package in a checkout, inside it in a wheel
CONFIG_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
PLUGINS = ("hydra/launcher", "hydra/sweeper")
BASIC = "# One run after the other, all in this process."  # the launcher that is Hydra's own, and has no YAML here


def groups() -> dict[str, list[str]]:
    """Every config group and its choices, as they lie on disk; ``study`` is none, for it is not composed."""
    folders = [path for path in CONFIG_DIR.iterdir() if path.is_dir() and path.name not in ("hydra", "study")]
    found = {}
    for folder in sorted(folders):
        names = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
        found[folder.name] = [name for name in names if not name.split("/")[-1].startswith("_")]
    return found


def plugins() -> dict[str, list[str]]:
    """Hydra's launchers and sweepers that a sweep can be run by, as ``groups``."""
    names = {kind: sorted(path.stem for path in (CONFIG_DIR / kind).glob("*.yaml")) for kind in PLUGINS}
    names["hydra/launcher"].insert(0, "basic")
    return names


def read_yaml(group: str, choice: str) -> str:
    """The text of a choice's YAML; for what is Hydra's own a comment."""
    if choice == "basic":
        return BASIC
    return (CONFIG_DIR / group / f"{choice}.yaml").read_text(encoding="utf-8").rstrip()
