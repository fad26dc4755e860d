"""PyTorch datasets for deblurring."""

from typing import Any, Protocol


class SizedDataset(Protocol):
    """A map-style dataset with options, as BasicSR builds it."""

    opt: dict[str, Any]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...
