"""Images a second that the data loader delivers, beside what a step of training consumes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import median_time
from benchmarks.network import train
from benchmarks.plan import Case, Setting, Skip

HEIGHT, WIDTH, CROP = 720, 1280, 512
FRAMES, CROPS, SAMPLES = 6, 24, 24
STORAGES = ('frames in files', 'frames in LMDB', 'crops in LMDB')
WORKERS = (0, 2)


def cases(setting: Setting) -> list[Case]:
    size = 32 if setting.quick else 256
    loaders = [
        Case('data', load, {'storage': storage, 'size': size, 'workers': count})
        for storage in STORAGES
        for count in WORKERS
    ]
    return loaders + [Case('data', train, {'variant': v, 'size': size}) for v in setting.variants_or('T', 'B')]


GOAL = (STORAGES[-1], WORKERS[-1])
"""What is to keep up with a training: what `basicsr prepare` writes, and workers beside it."""


def load(setting: Setting, storage: str, size: int, workers: int) -> dict:
    """Random crops from pairs of PNG pictures, frames of 1280x720 or crops of 512x512, in batches of one."""
    try:
        from torch.utils.data import DataLoader, RandomSampler

        from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
    except ImportError as error:
        raise Skip(f'{error.name} is not installed: pip install lmdb opencv-python') from None
    samples = 2 if setting.quick else SAMPLES * (1 + workers)
    with TemporaryDirectory() as folder:
        roots = [_store(Path(folder), kind, storage, seed) for seed, kind in enumerate(('blur', 'sharp'))]
        options = {'phase': 'train', 'dataroot_lq': roots[0], 'dataroot_gt': roots[1], 'gt_size': size}
        dataset = PairedDeblurDataset(options)
        sampler = RandomSampler(dataset, replacement=True, num_samples=samples)
        loader = DataLoader(dataset, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
        thoroughly = (0, 1) if setting.quick else (4, 3)
        found = median_time(lambda: [sample['lq'].shape for sample in loader], 'cpu', *thoroughly)
    rate = samples / found['seconds']
    return found | {'images_per_second': rate, 'note': f'{rate:.3g} images/s'}


def _store(folder, kind, storage, seed):
    """Write pictures that compress about as photographs do."""
    import cv2
    import numpy as np

    from deeprftv2_plugin.data.storage.lmdb_writer import LmdbWriter

    rng = np.random.default_rng(seed)
    crops = storage.startswith('crops')
    shape = (CROP, CROP, 3) if crops else (HEIGHT, WIDTH, 3)

    def pictures():
        for index in range(CROPS if crops else FRAMES):
            coarse = cv2.GaussianBlur(rng.normal(128, 300, shape), (0, 0), 4)
            yield f'{index:06d}', np.clip(coarse + rng.normal(0, 2, shape), 0, 255).astype(np.uint8)

    if storage.endswith('LMDB'):
        root = folder / f'{kind}.lmdb'
        with LmdbWriter(root) as writer:
            for name, picture in pictures():
                writer.add(name, picture)
        return str(root)
    root = folder / kind
    root.mkdir()
    for name, picture in pictures():
        cv2.imwrite(str(root / f'{name}.png'), picture)
    return str(root)
