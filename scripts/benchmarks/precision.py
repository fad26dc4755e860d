"""bfloat16 against float32: the time of a training step, and the pictures that come out."""

from pathlib import Path

import torch

from benchmarks.measure import figures
from benchmarks.network import train
from benchmarks.plan import Case, Setting, Skip
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import load_network
from deeprftv2_plugin.inference.restoration import restore

GPU_BATCH = 4
DATA = Path('datasets/quickstart')
WEIGHTS = Path('experiments/train_quickstart/models/net_g_latest.pth')


def cases(setting: Setting) -> list[Case]:
    batch = GPU_BATCH if setting.device == 'cuda' else 1
    cuda = setting.device == 'cuda'
    found = []
    for variant in setting.variants_or('B'):
        for size in setting.sizes_or(256):
            key = {'variant': variant, 'size': size, 'batch': batch, 'reversible': True}
            found.append(Case('precision', train, key | {'backend': 'pytorch'}, default=cuda))
            found.append(Case('precision', train, key | {'bf16': True, 'channels_last': True}, default=cuda))
            found.append(Case('precision', compare_precisions, {'variant': variant, 'size': size}, default=cuda))
    found.append(Case('precision', compare_held_out, {'pictures': 'quickstart', 'bf16': True}, default=True))
    return found


def compare_precisions(setting: Setting, variant: str, size: int) -> dict:
    """How far a picture from bfloat16 autocast lies from that of float32, for a network of random weights."""
    network, x = DeepRFTv2(variant).to(setting.device).eval(), torch.rand(1, 3, size, size, device=setting.device)

    def half_precision():
        with torch.autocast(setting.device, torch.bfloat16):
            return network(x)

    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # the weights of residuals, which begin with zero
                parameter.normal_(0, 0.1)
        exact, rounded = network(x), half_precision().float()
        found = figures(setting, half_precision)
    decibels = -10 * torch.log10((exact - rounded).square().mean() / (exact - x).square().mean()).item()
    note = f'bf16 differs from float32 by {decibels:.1f} dB less than the network changes the picture'
    return found | {'difference_db': decibels, 'note': note}


def compare_held_out(setting: Setting, pictures: str, bf16: bool) -> dict:
    """PSNR of the quickstart's held-out pictures under bfloat16 autocast less that in float32, the mean of all."""
    if not (WEIGHTS.exists() and DATA.exists()):
        raise Skip('needs what the quickstart has trained: bash scripts/quickstart.sh')
    try:
        from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
    except ImportError as error:
        raise Skip(f'{error.name} is not installed') from None
    roots = {f'dataroot_{part}': str(DATA / f'test_{kind}.lmdb') for part, kind in (('lq', 'blur'), ('gt', 'sharp'))}
    dataset = PairedDeblurDataset({'phase': 'test', **roots})
    samples = [dataset[index] for index in range(1 if setting.quick else len(dataset))]
    network, scores = load_network(WEIGHTS).to(setting.device), []
    for enabled in (False, True):
        with torch.autocast(setting.device, torch.bfloat16, enabled=enabled):
            outputs = [restore(network, sample['lq'][None].to(setting.device))[0].float().cpu() for sample in samples]
        scores.append([_psnr(output, sample['gt']) for output, sample in zip(outputs, samples, strict=True)])
    exact, rounded = scores
    mean = sum(rounded) / len(rounded) - sum(exact) / len(exact)
    worst = max(abs(a - b) for a, b in zip(exact, rounded, strict=True))
    return {'difference_db': mean, 'worst_db': worst, 'note': f'mean {mean:+.4f} dB, worst picture {worst:.4f} dB'}


def _psnr(image, sharp):
    return -10 * torch.log10((_to_8_bits(image) - _to_8_bits(sharp)).square().mean()).item()


def _to_8_bits(image):
    return (image.clamp(0, 1) * 255).round() / 255
