"""Files of ``numpy.savez``, read without executing code, and only where they fit in memory."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from cnnbench.utils.errors import RequestError, one_line
from cnnbench.utils.memory import free_memory


def read_npz(path: Path, prefix: str = "", most: float = math.inf) -> dict[str, np.ndarray]:
    """The arrays whose names begin with ``prefix``. Raises RequestError, where possible before one is read: they are not plain
    or not whole, or take more than ``most`` bytes, or than the memory that is free."""
    try:
        with zipfile.ZipFile(path) as file:
            parts = [part for part in file.infolist() if part.filename.startswith(prefix)]
            needed, most = sum(_bytes_of(file, part) for part in parts), min(most, free_memory())
            if needed > most:
                raise ValueError(f"it takes {needed / 1e9:,.1f} GB of memory, where {most / 1e9:,.1f} GB may be used")
            arrays = (npy.read_array(file.open(part), allow_pickle=False) for part in parts)
            return {part.filename.removesuffix(".npy"): array for part, array in zip(parts, arrays, strict=True)}
    except Exception as error:  # whatever a damaged file makes them raise
        raise RequestError(f"{path} cannot be read as an .npz of plain arrays ({one_line(error)})") from error


def _bytes_of(file: zipfile.ZipFile, part: zipfile.ZipInfo) -> int:
    """What an array will take in memory, by its header, which is held against the size of the file in the zip."""
    if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack blocks of any size at once
        raise ValueError(f"{part.filename} is not compressed as numpy does it")
    with file.open(part) as whole:
        head = io.BytesIO(whole.read(2**14))  # numpy reads headers of up to 10,000 bytes
    read_header = npy.read_array_header_1_0 if npy.read_magic(head) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(head)
    size = 0 if dtype.hasobject else abs(math.prod(shape)) * (dtype.itemsize or 1)  # objects are refused when read
    if head.tell() + size > part.file_size:
        raise ValueError(f"{part.filename} is shorter than its header says")
    return max(size, 32 * (*shape, 1)[0])  # of a row, while labels are converted and sorted
