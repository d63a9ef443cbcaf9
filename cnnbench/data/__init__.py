"""Images: where they come from (sources), the prepared store, splits, batches, and the LightningDataModule.

The sources and the store need neither torch nor Lightning, so these are imported with the module that does.
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
