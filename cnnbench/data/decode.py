"""Image files to pixels. Without torch, so that the processes which decode a set start at once."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image, ImageOps

from cnnbench.utils.errors import RequestError

with suppress(ImportError):  # iPhones' .heic, where this is installed
    import pillow_heif  # type: ignore[import-not-found]

    pillow_heif.register_heif_opener()

# What is opened: formats of pixels. Of others Pillow starts programs (EPS), or hands them to a library of the system.
RASTER = (
    "AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FLI", "FTEX", "GIF", "HEIF", "ICNS", "ICO", "IM", "JPEG",
    "JPEG2000", "MPO", "MSP", "PCD", "PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA", "TIFF",
    "WEBP", "XBM", "XPM",
)  # fmt: skip
WHITES = (1, 255, 1023, 4095, 16383, 65535)  # white: of 1.0, and of 8, 10, 12, 14 and 16 bits
CHUNK = 256  # images of one task, and between two reports on progress
SERIAL = 2_000  # up to this many images, other processes are not worth their start
IDLE_SECONDS = 2  # after which a process without a task ends
EXIF_ORIENTATION = 0x0112


class UndecodableImage(RequestError):
    """A file is no image, or a damaged one."""


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large, but not too large

Range = Sequence[float]  # the values of black and white
Extremes = tuple[float, float, bool]  # lowest and highest value of an image, and whether its values are whole numbers
Deep = dict[int, Extremes]  # by row, of grey of more than 8 bits
Findings = tuple[dict[int, str], Deep]  # by row the error messages of what does not decode, and deep grey
Show = Callable[[int], None]  # called now and then with the number of images that are done


@cache
def image_formats() -> tuple[str, ...]:
    """The formats that are opened, of Pillow and of plugins that have been registered with it, in its order."""
    Image.init()
    return tuple(name for name in Image.ID if name in RASTER)


@contextmanager
def raster_only() -> Iterator[None]:
    """Within this, what Pillow opens for others, such as torchvision, is of these formats too."""
    Image.init()
    known, Image.ID[:] = list(Image.ID), image_formats()
    try:
        yield
    finally:
        Image.ID[:] = known


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file; raises UndecodableImage, with its name, where it cannot be opened or what is done to it fails."""
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise OSError("it is no file")  # a pipe would be waited for
        with Image.open(path, formats=image_formats()) as file:
            yield file
    except Image.DecompressionBombError as error:
        limit = f"{2e-6 * (Image.MAX_IMAGE_PIXELS or 0):.0f} million pixels"
        raise UndecodableImage(f"{path} has more than {limit}; make a smaller copy of it") from error
    except Exception as error:
        reason = " ".join(str(error).split()).replace(f" {str(path)!r}", "")
        raise UndecodableImage(f"{path} cannot be decoded as an image ({reason})") from error


def image_dimensions(path: Path) -> tuple[int, int]:
    """(width, height) from an image file's header, upright; raises UndecodableImage."""
    with open_image(path) as file:
        return file.size[::-1] if file.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8) else file.size


def find_range(images: Iterable[Extremes]) -> Range:
    """One scale for all these images: from 0 to the white of the smallest usual depth that holds them, and where there is
    none, or a value is negative, or floats stay below half of it, from the lowest value to the highest."""
    lows, highs, whole = zip(*images, strict=True)
    low, high = min(lows), max(highs)
    white = next((white for white in WHITES[any(whole) :] if white >= high), None)
    if white is not None and white > 1 and not any(whole) and 2 * high < white:
        white = None  # 1.2 is no shade of 255
    return (0, white) if white is not None and low >= 0 else (low, high if high > low else low + 1)


