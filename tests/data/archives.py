"""Small folder trees with the structure, file names and lists of the downloaded datasets."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

REALBLUR_J = 'RealBlur-J_ECC_IMCORR_centroid_itensity_ref'
REALBLUR_R = 'RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref'


def _gopro():
    for split, sequences in {'train': ('GOPR0372_07_00', 'GOPR0374_11_00'), 'test': ('GOPR0384_11_00',)}.items():
        for sequence in sequences:
            for kind in ('blur', 'blur_gamma', 'sharp'):
                for frame in ('000047', '000048'):  # names repeat in every sequence
                    yield f'{split}/{sequence}/{kind}/{frame}.png'


def _hide():
    for name in ('100fromGOPR1033.MP4', '12fromGOPR0977'):
        yield from (f'train/{name}.png', f'GT/{name}.png')
    for folder, name in (('test-close-ups', '4fromGOPR1089.MP4'), ('test-long-shot', '98fromGOPR0950')):
        yield from (f'test/{folder}/{name}.png', f'GT/{name}.png')


def _reds():
    for split in ('train', 'val'):
        for sequence in ('000', '001'):
            for frame in (8, 9):
                for kind, suffix in (('sharp', 'png'), ('blur', 'png'), ('blur_jpeg', 'jpg')):
                    yield f'{split}/{split}_{kind}/{sequence}/{frame:08d}.{suffix}'


def _dpdd():
    for number, split in enumerate(('train', 'val', 'test')):
        for view in 'clr':
            for image in range(2):  # blurry and sharp exposures have different numbers
                yield f'{split}_{view}/source/1P0A{917 + 20 * number + 2 * image:04d}.png'
                yield f'{split}_{view}/target/1P0A{916 + 20 * number + 2 * image:04d}.png'


def _realblur(folder):
    for scene in ('scene001', 'scene050'):
        for number in (1, 2):
            yield from (f'{folder}/{scene}/gt/gt_{number}.png', f'{folder}/{scene}/blur/blur_{number}.png')


def _kohler():
    for shake in (1, 12):
        yield f'Blurry2_{shake}.png'
        yield from (f'Image2/Kernel{shake}/GroundTruth2_{shake}_{number}.png' for number in (1, 2, 10))


def _lai():
    for kernel in ('01', '02'):
        yield from (f'synthetic_dataset/uniform/{name}_01_kernel_{kernel}.png' for name in ('natural', 'text'))
        yield f'synthetic_dataset/nonuniform/natural_01_gyro_{kernel}.png'
        yield f'synthetic_dataset/kernel/kernel_{kernel}.png'
    yield from (f'synthetic_dataset/ground_truth/{name}_01.png' for name in ('natural', 'text'))
    yield from ('real_dataset/boat1.jpg', 'real_dataset/text2.jpg')


ARCHIVES = {
    'GOPRO_Large': tuple(_gopro()),
    'HIDE_dataset': tuple(_hide()),
    'REDS': tuple(_reds()),
    'dd_dp_dataset_canon': tuple(_dpdd()),
    'RealBlur': (*_realblur(REALBLUR_J), *_realblur(REALBLUR_R)),
    'Koehler': tuple(_kohler()),
    'Lai': tuple(_lai()),
}


def unpack(archive: str, folder: Path, shape: tuple[int, int, int] = (8, 8, 3)) -> Path:
    """Fill a folder with an archive of random images, 16 bit for DPDD and 8 bit otherwise, and return the folder."""
    random = np.random.default_rng(0)
    kind = np.uint16 if archive == 'dd_dp_dataset_canon' else np.uint8
    for name in ARCHIVES[archive]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        gray = '/kernel/' in name
        image = random.integers(0, np.iinfo(kind).max, shape[:2] if gray else shape, kind)
        assert cv2.imwrite(str(folder / name), image)
    if archive == 'RealBlur':
        for letter, name in (('J', REALBLUR_J), ('R', REALBLUR_R)):
            for split, scenes in (('train', 'scene001'), ('test', 'scene050')):
                write_list(folder / f'RealBlur_{letter}_{split}_list.txt', f'{name}/{scenes}', (1, 2))
    return folder


def write_list(path: Path, scene: str, numbers: Iterable[int]) -> None:
    """Write a list of pairs of one scene in the format of RealBlur, with trailing spaces."""
    path.write_text(''.join(f'{scene}/gt/gt_{number}.png {scene}/blur/blur_{number}.png \n' for number in numbers))
