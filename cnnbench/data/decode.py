"""Image files to pixels. Imports only Pillow and numpy, so that the processes which decode a set start at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.utils.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

CHUNK = 512  # images between two words on progress
FEW = 2_000  # up to this many images, other processes are not worth their start
Damaged = tuple[int, str]  # row of an image that does not decode, and what is said of it


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) from an image file's header, upright; raises RequestError naming the file."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).size if file.getexif().get(0x0112, 1) > 4 else file.size
    except Exception as error:
        raise undecodable(path, error) from error


class Undecodable(RequestError):
    """A file is no image, or a damaged one."""


def undecodable(path: Path, error: Exception) -> Undecodable:
    """What is said of such a file."""
    reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
    return Undecodable(f"{path} cannot be decoded as an image ({reason})")


def read_picture(path: Path, size: int, channels: int, resize: bool) -> np.ndarray:
    """One image file as uint8 (size, size, channels).

    It is turned upright (EXIF); transparency is laid over black; of an animation the first frame is taken; 16-bit grey
    is scaled to 8 bits; the middle square is cut out and resized (bilinear, antialiased).

    Raises:
        RequestError: the file does not decode, or, without ``resize``, has another size.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = as_eight_bits(ImageOps.exif_transpose(file), "L" if channels == 1 else "RGB")
    except Exception as error:
        raise undecodable(path, error) from error
    if picture.size != (size, size) and not resize:
        width, height = picture.size
        raise RequestError(
            f"{path} is {width}x{height} where others are {size}x{size}; set data.image_size, for example to 64"
        )
    return pixels(picture, size, channels)


def as_eight_bits(picture: Image.Image, mode: str) -> Image.Image:
    """``picture`` in mode L or RGB."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # 16 bits or more in one channel, which convert() would clip
        values = np.asarray(picture, dtype=np.float64)
        top = 65535 if picture.mode.startswith("I") and values.max(initial=0) > 255 else 255
        picture = Image.fromarray(np.clip(values * (255 / top), 0, 255).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return picture.convert(mode)


def pixels(picture: Image.Image, size: int, channels: int) -> np.ndarray:
    """A picture of mode L or RGB as uint8 (size, size, channels), cut and resized where it is not so already."""
    from PIL import Image, ImageOps

    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).reshape(size, size, channels)


def resize_array(images: np.ndarray, out: np.ndarray) -> None:
    """Resize uint8 arrays (N, H, W) or (N, H, W, C) into ``out`` (N, size, size, C)."""
    from PIL import Image

    for row, image in enumerate(images):
        out[row] = pixels(Image.fromarray(image.squeeze()), out.shape[1], out.shape[3])


def decode_files(
    paths: Sequence[Path], target: Path, size: int, channels: int, resize: bool, progress: Callable[[int], None]
) -> list[Damaged]:
    """Decode ``paths`` into the .npy file ``target``, uint8 (N, size, size, channels), in as many processes as cores.

    Args:
        progress: is told how many images are done, now and then.

    Returns:
        The images that do not decode; their rows are black.

    Raises:
        RequestError: an image has the wrong size, or a process died.
    """
    damaged: list[Damaged] = []
    np.lib.format.open_memmap(target, "w+", np.uint8, (len(paths), size, size, channels)).flush()
    names = [str(path) for path in paths]
    workers = 1 if len(names) <= FEW else os.cpu_count() or 1
    share = -(-len(names) // workers)
    parts = [
        (str(target), start, names[start : start + share], channels, resize) for start in range(0, len(names), share)
    ]
    if workers == 1:
        for found in decode_part(*parts[0]):
            if isinstance(found, int):
                progress(found)
            else:
                damaged.append(found)
        return damaged
    # Programs of their own: a fork would copy the locks of this process's threads, and multiprocessing's spawn would
    # run the caller's script again.
    command = [sys.executable, "-c", "from cnnbench.data.decode import worker; worker()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in parts
    ]
    try:
        for process, part in zip(processes, parts, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(part))
            process.stdin.close()
        done = [0] * len(processes)
        waiting = dict(enumerate(processes))
        while waiting:
            for index, process in list(waiting.items()):
                assert process.stdout is not None
                answer = json.loads(process.stdout.readline() or "null")
                if answer is None:
                    del waiting[index]
                    if process.wait() != 0:
                        raise RequestError(f"a process that decodes images ended with status {process.returncode}")
                elif isinstance(answer, str):
                    raise RequestError(answer)
                elif isinstance(answer, list):
                    damaged.append((answer[0], answer[1]))
                else:
                    done[index] = answer
                    progress(sum(done))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return sorted(damaged)


def decode_part(target: str, start: int, paths: list[str], channels: int, resize: bool) -> Iterator[int | Damaged]:
    """Decode some files into the rows of ``target`` from ``start`` on; yields how many are done, now and then, and each
    that does not decode."""
    array = np.load(target, mmap_mode="r+", allow_pickle=False)
    for index, path in enumerate(paths, start=1):
        try:
            array[start + index - 1] = read_picture(Path(path), array.shape[1], channels, resize)
        except Undecodable as error:
            yield start + index - 1, str(error)
        if index % CHUNK == 0 or index == len(paths):
            yield index


def worker() -> None:
    """Decode the part that standard input asks for; each line printed is a number of images done, a
    damaged one, or an error."""
    try:
        for done in decode_part(*json.load(sys.stdin)):
            print(json.dumps(done), flush=True)
    except RequestError as error:
        print(json.dumps(str(error)), flush=True)
