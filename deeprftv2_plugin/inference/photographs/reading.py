"""Read photographs from files."""

import functools
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from deeprftv2_plugin.data.storage.decoding import BITS, damaged, decode_unchanged, find_damage
from deeprftv2_plugin.data.storage.images import StoredImage, full_scale
from deeprftv2_plugin.inference.photographs import tiff
from deeprftv2_plugin.inference.photographs.jpeg import kept_segments
from deeprftv2_plugin.inference.photographs.photograph import (
    ORIENTATION,
    SIDEWAYS,
    Metadata,
    Photograph,
    descriptive_exif,
    upright,
    upright_exif,
)
from deeprftv2_plugin.inference.photographs.png import kept_chunks
from deeprftv2_plugin.utils.errors import UserError, first_line

NOT_PHOTOGRAPHS = frozenset({'BUFR', 'EPS', 'FLI', 'GRIB', 'HDF5', 'MPEG', 'WMF'})
"""Formats of Pillow that are refused: programs executed by Ghostscript, videos and measurement data."""
FIRST_IMAGE = ('MPO', 'PSD')
"""Formats whose first image is the photograph. Other images in these files are previews, layers or stereo images."""
COLOR = ('RGB', 'RGBX', 'P', 'YCbCr', 'HSV')
GRAY = ('1', 'L')
MAX_DPI = 65_535
"""Maximum resolution in pixels per inch that JPEG files can store. Larger ones are errors of other programs."""
HEIC = ('.heic', '.heif')
HEIC_HINT = "HEIC needs another package: pip install 'deeprftv2-plugin[heic]'"


