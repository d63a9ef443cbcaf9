"""Images: where they come from (sources), the cache of decoded sets, splits, batches, and the LightningDataModule.

Sources and cache need neither torch nor Lightning, which the processes that decode would take seconds to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.data.datamodule import ImageDataModule

__all__ = ["ImageDataModule"]


def __getattr__(name: str) -> Any:
    if name == "ImageDataModule":
        from cnnbench.data.datamodule import ImageDataModule

        return ImageDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
