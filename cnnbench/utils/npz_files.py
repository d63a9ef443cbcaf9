"""Files of ``numpy.savez``, read without executing code, and only where they fit in memory: a small one may unpack to
more than there is, or claim to."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from cnnbench.utils.errors import one_line
from cnnbench.utils.memory import free_memory

MEASURED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # numpy's; others unpack a block of any size at once
HEADER_BYTES = 2**14  # numpy reads headers of up to 10,000
ROW_BYTES = 32  # of labels while they are converted and sorted, however few are stored


def read_npz(path: Path, prefix: str = "", most: float = math.inf) -> dict[str, np.ndarray]:
    """The arrays whose names begin with ``prefix``. Raises ValueError, where possible before one is read: they are not plain
    or not whole, or take more than ``most`` bytes, or than the memory that is free."""
    try:
        with zipfile.ZipFile(path) as file:
            names = {part.filename.removesuffix(".npy"): part for part in file.infolist()}
            parts = {name: part for name, part in names.items() if name.startswith(prefix)}
            needed, most = sum(_bytes_of(file, part) for part in parts.values()), min(most, free_memory())
            if needed > most:
                raise ValueError(f"it takes {needed / 1e9:,.1f} GB of memory, where {most / 1e9:,.1f} GB may be used")
            return {name: npy.read_array(file.open(part), allow_pickle=False) for name, part in parts.items()}
    except Exception as error:  # whatever a damaged file makes them raise
        raise ValueError(one_line(error)) from error


def _bytes_of(file: zipfile.ZipFile, part: zipfile.ZipInfo) -> int:
    """What an array will take in memory, by its header, which is held against the size of the file in the zip."""
    if part.compress_type not in MEASURED:
        raise ValueError(f"{part.filename} is not compressed as numpy does it")
    with file.open(part) as whole:
        head = io.BytesIO(whole.read(HEADER_BYTES))
    read_header = npy.read_array_header_1_0 if npy.read_magic(head) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(head)
    if dtype.hasobject:
        raise ValueError(f"{part.filename} has Python objects, which are not unpickled")
    size = abs(math.prod(shape)) * (dtype.itemsize or 1)
    if head.tell() + size > part.file_size:
        raise ValueError(f"{part.filename} is shorter than its header says")
    return max(size, ROW_BYTES * (*shape, 1)[0])
