"""Files of ``torch.save``, read without executing code and with their checksums checked, as torch alone does not."""

import errno
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

from cnnbench.utils.errors import one_line
from cnnbench.utils.memory import is_out_of_memory


class DamagedFileError(ValueError):
    """The file is not what was written, or is not a file of torch."""


class UnsafeFileError(ValueError):
    """The file holds other objects than tensors and plain values, which are not loaded, for that could execute code."""


def read_torch_file(path: Path) -> Any:
    """What the file holds, its tensors on the CPU. Raises DamagedFileError or UnsafeFileError (torch's old format, which is
    no zip file, has no checksums), and OSError or MemoryError where it cannot be read now, which says nothing of it."""
    import torch

    try:
        if is_torch_zip(path) or zipfile.is_zipfile(path):  # zipfile looks for its end only
            with zipfile.ZipFile(path) as parts:
                if (wrong := parts.testzip()) is not None:
                    raise ValueError(f"{wrong} in it has changed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of, it fails at
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(f"{path} holds what is not loaded, for that could execute code: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes them raise
        if is_out_of_memory(error):
            raise MemoryError(f"not enough memory to read {path}") from error
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a wrong offset in it gives
            raise
        raise DamagedFileError(f"{path} is damaged ({one_line(error)})") from error


def is_torch_zip(path: Path) -> bool:
    """Whether the file begins as torch's format of today, in which all parts have checksums. Raises DamagedFileError for
    what is no file, such as a pipe, which would be waited for."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DamagedFileError(f"{path} is no file")
    with path.open("rb") as file:
        return file.read(2) == b"PK"