@functools.cache
def formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that can be read, including HEIC if pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_PHOTOGRAPHS)


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Return the lower-case suffixes of these formats, always including HEIC, so that an error says what to install."""
    known = (*formats(), 'MPO')  # which is read by the plugin for JPEG
    return (*(suffix for suffix, name in Image.registered_extensions().items() if name in known), *HEIC)


def lacks_heic(path: str | Path) -> bool:
    """Return whether a file name stands for HEIC and pillow-heif is not installed."""
    return Path(path).suffix.lower() in HEIC and 'HEIF' not in formats()


def read(path: str | Path) -> Photograph:
    """Read a photograph from a file of any format that Pillow reads, and rotate it according to its EXIF data.

    Grayscale images remain grayscale. Palettes and CMYK are converted to RGB, CMYK with its ICC profile if it has one.
    16 bits of PNG and TIFF files and floating-point numbers of TIFF files are kept. Other formats are read with 8 bits.

    Raises:
        UserError: The file cannot be read, is not an image, is damaged or too large (Pillow's limit is 179 megapixels),
            has several pages or frames, or has pixels of an unsupported kind.
    """
    name = str(path)
    data = StoredImage(name).read_bytes()
    damage = find_damage(data)
    if damage:
        raise damaged(name, damage)
    with _readable_errors(name):
        page = tiff.only_page(data, name) if tiff.is_tiff(data) else None
        if page is not None:
            tiff.require_known_pixels(page, name)
            if max(page.get(BITS, (1,))) > 8:
                return _deep_tiff(data, name, page)
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            if image.format == 'PNG':
                _remove_texts(image.info)
            frames = getattr(image, 'n_frames', 1)
            if frames > 1 and image.format not in FIRST_IMAGE and page is None:
                raise UserError(f'the image {name} has {frames} frames, expected one: save them as separate files')
            if page is None:
                orientation = _orientation_of(image)
                metadata = _metadata(image.info, _exif_of(image), orientation)
            else:  # Pillow already rotates TIFF files
                orientation, metadata = 1, _tiff_metadata(image.info, data, page)
            if image.format == 'PNG':
                metadata = metadata._replace(png=kept_chunks(data))
                if image.mode == 'L' and data[24] < 8 and isinstance(key := image.info.get('transparency'), int):
                    image.info['transparency'] = key * 255 // (2 ** data[24] - 1)  # Pillow only scales the pixels
            if image.format in ('JPEG', 'MPO'):
                metadata = metadata._replace(jpeg=kept_segments(image.info))
            if image.format == 'PNG' and data[24] == 16:
                photo = from_array(decode_unchanged(data, name), name)._replace(metadata=metadata)
                if data[25] == 0 and isinstance(key := image.info.get('transparency'), int):  # ignored by OpenCV
                    photo = photo._replace(alpha=np.where(photo.pixels == key, 0, 65535).astype(np.uint16))
                if data[25] == 4:  # gray with transparency, which OpenCV returns as RGBA
                    photo = photo._replace(pixels=photo.pixels[..., 0])
            else:
                photo = from_pillow(image, name, metadata)
    return _turned(photo, orientation)


def from_pillow(image: Image.Image, name: str, metadata: Metadata) -> Photograph:
    """Convert a Pillow image without rotating it.

    Args:
        image: The image.
        name: Name of the image in error messages.
        metadata: Metadata of the image. A CMYK profile is replaced.

    Raises:
        UserError: The pixels are of an unsupported kind.
    """
    if image.mode == 'CMYK':
        image, metadata = _without_cmyk(image, metadata)
    if image.mode in ('F', 'I;16', 'I;16L', 'I;16B', 'I;16N'):
        array = np.asarray(image).astype(np.float32 if image.mode == 'F' else np.uint16)  # in native byte order
        return from_array(array, name)._replace(metadata=metadata)
    mode = image.mode.removesuffix('A').removesuffix('a')  # RGBA, LA, PA; RGBa and La are multiplied by alpha
    if mode not in (*COLOR, *GRAY):
        raise UserError(f'the image {name} has pixels of mode {image.mode}, expected RGB, grayscale, CMYK or a palette')
    target = 'L' if mode in GRAY else 'RGB'
    if image.has_transparency_data:
        if image.mode == 'La':
            image = image.convert('LA')
        *_, alpha = bands = image.convert(f'{target}A').split()
        pixels = np.dstack([np.asarray(band) for band in bands[:-1]])
        return Photograph(pixels[..., 0] if target == 'L' else pixels, np.asarray(alpha), metadata)
    return Photograph(np.asarray(image.convert(target)), None, metadata)


def from_array(array: np.ndarray, name: str) -> Photograph:
    """Separate the transparency of an array (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        UserError: The array does not have type uint8, uint16, or floating-point numbers in [0, 1].
    """
    if array.dtype.kind == 'f':
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):
            raise UserError(
                f'the image {name} has values from {float(low)} to {float(high)}, expected 0 to 1: rescale or clip them'
            )
    elif array.dtype.newbyteorder('=') not in (np.uint8, np.uint16):
        raise UserError(f'the image {name} has type {array.dtype}, expected uint8, uint16 or floating-point numbers')
    if array.ndim == 3 and array.shape[2] == 4:
        return Photograph(np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3]))
    return Photograph(array)


def _deep_tiff(data: bytes, name: str, page: ImageFileDirectory_v2) -> Photograph:
    """Decode a TIFF file with more than 8 bits. OpenCV applies the orientation."""
    pixels = page.get(tiff.WIDTH, 0) * page.get(tiff.HEIGHT, 0)
    limit = 2 * (Image.MAX_IMAGE_PIXELS or pixels)
    if pixels > limit:
        raise _too_large(name, f'{pixels:,} pixels, limit {limit:,}')
    photo = from_array(decode_unchanged(data, name), name)
    if page.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO:
        photo = photo._replace(pixels=full_scale(photo.pixels) - photo.pixels)
    extra = page.get(tiff.EXTRA)
    if extra == (tiff.UNSPECIFIED,):
        photo = photo._replace(alpha=None)
    if extra == (tiff.PREMULTIPLIED,) and photo.alpha is not None:
        photo = photo._replace(pixels=_divided(photo.pixels, photo.alpha))
    found = {'icc_profile': page.get(tiff.ICC), 'xmp': page.get(tiff.XMP)}
    return photo._replace(metadata=_tiff_metadata(found, data, page))


def _divided(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the original colors of pixels that are multiplied by their opacity."""
    full = full_scale(alpha)
    scale = np.divide(full, alpha, out=np.zeros(alpha.shape), where=alpha > 0)[..., None]
    divided = np.minimum(pixels * scale, full)
    return (divided if full == 1 else np.rint(divided)).astype(pixels.dtype)


def _remove_texts(info: dict[Any, Any]) -> None:
    """Remove texts of a PNG file, which Pillow stores like other information, except those with EXIF data."""
    for name, value in list(info.items()):
        if isinstance(value, str) and not name.startswith('Raw profile type '):
            del info[name]


def _turned(photo: Photograph, orientation: int) -> Photograph:
    alpha = None if photo.alpha is None else upright(photo.alpha, orientation)
    return photo._replace(pixels=upright(photo.pixels, orientation), alpha=alpha)


def _tiff_metadata(info: dict, data: bytes, page: ImageFileDirectory_v2) -> Metadata:
    info = info | {'dpi': tiff.dpi_of(page)}  # Pillow returns 1 if the file does not contain it
    return _metadata(info, descriptive_exif(tiff.exif_of(data, page)), page.get(ORIENTATION, 1))


def _metadata(info: dict, exif: bytes, orientation: int) -> Metadata:
    """Return the metadata of an image after its rotation, without values of types that no file should contain.

    Args:
        info: The information that Pillow has read from the file.
        exif: The EXIF data of the rotated image.
        orientation: The orientation in the file.
    """
    icc, xmp = (value if isinstance(value, bytes) else b'' for value in map(info.get, ('icc_profile', 'xmp')))
    xmp = re.sub(rb'(tiff:Orientation(="|>))[2-8]', rb'\g<1>1', xmp)
    xmp = re.sub(rb'(Camera:(MotionPhoto|MicroVideo)(="|>))1', rb'\g<1>0', xmp)  # videos are not copied
    dpi = info.get('dpi')
    if dpi is not None:
        dpi = float(dpi[0]), float(dpi[1])
        dpi = dpi[::-1] if orientation in SIDEWAYS else dpi
    return Metadata(exif, icc, xmp, dpi if dpi and all(0 < each <= MAX_DPI for each in dpi) else None)


def _exif_of(image: Image.Image) -> bytes:
    """Return the EXIF data of an image, empty if it is damaged."""
    try:
        data = image.info.get('exif') or (image.getexif().tobytes() if len(image.getexif()) else b'')
        return upright_exif(re.sub(rb'^(Exif\0\0)+', b'', data))
    except Exception:  # damaged data can cause any exception
        return b''


def _orientation_of(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # as above
        return 1


def _without_cmyk(image: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """Convert CMYK to sRGB, with its ICC profile if it has one that can be used."""
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc)),
            target,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode='RGB',
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):  # no profile, a damaged one, or one for other colors
        return image.convert('RGB'), metadata._replace(icc=b'')
    assert converted is not None  # None is returned only for conversions in place
    return converted, metadata._replace(icc=target.tobytes())


@contextmanager
def _readable_errors(name: str) -> Iterator[None]:
    """Convert Pillow's errors into a `UserError`."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # at half the size that raises an error
        warnings.simplefilter('ignore', UserWarning)  # about damaged metadata
        try:
            yield
        except (UserError, MemoryError):
            raise
        except Image.UnidentifiedImageError as error:
            hint = f'. {HEIC_HINT}' if lacks_heic(name) else ''
            raise UserError(f'{name} is not an image in a format that Pillow reads{hint}') from error
        except Image.DecompressionBombError as error:
            found = re.findall(r'\d+', str(error))
            raise _too_large(name, f'{int(found[0]):,} pixels, limit {int(found[-1]):,}') from error
        except Exception as error:
            raise damaged(name, first_line(error)) from error


def _too_large(name: str, numbers: str) -> UserError:
    return UserError(f'the image {name} is too large ({numbers}): cut it into parts')
