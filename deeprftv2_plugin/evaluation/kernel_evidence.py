"""The kernel study: interventions, comparison with true kernels, and classical references, for several seeds.

docs/evidence.md describes the protocol and the results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeprftv2_plugin.evaluation.classical_deconvolution import (
    BALANCES,
    ITERATIONS,
    blind_richardson_lucy,
    richardson_lucy,
    wiener,
)
from deeprftv2_plugin.evaluation.kernel_matching import (
    correlations,
    identified,
    log_power,
    matching,
    read_out,
    summarize,
    unsharp_mask,
    windows_of,
)
from deeprftv2_plugin.evaluation.kernel_study import (
    CONDITIONS,
    Grid,
    Transfers,
    dependence,
    draw_kernels,
    estimators_of,
    intervene,
    label_of,
    make_grid,
    padded_kernels,
    restore_with,
    score,
)
from deeprftv2_plugin.inference.kernels import half_scale_kernel

Say = Callable[[str], None]


def study_kernels(
    net: nn.Module,
    untrained: Callable[[int], nn.Module],
    photographs: Mapping[str, np.ndarray],
    further: Mapping[str, np.ndarray],
    seeds: Sequence[int],
    size: int,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Run the study.

    Args:
        net: A network with Fourier Kernel Estimators in evaluation mode, on the CPU.
        untrained: Returns a network of the same architecture with random weights, given a seed.
        photographs: Photographs by name, see `make_grid`.
        further: Additional kernels (k, k) by name.
        seeds: Seeds of the camera shakes, the noise, the random choices and the random weights.
        size: Height and width of the images in pixels.
        say: Called with progress messages.

    Returns:
        A dictionary that JSON can represent: 'size'; 'seeds', the results of each seed; and 'dependence', the summary
        of all seeds, see `kernel_study.dependence`.
    """
    results, scores, names, kernels = [], [], [], []
    for seed in seeds:
        grid = make_grid(photographs, draw_kernels(seed, further), size, seed)
        names = grid.photographs
        kernels.append([kernel.tobytes() for kernel in grid.kernels])
        found, result = _study_seed(net, untrained(seed).eval(), grid, seed, partial(_say_seed, say, seed))
        scores.append(found)
        results.append({'seed': seed, 'images': grid.images, 'blurs': grid.blurs, **result})
    return {'size': size, 'dependence': dependence(scores, names, kernels), 'seeds': results}


def _say_seed(say: Say, seed: int, text: str) -> None:
    say(f'seed {seed}: {text}')


def _study_seed(net, random, grid: Grid, seed: int, say: Say) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    images, blurs = range(len(grid.images)), range(len(grid.blurs))
    side = max(kernel.shape[0] for kernel in grid.kernels)
    truths = padded_kernels(grid.kernels, side)
    halves = torch.stack([half_scale_kernel(each) for each in truths])

    restored: dict[tuple[int, int], Tensor] = {}
    trained = _Windows(grid)

    def visit(i: int, b: int, transfers: Transfers, image: Tensor) -> None:
        restored[i, b] = image
        trained.add(i, b, transfers)

    scores = intervene(net, grid, seed, say, visit)
    start = _Windows(grid)
    random_images = {}
    for i in images:
        for b in blurs:
            random_images[i, b], transfers = restore_with(random, grid.blurry[i][b])
            start.add(i, b, transfers)
    say('random weights')
    estimators = {}
    for name in estimators_of(net):
        scaled = halves if name.endswith('half_estimator') else truths
        estimators[name] = {
            'trained': summarize(trained.found[name], scaled, grid.photographs),
            'untrained': summarize(start.found[name], scaled, grid.photographs),
        }
    say('matching')
    references = {
        'restored': lambda i, b: restored[i, b],
        'untrained': lambda i, b: random_images[i, b],
        'unsharp mask': lambda i, b: unsharp_mask(grid.blurry[i][b]),
        'sharp': lambda i, b: grid.sharp[i],
    }
    powers = torch.stack([torch.stack([log_power(each) for each in row]) for row in grid.blurry])
    spectral = {name: read_out(grid.blurry, reference, truths) for name, reference in references.items()}
    say('spectral division')
    classical = dict(_classical(grid))
    blind = torch.stack(
        [torch.stack([torch.from_numpy(blind_richardson_lucy(each, side)) for each in row]) for row in grid.blurry]
    )
    say('classical deconvolution')
    return scores, {
        'psnr': {name: scores[name].round(4).tolist() for name in CONDITIONS},
        'estimators': estimators,
        'identified_by_log_power': identified(powers, grid.photographs),
        'blind': matching(correlations(blind, truths)),
        'spectral_division': spectral,
        'classical': classical,
    }


