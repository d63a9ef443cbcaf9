"""Images: where they come from (sources), the prepared store, splits, batches, and the LightningDataModule."""

from cnnbench.data.module import ImageDataModule

__all__ = ["ImageDataModule"]
