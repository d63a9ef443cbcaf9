"""Weights to start from: of an earlier run, of a state dict in a file, or those that torchvision publishes."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.models.fine_tune import classifier_of
from cnnbench.utils.errors import RequestError, one_line
from cnnbench.utils.torch_files import DamagedFileError, UnsafeFileError, read_torch_file

log = logging.getLogger(__name__)
is_loading_skipped = ContextVar("is_loading_skipped", default=False)  # within ``skip_weight_loading``


@contextmanager
def skip_weight_loading() -> Iterator[None]:
    """Networks built within are laid out as their ``weights`` say and keep random ones: those of a checkpoint follow."""
    token = is_loading_skipped.set(True)
    try:
        yield
    finally:
        is_loading_skipped.reset(token)


def load_weights(
    network: nn.Module,
    source: str | None,
    key: str,
    published: Any = None,
    built: Callable[[], nn.Module] | None = None,
) -> None:
    """Load weights into the network, and log one line that says which.

    The last layer keeps its own where the numbers of classes differ. Filters for three colours are summed for images
    of one. On the meta device everything is checked and nothing loaded.

    Args:
        source: a file with a Lightning checkpoint of ours or a state dict; ``imagenet`` or the name of ``published``; None.
        key: of the configuration that asks for it, for messages.
        published: torchvision's WeightsEnum that ``imagenet`` stands for.
        built: makes torchvision's own network with these, for its builder may rename or leave out published tensors.

    Raises RequestError where the file is not there, or holds something else than weights, or those of another network."""
    if source is None or is_loading_skipped.get():
        return
    if not isinstance(source, str):
        raise RequestError(
            f"{key} must be {'imagenet, ' if published else ''}the path of a file or null, got {source!r}"
        )
    with torch.device("cpu"):
        is_published = published is not None and source in ("imagenet", str(published))
        state = _published(published, key, built) if is_published else read_state(Path(source).expanduser(), key)
    own = network.state_dict()
    state = {name: value for name, value in state.items() if name in own or not name.endswith("num_batches_tracked")}
    first = next((name for name, value in own.items() if value.ndim == 4), "")
    if first in state and own[first].shape[1] == 1 and state[first].ndim == 4 and state[first].shape[1] == 3:
        state[first] = state[first].sum(1, keepdim=True)
    left_out = _other_classes(network, own, state)
    problems = [f"it has no {name}" for name in own if name not in state and not name.endswith("num_batches_tracked")]
    problems += [f"the network has no {name}" for name in state if name not in own]
    both = [(name, state[name], own[name]) for name in state if name in own and name not in left_out]
    problems += [f"{name} is {_shape(a)} there and {_shape(b)} here" for name, a, b in both if a.shape != b.shape]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RequestError(f"{key}={source} does not fit {type(network).__name__}: {problems[0]}{more}")
    if any(parameter.is_meta for parameter in network.parameters()):
        return
    load_into(network, {name: value for name, value in state.items() if name not in left_out})
    kept = f"; {', '.join(left_out)} left as they are, for the classes differ" if left_out else ""
    log.info("started from %s: %d of %d tensors%s", source, len(state) - len(left_out), len(own), kept)


def load_into(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load these tensors, by the network's names, and keep the others. Some modules ask which version of them has written
    a state dict, which a plain dict does not say: here it is this one. Raises RuntimeError where shapes differ."""
    whole = network.state_dict()  # has the versions
    whole.update(state)
    network.load_state_dict(whole)


def read_state(path: Path, key: str) -> dict[str, Tensor]:
    """The state dict in a file, with the names that the network has alone; no code in it is executed. Raises RequestError
    where there is no such file, or no state dict in it."""
    if not path.is_file():
        hint = f"a folder; give a file, such as {path / 'checkpoints' / 'best.ckpt'}" if path.is_dir() else "not a file"
        raise RequestError(f"{key}={path} is {hint}")
    try:
        loaded = read_torch_file(path)
    except (UnsafeFileError, DamagedFileError, OSError, MemoryError) as error:
        wrong = f"is damaged or no file of weights ({type(error).__name__})"
        unsafe = "is no file of weights alone: it holds other objects, or is damaged"
        raise RequestError(f"{key}={path} {unsafe if isinstance(error, UnsafeFileError) else wrong}") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not state or not all(isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items()):
        raise RequestError(f"{key}={path} holds no state dict: names and tensors, alone or under 'state_dict'")
    prefix = "network." if "state_dict" in loaded else ""  # a checkpoint's network is a part of the classifier
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _published(weights: Any, key: str, built: Callable[[], nn.Module] | None) -> dict[str, Tensor]:
    """torchvision's weights, from its cache or downloaded, their checksum checked."""
    try:
        if built is not None:
            with torch.random.fork_rng(devices=[]):  # its own random weights are no part of the run
                return dict(built().state_dict())
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except Exception as error:
        wrong, folder = f"{weights.url} could not be had ({one_line(error)})", f"{torch.hub.get_dir()}/checkpoints"
        other = ", or give its path: init_from=FILE" if built is None else ""  # the file may need its builder
        raise RequestError(f"{key}: {wrong}; put {Path(weights.url).name} into {folder}{other}") from error


def _other_classes(network: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Names of the classifier's tensors, if they differ from the file's by nothing but the number of classes."""
    if all(name not in state or state[name].shape == value.shape for name, value in own.items()):
        return []  # and nobody needs to know which layer is the classifier
    prefix = next(name for name, module in network.named_modules() if module is classifier_of(network))
    names = [name for name in own if name.startswith(f"{prefix}.")]
    pairs = [(own[name].shape, state[name].shape) for name in names if name in state]
    return names if pairs and all(a[1:] == b[1:] for a, b in pairs) and any(a != b for a, b in pairs) else []


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
