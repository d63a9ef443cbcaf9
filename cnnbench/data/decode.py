"""Image files to pixels. Without torch, so that the processes which decode a set start at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image, ImageOps

from cnnbench.utils.errors import RequestError

CHUNK = 256  # images of one task, and between two reports on progress
SERIAL = 2_000  # up to this many images, other processes are not worth their start
IDLE_SECONDS = 2  # after which a process without a task ends
EXIF_ORIENTATION = 0x0112


class UndecodableImage(RequestError):
    """A file is no image, or a damaged one."""


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    """An image file; raises UndecodableImage, with its name, where it cannot be opened or what is done to it fails."""
    try:
        with Image.open(path) as file:
            yield file
    except Exception as error:
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise UndecodableImage(f"{path} cannot be decoded as an image ({reason})") from error


def image_dimensions(path: Path) -> tuple[int, int]:
    """(width, height) from an image file's header, upright; raises UndecodableImage."""
    with _open_image(path) as file:
        return file.size[::-1] if file.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8) else file.size


def decode_image(path: Path, size: int, channels: int, resize: bool) -> np.ndarray:
    """One image file as uint8 (size, size, channels).

    It is turned upright (EXIF); transparency is laid over black; of an animation the first frame is taken; 16-bit grey
    is scaled to 8 bits; the middle square is cut out and resized (bilinear, antialiased). Raises UndecodableImage where
    the file does not decode, and RequestError where it has another size, without ``resize``.
    """
    with _open_image(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith(("I", "F")):  # 16 bits or more in one channel, which convert() would clip
            values = np.asarray(image, dtype=np.float64)
            top = 65535 if image.mode.startswith("I") and values.max(initial=0) > 255 else 255
            image = Image.fromarray(np.clip(values * (255 / top), 0, 255).round().astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
        image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size) and not resize:
        raise RequestError(
            f"{path} is {image.width}x{image.height} where others are {size}x{size}; set data.image_size, for example to 64"
        )
    return _square(image, size)


def resize_array(image: np.ndarray, size: int) -> np.ndarray:
    """One image, uint8 (H, W) or (H, W, C), as (size, size, C), in the same way."""
    return _square(Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image), size)


def _square(image: Image.Image, size: int) -> np.ndarray:
    """An image of mode L or RGB as uint8 (size, size, channels), cut and resized where it is not so already."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(size, size, -1)


def decode_files(
    paths: Sequence[Path], target: np.memmap, resize: bool, progress: Callable[[int], None]
) -> dict[int, str]:
    """Decode ``paths`` into a mapped .npy file, uint8 (N, size, size, channels), in as many processes as cores, and call
    ``progress`` with the number of images done now and then.

    Returns the row of each image that does not decode, with its error message; these rows are black. Raises RequestError
    where an image has the wrong size, or a process died.
    """
    workers = 1 if len(paths) <= SERIAL else -1
    parallel = Parallel(workers, backend="loky", return_as="generator", idle_worker_timeout=IDLE_SECONDS)
    starts = range(0, len(paths), CHUNK)
    chunks = (delayed(decode_chunk)(target.filename, start, paths[start : start + CHUNK], resize) for start in starts)
    undecodable: dict[int, str] = {}
    done = 0
    try:
        for found in parallel(chunks):
            undecodable |= found
            done = min(done + CHUNK, len(paths))
            progress(done)
    except BrokenProcessPool as error:
        raise RequestError(
            f"a process that decodes images was killed, at {paths[done]} or one of the files after it; is memory short?"
        ) from error
    return undecodable


def decode_chunk(target: Path, start: int, paths: Sequence[Path], resize: bool) -> dict[int, str]:
    """Decode ``paths`` into the rows of ``target`` from ``start`` on; returns what ``decode_files`` does."""
    array = np.load(target, mmap_mode="r+", allow_pickle=False)
    undecodable = {}
    for row, path in enumerate(paths, start):
        try:
            array[row] = decode_image(path, array.shape[1], array.shape[3], resize)
        except UndecodableImage as error:
            undecodable[row] = str(error)
    return undecodable
