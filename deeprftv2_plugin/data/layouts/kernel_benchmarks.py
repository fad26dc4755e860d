"""Layouts of blind deconvolution benchmarks: Levin et al. 2009, Köhler et al. 2012 and Lai et al. 2016.

Each layout function takes a folder and returns its splits as `Readers`, which are empty if the folder has another
layout.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from deeprftv2_plugin.data.layouts.folders import UNDIVIDED
from deeprftv2_plugin.data.layouts.pairs import KernelFile, Pair, Readers
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.listing import SUFFIXES, list_images
from deeprftv2_plugin.utils.errors import UserError

LEVIN = re.compile(r'im\d+_(ker|flit)\d+\.mat')
BLURRY = re.compile(r'Blurry(\d+)_(\d+)')
SHARP = re.compile(r'GroundTruth(\d+)_(\d+)_(\d+)')


def levin(root: Path) -> Readers:
    """Levin et al. (CVPR 2009): im05_flit01.mat (or im01_ker01.mat) with the variables x, y and f.

    x is the sharp image, f the kernel, and the blurry image y the correlation of x with f. The 32 gray images were
    taken by a camera that rotated on a tripod, and the kernels were measured with point lights.
    """
    files = sorted(path for path in root.iterdir() if LEVIN.fullmatch(path.name))
    return {UNDIVIDED: partial(_levin, files)} if files else {}


def _levin(files: Iterable[Path]) -> list[Pair]:
    return [
        Pair(
            path.stem,
            StoredImage(str(path), variable='y'),
            StoredImage(str(path), variable='x'),
            KernelFile(str(path), 'f', turned=True),
        )
        for path in files
    ]


def kohler(root: Path) -> Readers:
    """Köhler et al. (ECCV 2012): Blurry1_1.png, and the sharp images Image1/Kernel1/GroundTruth1_1_1.png.

    The archives BlurryImages.zip and GroundTruth_pngs_Image1.zip to Image4.zip may be unpacked into one folder or into
    separate ones. The sharp image in the middle of the trajectory is the ground truth for metrics of image pairs.
    """
    blurry = sorted(path for pattern in ('Blurry*_*', '*/Blurry*_*') for path in root.glob(pattern) if _is_blurry(path))
    return {UNDIVIDED: partial(_kohler, root, blurry)} if blurry else {}


def _is_blurry(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and BLURRY.fullmatch(path.stem) is not None


def _kohler(root: Path, blurry: Iterable[Path]) -> list[Pair]:
    frames: dict[tuple[str, str], dict[int, Path]] = {}
    for path in list_images(root):
        if found := SHARP.fullmatch(path.stem):
            scene, shake, number = found.groups()
            other = frames.setdefault((scene, shake), {}).setdefault(int(number), path)
            if other is not path:
                raise UserError(f'{other} and {path} in {root} have the same name: keep one of them')
    pairs = []
    for path in blurry:
        found = BLURRY.fullmatch(path.stem)
        assert found is not None  # checked by `_is_blurry`
        numbered = frames.get((found[1], found[2]))
        if not numbered:
            raise UserError(
                f'{path} has no sharp images, expected GroundTruth{found[1]}_{found[2]}_1.png, ... in a subfolder of '
                f'{root}: unpack GroundTruth_pngs_Image{found[1]}.zip there'
            )
        trajectory = tuple(StoredImage(str(root / numbered[number])) for number in sorted(numbered))
        name = f'Blurry{int(found[1])}_{int(found[2]):02d}'
        pairs.append(Pair(name, StoredImage(str(path)), trajectory[len(trajectory) // 2], trajectory=trajectory))
    return pairs


def lai(root: Path) -> Readers:
    """Lai et al. (CVPR 2016): uniform/natural_01_kernel_01.png, ground_truth/natural_01.png, kernel/kernel_01.png.

    The splits are `uniform` and `nonuniform` with synthetic blur, and `real` with photographs without ground truth. The
    folders of the first two may be in synthetic_dataset.
    """
    found = {}
    for folder in (root, root / 'synthetic_dataset'):
        if (folder / 'ground_truth').is_dir():
            for split in ('uniform', 'nonuniform'):
                if (folder / split).is_dir():
                    found[split] = partial(_lai, folder, split)
    if found or (root / 'synthetic_dataset').is_dir():
        for name in ('real_dataset', 'real'):
            if (root / name).is_dir():
                found['real'] = partial(_without_truth, root / name)
    return found


def _lai(folder: Path, split: str) -> list[Pair]:
    sharp = {path.stem: path for path in list_images(folder / 'ground_truth')}
    kernels = {path.stem: path for path in list_images(folder / 'kernel')} if (folder / 'kernel').is_dir() else {}
    pairs = []
    for path in list_images(folder / split):
        scene, _, rest = path.stem.rpartition('_kernel_') if '_kernel_' in path.stem else path.stem.rpartition('_gyro_')
        if scene not in sharp:
            raise UserError(f'{folder / split / path} has no sharp image {scene or path.stem} in {folder}/ground_truth')
        kernel = kernels.get(f'kernel_{rest}') if split == 'uniform' else None
        pairs.append(
            Pair(
                path.stem,
                StoredImage(str(folder / split / path)),
                StoredImage(str(folder / 'ground_truth' / sharp[scene])),
                KernelFile(str(folder / 'kernel' / kernel)) if kernel else None,
            )
        )
    if not pairs:
        raise UserError(f'no images in {folder / split}')
    return pairs


def _without_truth(folder: Path) -> list[Pair]:
    images = list_images(folder)
    if not images:
        raise UserError(f'no images in {folder}')
    return [Pair('_'.join(path.with_suffix('').parts), StoredImage(str(folder / path)), None) for path in images]
