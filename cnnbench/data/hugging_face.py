"""Image sets in the formats of Hugging Face, of its hub or of local files."""

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.data.csv_file import find_column, split_named
from cnnbench.data.folder import SPLITS
from cnnbench.data.imageset import EncodedImage, ImageSet, Split
from cnnbench.utils.errors import RequestError, one_line
from cnnbench.utils.record import read_file, read_yaml_file

TYPES = {"image": "Image", "label": "ClassLabel"}  # of datasets.features
ELSEWHERE = re.compile(r"://|::|\.\.|['\"][/~\\]")  # than below the folder of the set
HUB = re.compile(r"(?!buckets/)\w[\w.-]*/\w[\w.-]*")


@dataclass
class HuggingFace:
    """What ``datasets.load_dataset`` loads, of version 4 or later, which neither runs code of a set nor unpickles.

    Args:
        dataset: name on the hub; path: of a folder or a .parquet file instead, which then is the location.
        subset: which of the set's configurations; revision: branch, tag or commit of its repository.
        channels, test_share, skip_damaged: as of ``ImageFolder``.
        splits: the set's names of them, others are left out; None goes by the usual names.
        image_column, label_column: None goes by the type of the columns, then by their names.
    """

    dataset: str | None = None
    path: str | None = None
    subset: str | None = None
    revision: str | None = None
    channels: int = 3
    test_share: float = 0.2
    skip_damaged: bool = False
    splits: Mapping[str, str] | None = None
    image_column: str | None = None
    label_column: str | None = None

    def __post_init__(self) -> None:
        self.dataset = self.dataset or Path(self.path or "").name
        self.splits = None if self.splits is None else dict(self.splits)
        self.shape = {"channels": self.channels}

    def may_download(self, location: Path | None) -> bool:
        """Whether the set is on the hub."""
        return self.path is None

    def identity(self, location: Path | None) -> dict[str, Any]:
        files: list[Path] = []
        if self.path is not None and location is not None:
            files = [location] if location.is_file() else sorted(path for path in location.rglob("*") if path.is_file())
        # of other names load_dataset makes a folder, or one of its own readers
        if self.path is None and self.dataset and (not HUB.fullmatch(self.dataset) or Path(self.dataset).exists()):
            raise RequestError(f"data.name={self.dataset} is not OWNER/NAME of the hub; data.path reads what is here")
        if not files and (self.path is not None or not self.dataset):
            what = "data.name=OWNER/NAME (on the hub) or data.path=FOLDER or FILE.parquet"
            raise RequestError(f"data=hf needs {what}" + (f"; there are no files in {location}" if self.path else ""))
        states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return {**vars(self), "set": "hf", "files": states}

    def read(self, location: Path | None) -> ImageSet:
        loaded = self._load(location)
        names = {"train": next(iter(loaded))}
        if len(loaded) > 1 or self.splits is not None:
            found = {split_named(name, self.splits, self.dataset): name for name in loaded}
            names = {split: found[split] for split in SPLITS if split in found}
        if absent := sorted({"train", *(self.splits or ())} - names.keys()):
            raise RequestError(f"{self.dataset} has {', '.join(loaded)}: say which is {absent[0]} with data.splits")
        features = loaded[names["train"]].features
        image, label = (self._find_column(kind, features) for kind in ("image", "label"))
        if type(features[label]).__name__ not in ("ClassLabel", "Value"):  # others are opened, as images are
            raise RequestError(f"{self.dataset}: {label} is {type(features[label]).__name__}, no column of classes")
        known = getattr(features[label], "names", None)  # of classes, which the labels number
        labels = {split: np.array(loaded[name][label][:]) for split, name in names.items()}
        for split, values in labels.items():
            if values.ndim != 1 or values.dtype.kind not in "biU" or (known and values.min() < 0):
                where = f"{self.dataset} has images without one class in {label} of {names[split]}"
                remedy = "choose data.source.label_column=NAME, or splits: data.splits={train: NAME}"
                raise RequestError(f"{where}; {remedy}")
        occurring = np.unique(np.concatenate([*labels.values()]))
        splits = {split: Split(_files(loaded[name], image, name), labels[split]) for split, name in names.items()}
        for part in () if known else splits.values():
            part.labels = np.searchsorted(occurring, part.labels)
        parts = [f"{split} is {name} ({len(labels[split])})" for split, name in names.items()]
        if "test" not in splits:
            splits |= splits.pop("train").with_test_split(self.test_share)
            parts.append(f"test is a share of {self.test_share} of each class in train")
        notes = [f"images of {self.dataset}: {', '.join(parts)}; columns {image} and {label}"]
        classes = known or [str(value) for value in occurring]
        return ImageSet(splits, classes, self.channels, skip_damaged=self.skip_damaged, notes=notes)

    def _load(self, location: Path | None) -> Any:
        """``datasets.DatasetDict``: by its name, each split."""
        try:
            import datasets
        except ImportError as error:
            raise RequestError("data=hf needs the package datasets: pip install 'cnnbench[hf]'") from error
        if int(datasets.__version__.partition(".")[0]) < 4:  # which may run code of a set
            raise RequestError(f"data=hf needs datasets 4 or later, here is {datasets.__version__}")
        self._check_card(location)
        if self.path is None:
            arguments: dict[str, Any] = {"path": self.dataset, "revision": self.revision, "cache_dir": location}
        elif location is not None and location.is_file():
            arguments = {"path": "parquet", "data_files": str(location)}
        else:
            arguments = {"path": str(location)}
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each of its tries
        try:
            return datasets.load_dataset(**arguments, name=self.subset)
        except Exception as error:
            key = f"data.path={self.path}" if self.path else f"data.name={self.dataset}"
            raise RequestError(f"{key} could not be loaded by datasets ({one_line(error)[:300]})") from error

    def _check_card(self, location: Path | None) -> None:
        """Raise RequestError where the set's card names data that is not its own, which would be fetched from anywhere."""
        from huggingface_hub import DatasetCard, hf_hub_download

        cards = ("README.md", ".huggingface.yaml")
        files = [Path(str(location), name) for name in cards if self.path]
        for name in cards if not self.path else ():
            with suppress(Exception):  # the hub has none, or there is no network, as load_dataset will say
                download = hf_hub_download(str(self.dataset), name, repo_type="dataset", revision=self.revision)
                files.append(Path(download))
        for file in filter(Path.exists, files):
            try:
                is_card = file.suffix == ".md"
                card = DatasetCard(read_file(file)).data.to_dict() if is_card else read_yaml_file(file) or {}
                is_own = not ELSEWHERE.search(str(card.get("configs")))
            except Exception as error:
                raise RequestError(f"{file} cannot be read ({one_line(error)[:300]})") from error
            if not is_own:
                raise RequestError(f"{file} names data outside of the set, which is not loaded")

    def _find_column(self, kind: str, features: Mapping[str, Any]) -> str:
        typed = [name for name, feature in features.items() if type(feature).__name__ == TYPES[kind]]
        wanted = getattr(self, f"{kind}_column") or (typed[0] if len(typed) == 1 else None)
        return str(find_column(kind, wanted, features, self.dataset))


def _files(data: Any, column: str, split: str) -> list[Path | EncodedImage]:
    """The images, not decoded."""
    from datasets import Image

    files = enumerate(data.cast_column(column, Image(decode=False))[column][:])
    given = ((row, file["bytes"], file["path"]) for row, file in files)
    return [Path(path) if bytes_ is None else EncodedImage(bytes_, f"{split}[{row}]") for row, bytes_, path in given]
