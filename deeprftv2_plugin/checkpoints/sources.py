"""Find weights in a file, in this package, or on the Hugging Face Hub."""

import os
import re
from pathlib import Path

from deeprftv2_plugin.utils.errors import UserError, first_line

SHIPPED = 'deblur'
"""Name of the weights that come with the package."""
HUB_FILE = 'model.safetensors'
"""Name of the weight file in a repository on the Hub, and in a folder written by `save_pretrained`."""
SUFFIXES = ('.safetensors', '.pth', '.pt')
_REPOSITORY = re.compile(r'[\w][\w.-]*/[\w][\w.-]*')


def shipped_weights() -> Path:
    """Return the path of the weights that come with the package.

    Raises:
        UserError: The package was installed without them.
    """
    path = Path(__file__).parents[1] / 'weights' / f'{SHIPPED}.safetensors'
    if not path.is_file():
        raise UserError(f'{path}: this installation has no weights; use the path of a checkpoint')
    return path


def find_weights(source: str | os.PathLike = SHIPPED) -> Path:
    """Return the path of weights.

    Args:
        source: A file; a folder written by `Restorer.save_pretrained`; 'deblur' for the weights that come with the
            package, even if there is a file or folder of this name, which is './deblur'; or 'owner/name', a repository
            on the Hugging Face Hub, whose `model.safetensors` is downloaded to the cache of `huggingface_hub`.

    Raises:
        UserError: The weights do not exist or cannot be downloaded.
    """
    if source == SHIPPED:
        return shipped_weights()
    path = Path(source)
    if path.is_dir():
        return path / HUB_FILE
    if os.path.lexists(path) or path.suffix in SUFFIXES:
        return path
    if _REPOSITORY.fullmatch(str(source)):
        return _download(str(source))
    raise UserError(
        f'{source}: no such weights; expected a .pth or .safetensors file, {SHIPPED} for the bundled weights, or '
        'owner/name on the Hugging Face Hub'
    )


def _download(repository: str) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f'{repository}: no such file. To download it from the Hugging Face Hub, install another package: '
            "pip install 'deeprftv2-plugin[hub]'"
        ) from error
    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # the Hub, HTTP and the file system can raise many types of exceptions
        raise UserError(
            f'{repository}: neither a file nor a repository of the Hugging Face Hub from which {HUB_FILE} can be '
            f'downloaded ({type(error).__name__}: {first_line(error)})'
        ) from error
