"""The sub-benchmarks, and the cases of each."""

from functools import partial

from benchmarks.measure import Case, Setting, grid
from benchmarks.network import (
    architecture,
    compare_compiled,
    compare_held_out,
    compare_precisions,
    evaluate,
    in_tiles,
    photograph,
    train,
)
from benchmarks.parts import BASICSR_METRICS, CHANNELS, block, estimator, load, metric, scan, scan_backends
from deeprftv2_plugin.layers import BLOCKS

SCAN = {'channels': 96, 'states': 8, 'length': 16384}
"""The scan for which there are goals on the CPU."""
NETWORK_SCANS = ((96, 33024), (192, 16384), (384, 4096))
"""Channels and lengths in DeepRFTv2-B at 256x256: the kernel columns at full scale, and the encoder's two levels."""
STORAGES = ('frames in files', 'frames in LMDB', 'crops in LMDB')
FRAME = {'width': 1280, 'height': 720}
PHOTOGRAPH = {'width': 4000, 'height': 3000}
ARCHITECTURES = (
    'DeepRFTv2:variant=B',
    'RRDBNet:num_in_ch=3,num_out_ch=3,scale=1',
    'EDSR:num_in_ch=3,num_out_ch=3,upscale=1',
)
BOTH = (False, True)


def scans(setting: Setting) -> list[Case]:
    ours, gpu, cases = scan_backends(setting.device), setting.device == 'cuda', []
    lengths = (1024, 4096, 16384, 65536, 131072) if gpu else (1024, 4096, 16384)
    for channels, length in [(96, 64)] if setting.quick else [*((96, n) for n in lengths), *NETWORK_SCANS]:
        key = {'channels': channels, 'states': 8, 'length': length}
        others = ['mambapy', 'sequential'] if length <= 4096 else ['mambapy']  # longer loops take minutes
        for name in ours + others:
            cases.append(Case(scan, {'implementation': name} | key, key == SCAN or (gpu and name in ours)))
    # so long that caches and rounding of the allocator are negligible
    key = SCAN | {'length': 256 if setting.quick else 65536, 'memory': True}
    return cases + [Case(scan, {'implementation': name} | key, name == ours[0]) for name in ours]


def evaluations(setting: Setting) -> list[Case]:
    goals = (('B', 128), ('B', 256), ('T', 256))
    return grid(setting, evaluate, lambda variant, size: (variant, size) in goals, variant='BST', size=(128, 256))


def trainings(setting: Setting) -> list[Case]:
    def default(variant, size, reversible):
        return variant in 'BT' and reversible

    return grid(setting, train, default, variant='BST', size=[256], reversible=(True, False))


def compilers(setting: Setting) -> list[Case]:
    return grid(setting, compare_compiled, variant='T', size=[256], training=BOTH)


def estimators(setting: Setting) -> list[Case]:
    return grid(setting, estimator, channels=[CHANNELS], size=(128, 256), training=BOTH)


def architectures(setting: Setting) -> list[Case]:
    return grid(setting, architecture, arch=ARCHITECTURES, size=[128], training=BOTH)


def stages(setting: Setting) -> list[Case]:
    def default(variant, size, reversible, stages):
        return reversible or stages <= 2

    axes = {'variant': 'B', 'size': [256], 'reversible': (True, False), 'stages': (1, 2, 3, 4)}
    return grid(setting, partial(train, seconds=0), default, **axes)


def tiles(setting: Setting) -> list[Case]:
    width, height, tile, overlap = (96, 64, 32, 8) if setting.quick else (1280, 720, 256, 48)
    axes = {'variant': 'T', 'width': [width], 'height': [height], 'tile': [tile], 'overlap': [overlap]}
    return grid(setting, in_tiles, lambda variant, **_: variant == 'T', **axes)


def deblur(setting: Setting) -> list[Case]:
    return [Case(photograph, {'width': 96, 'height': 64} if setting.quick else PHOTOGRAPH, default=True)]


def quickstart(setting: Setting) -> list[Case]:
    """Training as in scripts/quickstart.sh, on one thread, since more threads slow down this small network."""
    key = {'variant': 'T', 'size': 48, 'batch': 2, 'reversible': False}
    run = partial(train, threads=1)
    return [Case(run, key | {'fused': True}, True), Case(run, key | {'backend': 'pytorch', 'fused': False}, True)]


def precision(setting: Setting) -> list[Case]:
    gpu, axes = setting.device == 'cuda', {'variant': ['B'], 'size': [256]}
    step = axes | {'batch': [4 if gpu else 1], 'reversible': [True]}
    return [
        *grid(setting, train, gpu, **step, backend=['pytorch']),
        *grid(setting, train, gpu, **step, bf16=[True], channels_last=[True]),
        *grid(setting, compare_precisions, gpu, **axes),
        Case(compare_held_out, {'images': 'quickstart', 'bf16': True}, default=True),
    ]


def sizes(setting: Setting) -> list[Case]:
    axes = {'variant': ['B'], 'size': (64, 128, 192, 256)}
    return grid(setting, evaluate, **axes) + grid(setting, train, **axes, reversible=(True, False))


def blocks(setting: Setting) -> list[Case]:
    kinds = [('SelectiveScanMixer', 0), ('SelectiveScanMixer', 1)]
    kinds += [(name, level) for name, kind in BLOCKS.items() for level in range(3) if level or not kind.rotates]
    grids = [grid(setting, block, kind=[name], level=[n], size=[256], training=BOTH) for name, n in kinds]
    return sum(grids, [])


def data(setting: Setting) -> list[Case]:
    loaders = grid(setting, load, storage=STORAGES, size=[256], workers=(0, 2))
    return loaders + grid(setting, train, variant='TB', size=[256])


def metrics(setting: Setting) -> list[Case]:
    frame = {'width': 32, 'height': 24} if setting.quick else FRAME
    return [Case(metric, {'metric': name, **frame}, default=name != 'psnr') for name in BASICSR_METRICS]


BENCHMARKS = {
    'scan': ('selective scan, forward and backward, compared with mambapy and a loop', scans),
    'evaluation': ('the variants on one image', evaluations),
    'training': ('training step of the variants, reversible and not', trainings),
    'stages': ('memory of training by number of stages, reversible and not; one step each', stages),
    'tiles': ('a 1280x720 frame in tiles compared with one tile', tiles),
    'deblur': ('a photograph of 12 megapixels with the weights of the package', deblur),
    'quickstart': ('training step of the quickstart, compared with the backend pytorch', quickstart),
    'precision': ('bf16, channels_last and the backends compared with float32 in plain PyTorch', precision),
    'compile': ('torch.compile compared with eager mode, and the time to compile', compilers),
    'sizes': ('evaluation and training by image size', sizes),
    'fke': ('the Fourier Kernel Estimator', estimators),
    'blocks': ('each kind of block at the shapes of its levels', blocks),
    'data': ('images/s of the data loader and of a training step', data),
    'metrics': ("PSNR and SSIM of a 1280x720 frame on one core, compared with BasicSR's", metrics),
    'basicsr': ('architectures registered in BasicSR, see --arch', architectures),
}
