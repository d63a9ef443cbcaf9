"""``result.json``: what one run leaves behind, written so that a reader sees a whole record or none."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1
RECORD_FILE = "result.json"
SWEEP_CONFIG_FILE = "multirun.yaml"  # Hydra's name, in the folder of a sweep
PREDICTIONS_FILE = "predictions.npz"  # beside it (cnnbench.training.recording)
MAPPINGS = ("config", "choices", "metrics", "best", "history", "per_class", "model", "data", "environment", "error", "time",
            "protocol", "confusion_matrix")  # fmt: skip
Record = dict[str, Any]


class RecordError(ValueError):
    """A record that cannot be read: truncated, not a record, or from a newer cnnbench."""


def finite_or_none(value: Any) -> Any:
    """``value`` with every NaN and infinity, at any depth, replaced by None (JSON has neither)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(item) for item in value]
    return value


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` through a temporary file beside it, so that a kill leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # half characters
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_record(folder: Path, record: Record) -> None:
    """Write ``record`` as ``folder/result.json``; non-finite numbers become null."""
    text = json.dumps(finite_or_none({"schema": SCHEMA, **record}), ensure_ascii=False, indent=1)
    write_atomically(folder / RECORD_FILE, text + "\n")


def read_file(path: Path) -> str:
    """The text of a file; raises ValueError where it is none but a pipe or a device, which would be waited for or never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is neither a file nor a folder")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises OSError or ValueError where it cannot be read, as ``read_file`` does."""
    try:
        return json.loads(read_file(path))
    except RecursionError as error:
        raise ValueError(f"{path}: {error}") from error


def read_yaml_file(path: Path) -> Any:
    """What a YAML holds, of which nothing may be an alias: a few lines of those say more than memory holds. Raises OSError,
    ValueError or yaml.YAMLError where it cannot be read."""
    import yaml

    text = read_file(path)
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
        raise yaml.YAMLError(f"{path} has aliases")
    return yaml.safe_load(text)


def _wrong_kind(record: Record) -> str | None:
    """The key of a value that readers could not handle."""

    def texts(values: Any) -> bool:
        return all(value is None or isinstance(value, str) for value in values)

    def numbers(rows: Any) -> bool:
        lists = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
        return lists and all(type(count) in (int, float) and 0 <= count < 2**53 for row in rows for count in row)

    overrides, environment = record.get("overrides") or [], record.get("environment") or {}
    right = {
        "overrides": isinstance(overrides, list),
        "fingerprint": texts([record.get("fingerprint")]),
        **{key: texts((record.get(key) or {}).values()) for key in ("choices", "protocol")},
        "environment": isinstance(environment.get("packages") or {}, dict),
        "confusion_matrix": all(map(numbers, (record.get("confusion_matrix") or {}).values())),
    }
    return next((key for key, holds in right.items() if not holds), None)


def read_record(folder: Path) -> Record:
    """The record of the run in ``folder``. Raises FileNotFoundError where there is none, and RecordError where it is
    truncated, not a record, or its schema is newer than this program's."""
    path = folder / RECORD_FILE
    try:
        record = read_json(path)
    except (ValueError, IsADirectoryError) as error:
        raise RecordError(f"{path}: not a whole record ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("status"), str):
        raise RecordError(f"{path}: not a record of a run (no 'status' in it)")
    if wrong := [key for key in MAPPINGS if not isinstance(record.get(key) or {}, dict)]:
        raise RecordError(f"{path}: not a record of a run ({wrong[0]!r} is no mapping)")
    if (wrong_kind := _wrong_kind(record)) is not None:
        raise RecordError(f"{path}: not a record of a run ({wrong_kind!r} is not what it has to be)")
    if not isinstance(record.get("schema"), int) or record["schema"] > SCHEMA:
        newer = f"schema {record.get('schema')!r} is newer than {SCHEMA}; read it with a newer cnnbench"
        raise RecordError(f"{path}: {newer}")
    return record
