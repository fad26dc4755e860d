"""The photographs inside the scikit-image wheel: sharp pictures on every disk, without a download."""

import importlib.util
from pathlib import Path

from deeprftv2_plugin.utils.errors import UserError

# Real and sharp. Left out are drawings, renderings, and photographs that are soft (moon, cell, text) or tiny.
TRAINING = (
    'brick.png',
    'chelsea.png',
    'coffee.png',
    'coins.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'motorcycle_left.png',
    'motorcycle_right.png',
    'retina.jpg',
    'rocket.jpg',
)
HELD_OUT = ('astronaut.png', 'camera.png')
# Taken by a moving camera: no sharp version exists, so it is in neither list.
TRULY_BLURRED = 'clock_motion.png'


def photograph(name: str) -> Path:
    """Path of a photograph of scikit-image, such as 'coffee.png'.

    Raises:
        UserError: scikit-image or the photograph is missing.
    """
    package = importlib.util.find_spec('skimage')
    if package is None:
        raise UserError(
            'the embedded photographs are those of scikit-image, which is not installed: pip install scikit-image'
        )
    # The functions of skimage.data would download a file that is absent; the folder never does.
    path = Path(package.origin).parent / 'data' / name
    if not path.is_file():
        raise UserError(
            f'the photograph {path} is missing, so this scikit-image is not the usual wheel: '
            'pip install --force-reinstall scikit-image'
        )
    return path
