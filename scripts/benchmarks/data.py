"""Images a second that the data loader delivers, beside what a step of training consumes."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.utils.data import ConcatDataset, DataLoader

from benchmarks.measure import figures
from benchmarks.network import train
from benchmarks.plan import Case, Setting, Skip

PICTURES, PASSES = 6, 8
HEIGHT, WIDTH = 720, 1280


def cases(setting: Setting) -> list[Case]:
    workers = sorted({0, min(os.cpu_count() or 1, 4)})
    crop = 32 if setting.quick else 256
    loaders = [
        Case('data', load, {'storage': storage, 'crop': crop, 'workers': count})
        for storage in ('lmdb', 'folder')
        for count in workers
    ]
    steps = [Case('data', train, {'variant': variant, 'size': crop}) for variant in setting.variants_or('B')]
    return loaders + steps


def load(setting: Setting, storage: str, crop: int, workers: int) -> dict:
    """Random crops of pairs of PNG pictures of 1280x720, in batches of one."""
    try:
        from deeprftv2_plugin.data.paired_dataset import PairedDeblurDataset
    except ImportError as error:
        raise Skip(f'{error.name} is not installed: pip install lmdb opencv-python') from None
    with TemporaryDirectory() as folder:
        roots = [_store(Path(folder), kind, storage, seed) for seed, kind in enumerate(('blur', 'sharp'))]
        options = {'phase': 'train', 'dataroot_lq': roots[0], 'dataroot_gt': roots[1], 'gt_size': crop}
        dataset = ConcatDataset([PairedDeblurDataset(options)] * (1 if setting.quick else PASSES))
        loader = DataLoader(dataset, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        found = figures(setting, lambda: [sample['lq'].shape for sample in loader])
    rate = len(dataset) / found['seconds']
    return found | {'images_per_second': rate, 'note': f'{rate:.3g} images/s'}


def _store(folder, kind, storage, seed):
    """Write pictures that compress about as photographs do."""
    import cv2
    import numpy as np

    from deeprftv2_plugin.data.lmdb_writer import LmdbWriter

    rng = np.random.default_rng(seed)

    def picture():
        coarse = cv2.GaussianBlur(rng.normal(128, 300, (HEIGHT, WIDTH, 3)), (0, 0), 4)
        return np.clip(coarse + rng.normal(0, 2, coarse.shape), 0, 255).astype(np.uint8)

    names = [f'{index:06d}' for index in range(PICTURES)]
    if storage == 'lmdb':
        root = folder / f'{kind}.lmdb'
        with LmdbWriter(root) as writer:
            for name in names:
                writer.add(name, picture())
        return str(root)
    root = folder / kind
    root.mkdir()
    for name in names:
        cv2.imwrite(str(root / f'{name}.png'), picture())
    return str(root)