def decode_image(
    path: Path, size: int, channels: int, resize: bool, value_range: Range | None = None
) -> tuple[np.ndarray, Extremes | None]:
    """One image file as uint8 (size, size, channels), and its extremes where it has more than 8 bits of grey.

    It is turned upright (EXIF); transparency is laid over black; of an animation the first frame is taken; deep grey is
    scaled from ``value_range``, or from what this image alone suggests; the middle square is cut out and resized
    (bilinear, antialiased). Raises UndecodableImage where the file does not decode, and RequestError where it has another
    size, without ``resize``.
    """
    extremes = None
    with open_image(path) as file:
        ImageOps.exif_transpose(file, in_place=True)  # a copy of a large image is hundreds of MB, so few are made
        image: Image.Image = file
        if image.mode.startswith(("I", "F")):  # which convert() would clip
            values = np.array(image, dtype=np.float64)
            if image.mode == "F":
                known = np.isfinite(values)
                if not known.any():
                    raise ValueError("no pixel is a finite number")
                low, high = values.min(where=known, initial=np.inf), values.max(where=known, initial=-np.inf)
                np.nan_to_num(values, copy=False, posinf=high, neginf=low)  # what is no number is 0
                del known
            extremes = float(values.min(initial=0)), float(values.max(initial=0)), image.mode.startswith("I")
            black, white = value_range or find_range([extremes])
            values -= black  # in place, for these are eight times what the image is shown in
            values *= 255 / (white - black)
            image = Image.fromarray(np.clip(values, 0, 255, out=values).round(out=values).astype(np.uint8))
            del values
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layer = image if image.mode == "RGBA" else image.convert("RGBA")
            image = Image.new("RGB", layer.size)
            image.paste(layer, mask=layer)
        if (mode := "L" if channels == 1 else "RGB") != image.mode or image is file:
            image = image.convert(mode)
    if image.size != (size, size) and not resize:
        own, others = f"{image.width}x{image.height}", f"{size}x{size}"
        raise RequestError(f"{path} is {own} where others are {others}; set data.image_size, for example to 64")
    return _square(image, size), extremes


def resize_array(image: np.ndarray, size: int) -> np.ndarray:
    """One image, uint8 (H, W) or (H, W, C), as (size, size, C), in the same way."""
    return _square(Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image), size)


def _square(image: Image.Image, size: int) -> np.ndarray:
    """An image of mode L or RGB as uint8 (size, size, channels), cut and resized where it is not so already."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(size, size, -1)


def decode_files(
    paths: Sequence[Path], rows: Sequence[int], target: np.memmap, resize: bool, value_range: Range | None,
    progress: Show,
) -> Findings:  # fmt: skip
    """Decode the ``paths`` in these ``rows`` into those of a mapped .npy file, uint8 (N, size, size, channels), in as many
    processes as cores. Raises RequestError where an image has the wrong size, or a process died, at which images."""
    begun = np.memmap(f"{target.filename}.begun", bool, "w+", shape=len(paths))  # and not ended
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    jobs = 1 if len(rows) <= SERIAL else -1
    parallel = Parallel(jobs, backend="loky", return_as="generator", idle_worker_timeout=IDLE_SECONDS)
    undecodable, deep = findings = dict[int, str](), Deep()
    work = ((target.filename, chunk, [paths[row] for row in chunk], resize, value_range) for chunk in chunks)
    try:
        for number, found in enumerate(parallel(delayed(decode_chunk)(*one) for one in work), 1):
            undecodable |= found[0]
            deep |= found[1]
            progress(min(number * CHUNK, len(rows)))
    except BrokenProcessPool as error:
        names = " or ".join(str(path) for path, busy in zip(paths, begun, strict=True) if busy) or "its start"
        raise RequestError(f"a process that decodes images was killed, at {names}; is memory short?") from error
    finally:
        Path(f"{target.filename}.begun").unlink()
    return findings


def decode_chunk(
    target: Path, rows: Sequence[int], paths: Sequence[Path], resize: bool, value_range: Range | None
) -> Findings:
    """Decode ``paths`` into these rows of ``target``, as ``decode_files`` does; rows that do not decode stay black."""
    array, begun = np.load(target, mmap_mode="r+", allow_pickle=False), np.memmap(f"{target}.begun", bool, "r+")
    undecodable, deep = findings = dict[int, str](), Deep()
    for row, path in zip(rows, paths, strict=True):
        begun[row] = True
        try:
            array[row], extremes = decode_image(path, array.shape[1], array.shape[3], resize, value_range)
            if extremes is not None:
                deep[row] = extremes
        except UndecodableImage as error:
            undecodable[row] = str(error)
        begun[row] = False
    return findings
