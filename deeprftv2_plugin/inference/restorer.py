"""Deblur NumPy arrays, Pillow images, tensors and photographs with one object."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import OPTIONS, write_checkpoint
from deeprftv2_plugin.checkpoints.networks import network_with_settings
from deeprftv2_plugin.checkpoints.sources import HUB_FILE, SHIPPED, find_weights
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.inference.memory import restore_in_memory
from deeprftv2_plugin.inference.photographs.photograph import Metadata, Photograph
from deeprftv2_plugin.inference.photographs.reading import from_array, from_pillow
from deeprftv2_plugin.inference.photographs.writing import convert, to_pillow
from deeprftv2_plugin.inference.restoration import MIN_SIZE, check_tiles
from deeprftv2_plugin.inference.tile_choice import SMALLEST, best_tile
from deeprftv2_plugin.ops.tiles import TileGrid
from deeprftv2_plugin.utils.errors import UserError, first_line, shortened
from deeprftv2_plugin.utils.memory import available_memory

TILES = (1024, 640, 512, 384, SMALLEST)
"""Tile sizes, from which one is chosen by the free memory."""
LARGEST_ON_CPU = 640
"""Largest tile size on a CPU, where tiles of 1024 take 1.5 times as long."""
BYTES = 128
"""Memory of a network in evaluation mode, in bytes per pixel and channel of the finest level, measured on a CPU."""
OVERLAP = 32
"""Overlap of tiles in pixels. Measured with the bundled weights, the PSNR does not depend on it between 16 and 64."""
SHARE = 0.5
"""Fraction of the free memory that is used for the tiles restored at the same time."""

Kind = TypeVar('Kind', np.ndarray, Tensor, Image.Image)


def load(
    weights: str | os.PathLike = SHIPPED,
    *,
    device: str | torch.device | None = None,
    tile: int | None = None,
    ensemble: bool = False,
    bf16: bool = False,
) -> 'Restorer':
    """Load a network and return a function that deblurs images.

    Args:
        weights: A .pth or .safetensors file of this package or of the authors, a folder written by
            `Restorer.save_pretrained`, or 'owner/name', a repository on the Hugging Face Hub (requires
            `huggingface_hub`). Default: the weights that come with the package. If a file contains averaged weights,
            these are loaded.
        device: Device of the network. Default: a GPU if there is one.
        tile: As in `Restorer`.
        ensemble: As in `Restorer`.
        bf16: As in `Restorer`.

    Raises:
        UserError: The weights do not exist, or are not those of a DeepRFTv2.

    Example:
        Deblur an image and write it to a file::

            from PIL import Image
            from deeprftv2_plugin import load

            load()(Image.open('blurry.png')).save('sharp.png')
    """
    net, settings = network_with_settings(find_weights(weights))
    return Restorer(net, device, tile, ensemble, bf16, settings)


class Restorer:
    """Deblur images with a network.

    Args:
        net: A network for three channels.
        device: Device to which it is moved. Default: a GPU if there is one.
        tile: Height and width of tiles in pixels. Default: depends on the free memory. Tiles are halved if there is not
            enough memory.
        ensemble: Average over the eight flips and rotations of an image, which takes eight times as long.
        bf16: Compute in bfloat16 where possible.
        settings: Keyword arguments of the network, for `save_pretrained`.

    Raises:
        UserError: The network does not have three channels, or the tile or the device is not suitable.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.archs import DeepRFTv2
        >>> from deeprftv2_plugin.inference import Restorer
        >>> deblur = Restorer(DeepRFTv2('T'))
        >>> sharp = deblur(np.zeros((32, 45, 3), np.uint8))
        >>> sharp.shape, sharp.dtype
        ((32, 45, 3), dtype('uint8'))
    """

    def __init__(
        self,
        net: DeepRFTv2,
        device: str | torch.device | None = None,
        tile: int | None = None,
        ensemble: bool = False,
        bf16: bool = False,
        settings: dict | None = None,
    ):
        self.device = _device(device)
        self.tile, self.ensemble, self.bf16, self.settings = tile, ensemble, bf16, settings
        head = cast(nn.Conv2d, cast(nn.Module, net.stages[-1]).full_head)
        self._width = head.weight.shape[1]
        first = next(weight for name, weight in net.named_parameters() if name.endswith('before.first.weight'))
        if (first.shape[1], head.weight.shape[0]) != (3, 3):
            raise UserError(f'the network has {first.shape[1]} input channels, expected 3: use weights for RGB images')
        if tile is not None:
            if not isinstance(tile, int) or tile < 1:
                raise UserError(f'the tile size is {tile!r}, expected a positive number of pixels')
            check_tiles(net, tile, overlap_of(tile))
        self.net = net.to(self.device).eval()

    def __call__(self, image: Kind) -> Kind:
        """Deblur an image.

        Args:
            image: An array (H, W) or (H, W, 3), a Pillow image, or a tensor (C, H, W) or (N, C, H, W) with one or three
                channels. RGB or grayscale; uint8, uint16, or floating-point numbers in [0, 1].

        Returns:
            An image of the same kind, size and type, clamped to the range of the type; a tensor is on the same device.
            Transparency is kept. Pillow images of other modes, such as P and CMYK, are returned as L, RGB, LA or RGBA.
            They are not rotated according to their EXIF data.

        Raises:
            UserError: The kind, shape, type or range of the image is not supported.
        """
        if isinstance(image, Tensor):
            return self._tensor(image)
        if isinstance(image, np.ndarray):
            if image.ndim != 2 and image.shape[2:] != (3,):
                raise UserError(f'the array has shape {image.shape}, expected (H, W) or (H, W, 3)')
            _check_size(image.shape)
            return self.pixels(from_array(np.asarray(image), 'given as an array').pixels)
        if isinstance(image, Image.Image):
            _check_size(image.size)
            return self._pillow(image)
        raise UserError(
            f'the image is of type {type(image).__name__}, expected a NumPy array, a Pillow image or a tensor'
        )

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """Deblur gray values (H, W) or RGB (H, W, 3): uint8, uint16, or floating-point numbers in [0, 1]."""
        restored = self._restore(to_tensor(image)[None]).clamp_(0, 1)[0].permute(1, 2, 0).numpy().reshape(image.shape)
        return restored.astype(image.dtype) if image.dtype.kind == 'f' else convert(restored, image.dtype)

    def photograph(self, photo: Photograph) -> Photograph:
        """Deblur a photograph. Transparency and metadata are unchanged."""
        return photo._replace(pixels=self.pixels(photo.pixels))

    def passes(self, height: int, width: int) -> int:
        """Return the number of forward passes for an image of this size."""
        size = self._padded(height, width)
        tile, overlap = self.tiles(height, width)
        return len(TileGrid(size, tile, overlap)) * (8 if self.ensemble else 1)

    def tiles(self, height: int, width: int) -> tuple[tuple[int, int], int]:
        """Return the height and width of the tiles for an image of this size, and their overlap, in pixels.

        Without a given tile size, the maximum size depends on the free memory, and `best_tile` chooses the tiles.
        """
        if self.tile is not None:
            return (self.tile, self.tile), overlap_of(self.tile)
        if self.device.type == 'cuda':
            cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            free: int | None = torch.cuda.mem_get_info(self.device)[0] + cached
        else:
            free = available_memory()
        largest = SMALLEST
        if free is not None:
            free -= 4 * 3 * 4 * height * width  # the whole image, the result, and their copies
            needed = BYTES * self._width * self._workers
            sizes = TILES if self.device.type == 'cuda' else [size for size in TILES if size <= LARGEST_ON_CPU]
            largest = next((size for size in sizes if needed * size**2 <= SHARE * free), largest)
        overlap, estimator = overlap_of(largest), self.net.stages[0].full_estimator
        windows = getattr(estimator, 'window', None), getattr(estimator, 'overlap', (0, 0))
        return best_tile(self._padded(height, width), largest, overlap, self.net.size_multiple, *windows), overlap

    def save_pretrained(self, folder: str | os.PathLike) -> Path:
        """Write the network to `model.safetensors` in a folder, which `load` can read, also on the Hugging Face Hub.

        Returns:
            The path of the file.

        Raises:
            UserError: The arguments of the network are not known.
            OSError: The file cannot be written.
        """
        if self.settings is None:
            raise UserError(
                'the arguments of the network are not known: use deeprftv2_plugin.load, or '
                'Restorer(net, settings={...})'
            )
        options = json.dumps({'network_g': {'type': type(self.net).__name__, **self.settings}})
        path = Path(folder) / HUB_FILE
        state = {name: value.cpu() for name, value in self.net.state_dict().items()}
        write_checkpoint({'params': state}, path, {OPTIONS: options})
        return path

    def _restore(self, x: Tensor) -> Tensor:
        """Restore float32 images (N, C, H, W) with one or three channels, and return them on the CPU."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, max(0, MIN_SIZE - width), 0, max(0, MIN_SIZE - height)), mode='replicate')
        color = x.to(self.device).expand(-1, 3, -1, -1)
        tile, overlap = self.tiles(*x.shape[-2:])
        current = torch.cuda.device(self.device) if self.device.type == 'cuda' else nullcontext()  # Triton requires it
        with current, torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out, _ = restore_in_memory(self.net, color, tile, overlap, self.ensemble, self._workers)
        out = out[..., :height, :width]
        return (out.mean(1, keepdim=True) if x.shape[1] == 1 else out).cpu()

    @property
    def _workers(self) -> int:
        """Return the number of tiles to restore at the same time."""
        if self.device.type == 'cuda':
            return 1
        threads, free = torch.get_num_threads(), available_memory()
        if free is None:
            return threads
        fitting = int(SHARE * free // (BYTES * self._width * SMALLEST**2))
        return max(1, min(fitting, threads))

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        multiple = self.net.size_multiple
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def _tensor(self, image: Tensor) -> Tensor:
        if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3):
            raise UserError(
                f'the tensor has shape {tuple(image.shape)}, expected (C, H, W) or (N, C, H, W) with 1 or 3 channels'
            )
        _check_size(image.shape)
        if image.is_floating_point():
            low, high = image.min().item(), image.max().item()
            if not (low >= 0 and high <= 1):
                raise UserError(f'the tensor has values from {low} to {high}, expected 0 to 1: rescale or clamp it')
            scale = 1
        elif image.dtype in (torch.uint8, torch.uint16):
            scale = torch.iinfo(image.dtype).max
        else:
            raise UserError(f'the tensor has dtype {image.dtype}, expected uint8, uint16 or floating-point values')
        x = image.detach().to(torch.float32).reshape(-1, *image.shape[-3:]) / scale
        out = self._restore(x).clamp_(0, 1) * scale
        out = (out.round() if scale > 1 else out).to(image.dtype)
        return out.reshape(image.shape).to(image.device)

    def _pillow(self, image: Image.Image) -> Image.Image:
        before = from_pillow(image, 'from Pillow', Metadata(icc=image.info.get('icc_profile') or b''))
        after = to_pillow(self.photograph(before))
        after.info = {key: value for key, value in image.info.items() if key not in ('transparency', 'icc_profile')}
        if before.metadata.icc:
            after.info['icc_profile'] = before.metadata.icc
        return after


def overlap_of(tile: int) -> int:
    """Return the overlap of tiles of this size, in pixels."""
    return min(OVERLAP, tile // 4)


def _check_size(shape: tuple[int, ...]) -> None:
    if not all(shape):
        raise UserError(f'the image has shape {tuple(shape)}, expected at least one pixel')


def devices(name: str | None = None) -> list[torch.device]:
    """Return all GPUs for 'cuda', otherwise the given device. Default: all GPUs if there are any, else the CPU.

    Raises:
        UserError: The device cannot be used.
    """
    first = _device(name)
    if first.type == 'cuda' and first.index is None:
        return [torch.device('cuda', index) for index in range(torch.cuda.device_count())]
    return [first]


def _device(device: str | torch.device | None) -> torch.device:
    """Return a device after checking that it exists.

    Raises:
        UserError: The device does not exist.
    """
    if device is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except Exception as error:  # each device type raises its own exception class
        raise UserError(
            f'the device is {device!r}, which cannot be used here ({shortened(first_line(error))}): use cpu or cuda'
        ) from error
    return found