class _Windows:
    """Collect point spread functions (images, blurs, channels, k, k) by the name of the estimator."""

    def __init__(self, grid: Grid):
        self.shape = len(grid.images), len(grid.blurs)
        self.width = grid.sharp[0].shape[-1]
        self.found: dict[str, Tensor] = {}

    def add(self, i: int, b: int, transfers: Transfers) -> None:
        for name, transfer in transfers.items():
            width = self.width // 2 if name.endswith('half_estimator') else self.width
            window = windows_of(transfer, width)
            if name not in self.found:
                self.found[name] = torch.zeros(*self.shape, *window.shape)
            self.found[name][i, b] = window


def _classical(grid: Grid) -> Iterator[tuple[str, float]]:
    """Yield the name and the mean PSNR of each method of deconvolution with the true kernels."""
    pairs = [(i, b) for i in range(len(grid.images)) for b in range(len(grid.blurs))]
    methods: dict[str, Callable[[Tensor, np.ndarray], Tensor]] = {
        **{f'Wiener {each}': partial(wiener, balance=each) for each in BALANCES},
        **{f'Richardson-Lucy {each}': partial(richardson_lucy, iterations=each) for each in ITERATIONS},
    }
    for name, method in methods.items():
        yield name, float(np.mean([score(method(grid.blurry[i][b], grid.kernels[b]), grid.sharp[i]) for i, b in pairs]))


LABELS = {
    'blurry': 'blurry image',
    'intact': 'its own transfer functions',
    'mean': 'their mean over images and blurs',
    'blur_mean': 'their mean over other photographs with the same blur',
    'other_image': 'those of another photograph, same blur',
    'other_blur': 'those of the same image, another blur',
    'other_both': 'those of another photograph and blur',
    'zero': 'zero',
}


def tables(result: Mapping[str, Any]) -> str:
    """Return the Markdown tables of a result."""
    lines = ['| transfer functions | PSNR | cost | by seed | 95 % interval |', '|---|---|---|---|---|']
    for name, label in (*LABELS.items(), ('excess', '*another blur minus another photograph*')):
        each = result['dependence'][name]
        psnr = f'{each["psnr"]:.2f}' if 'psnr' in each else ''
        by_seed = ', '.join(f'{value:.3f}' for value in each['by_seed'])
        low, high = each['interval']
        lines.append(f'| {label} | {psnr} | {each["cost"]:.3f} | {by_seed} | {low:.3f} to {high:.3f} |')
    seeds = result['seeds']
    lines += [
        '',
        '| estimator | weights | AUC, mean over channels | AUC, single channels | correlation own / other | '
        'power: static / image / blur / both | blur identified |',
        '|---|---|---|---|---|---|---|',
    ]
    for name in seeds[0]['estimators']:
        for weights in ('trained', 'untrained'):
            found = [seed['estimators'][name][weights] for seed in seeds]
            power = ' / '.join(
                f'{100 * np.mean([each["power"][part] for each in found]):.1f} %'
                for part in ('static', 'image', 'blur', 'both')
            )
            auc = [spread([each[kind]['auc'] for each in found]) for kind in ('channel_mean', 'channels')]
            own, other = (np.mean([each['channels'][part] for each in found]) for part in ('own', 'other'))
            identified = spread([100 * each['identified'] for each in found], 1)
            cells = label_of(name), weights, *auc, f'{own:.2f} / {other:.2f}', power, f'{identified} %'
            lines.append(f'| {" | ".join(cells)} |')
    identified_by_log_power = spread([100 * seed['identified_by_log_power'] for seed in seeds], 1)
    lines.append(f'| log power spectrum of the blurry image |  |  |  |  |  | {identified_by_log_power} % |')
    lines += ['', '| kernel from | AUC | correlation own / other |', '|---|---|---|']
    rows = {
        f'spectral division by: {name}': [s['spectral_division'][name] for s in seeds]
        for name in seeds[0]['spectral_division']
    }
    rows['blind Richardson-Lucy'] = [seed['blind'] for seed in seeds]
    for name, found in rows.items():
        own, other = (np.mean([each[part] for each in found]) for part in ('own', 'other'))
        lines.append(f'| {name} | {spread([each["auc"] for each in found])} | {own:.2f} / {other:.2f} |')
    lines += ['', '| with the true kernel | PSNR |', '|---|---|']
    for name in seeds[0]['classical']:
        lines.append(f'| {name} | {spread([seed["classical"][name] for seed in seeds])} |')
    return '\n'.join(lines) + '\n'


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the mean and, with several values, the sample standard deviation."""
    mean = f'{np.mean(values):.{digits}f}'
    return f'{mean} ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else mean
