"""The photographs in the scikit-image wheel: sharp images that need no download."""

import importlib.util
from pathlib import Path

from deeprftv2_plugin.utils.errors import UserError

# Sharp photographs. Drawings, renderings, and unsharp (moon, cell, text) or tiny photographs are excluded.
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
# Taken by a moving camera. There is no sharp version, so it is in neither list.
REAL_BLUR = 'clock_motion.png'


def photograph(name: str) -> Path:
    """Return the path of a scikit-image photograph, such as 'coffee.png'.

    Raises:
        UserError: scikit-image or the photograph is missing.
    """
    package = importlib.util.find_spec('skimage')
    if package is None or package.origin is None:
        raise UserError(
            'the sample photographs come with scikit-image, which is not installed: pip install scikit-image'
        )
    # The functions of skimage.data would download a missing file.
    path = Path(package.origin).parent / 'data' / name
    if not path.is_file():
        raise UserError(
            f'the photograph {path} is missing, so scikit-image was not installed from the usual wheel: '
            'pip install --force-reinstall scikit-image'
        )
    return path
