"""A finished run as something to use: its network with its weights, its classes, and the pre-processing of its training.

Nothing that is loaded executes code: weights are read with ``weights_only=True``, and only networks that this installation
has are built, or that the user trusts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from cnnbench.config.settings import with_current_targets
from cnnbench.config.trusted_targets import check_config
from cnnbench.data.augment import Normalize
from cnnbench.data.views import VIEWS, over_views
from cnnbench.models.weights import load_into, skip_weight_loading
from cnnbench.training.checkpoint_io import read
from cnnbench.utils.errors import RequestError, one_line, one_of, refuse
from cnnbench.utils.record import RECORD_FILE, RecordError, read_record


@dataclass(frozen=True)
class TrainedRun:
    """A network and what belongs to it."""

    record: Mapping[str, Any]  # of the run
    network: nn.Module  # in eval mode; normalised float32 (N, channels, height, width) to logits (N, classes)
    classes: list[str]  # names in the order of the logits
    image_size: int
    channels: int
    normalize: Normalize  # uint8 (N, H, W, C) to what the network takes
    views: str = "none"  # of an image, over which the probabilities are averaged (``test_time_augmentation``)
    weights: str = "best"  # which of the run's these are

    def probabilities(self, images: np.ndarray) -> Tensor:
        """uint8 (N, image_size, image_size, channels) to the probability of each class, float32 (N, classes)."""
        with torch.no_grad():
            normal = self.normalize(torch.from_numpy(images))
            return over_views(self.network, normal, self.views, self.normalize.shift).float().softmax(dim=1)


def load_run(folder: str | Path, weights: str | None = None, trusted: Sequence[str] = ()) -> TrainedRun:
    """Load a finished run.

    Args:
        weights: best (by its objective) or last; None takes those that its test metrics are of (``test_with``).
        trusted: packages whose networks may be built, beside those of this installation's YAMLs
            (``cnnbench.config.trusted_targets``).

    Raises:
        RequestError: there is no finished run, its network is of another package, or its weights do not fit.
    """
    folder = Path(folder)
    record = _record(folder)
    weights = one_of("weights", weights or (record.get("protocol") or {}).get("weights", "best"), ("best", "last"))
    check_config(record.get("config"), f"the run in {folder}", trusted)
    try:
        config, data = with_current_targets(record.get("config")), record["data"]
        classes = [str(name) for name in record["per_class"]["classes"]]
        sizes = {"in_channels": data["channels"], "num_classes": len(classes), "image_size": data["image_size"]}
        with skip_weight_loading():  # the weights that it began with; the run's own follow
            network: nn.Module = instantiate(config["model"], **sizes).to(memory_format=torch.channels_last)
        normalize = Normalize(*(np.broadcast_to(config["data"][k], data["channels"]).tolist() for k in ("mean", "std")))
    except Exception as error:  # what a stranger's record makes the libraries raise has no common kind
        raise RequestError(f"the network of the run in {folder}: {one_line(error.__cause__ or error)}") from error
    _load_weights(network, folder / "checkpoints" / f"{weights}.ckpt")
    views = one_of("test_time_augmentation", config.get("test_time_augmentation", "none"), VIEWS)
    return TrainedRun(record, network.eval(), classes, data["image_size"], data["channels"], normalize, views, weights)


def _record(folder: Path) -> dict[str, Any]:
    if not (folder / RECORD_FILE).is_file():
        below = sorted(path.parent for path in folder.rglob(RECORD_FILE)) if folder.is_dir() else []
        hint = f"; it is a sweep: name one of its runs, for example {below[0]}" if below else ""
        raise RequestError(f"{folder} has no {RECORD_FILE}, so it is no finished run{hint}")
    try:
        record = read_record(folder)
    except RecordError as error:
        raise RequestError(str(error)) from error
    if record["status"] != "completed":
        raise RequestError(f"the run in {folder} is {record['status']}, not completed")
    return record


def _load_weights(network: nn.Module, path: Path) -> None:
    with refuse(f"{path} cannot be read as a checkpoint", Exception, most=200):
        state = dict(read(path)["state_dict"])
    own = {str(key).removeprefix("network."): value for key, value in state.items() if str(key).startswith("network.")}
    if different := sorted(own.keys() ^ network.state_dict().keys()):
        raise RequestError(f"{path} does not fit the network of its record: one of them has no {different[0]}")
    try:
        load_into(network, own)
    except RuntimeError as error:
        reason = " ".join(str(error).partition("\n")[2].split())[:200]
        raise RequestError(f"{path} does not fit the network of its record: {reason}") from error
