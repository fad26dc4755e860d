"""Measure the network and its parts against goals, floors and other implementations.

Run `python scripts/benchmark.py --help` for what it can do. Parts lie in the package `benchmarks` beside this file.
"""

import argparse
import os
import sys
import time
from pathlib import Path

# for the processes of the cases, see docs/performance.md: threads that sleep while they wait, and memory used again
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0')
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))  # the package of this clone, installed or not

import torch  # noqa: E402
from benchmarks import (  # noqa: E402
    architectures,
    data,
    goals,
    layers,
    metrics,
    network,
    plot,
    precision,
    process,
    report,
    scan,
    tiles,
)
from benchmarks.plan import Setting  # noqa: E402

from deeprftv2_plugin.archs.variants import VARIANTS  # noqa: E402
from deeprftv2_plugin.utils.errors import UserError, nearest  # noqa: E402

BENCHMARKS = {
    'scan': (scan.cases, 'the selective scan, forward and backward, against mambapy and a loop'),
    'evaluation': (network.evaluation_cases, 'the variants on one picture'),
    'training': (network.training_cases, 'a training step of the variants, reversible and not, with AdamW'),
    'stages': (network.stage_cases, 'memory of training by number of stages, reversible and not; one step each'),
    'tiles': (tiles.cases, 'a frame of 1280x720 in tiles against one tile'),
    'quickstart': (network.quickstart_cases, 'a training step of the quickstart, against the backend pytorch'),
    'precision': (precision.cases, 'bf16, channels_last and our backends against float32 in plain PyTorch'),
    'compile': (network.compile_cases, 'torch.compile against eager mode, with the seconds that compiling takes'),
    'sizes': (network.size_cases, 'evaluation and training by size of the picture'),
    'fke': (layers.estimator_cases, 'the Fourier Kernel Estimator'),
    'blocks': (layers.block_cases, "every kind of block at its levels' shapes"),
    'data': (data.cases, 'images a second of the data loader, and of a training step'),
    'metrics': (metrics.cases, "PSNR and SSIM of a frame of 1280x720 on one core, against BasicSR's"),
    'basicsr': (architectures.cases, 'architectures registered in BasicSR, see --arch'),
}
PLOT = 'plot'


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    if options.list:
        print('\n'.join(f'{name:12}{about}' for name, (_, about) in BENCHMARKS.items()))
        return 0
    try:
        return run(options)
    except UserError as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Measures the network and its parts. Without names: what the goals need, in under ten minutes.',
        epilog='A yard is the time of eight 3x3 convolutions 64->64 on 1x64x256x256 in float32, measured in the same '
        "process just before. A floor ratio is the time over that of the multiply-adds at the yard's rate; on CUDA, "
        'of every product at the rate of a measured matrix product or a measured copy, whichever bounds it. Every case '
        'has a process of its own; peak is the peak memory of that process (on CUDA of what PyTorch allocated), '
        'increase what of it came after the network and its input were made. A training step includes AdamW.',
    )
    add = parser.add_argument
    add('names', nargs='*', metavar='NAME', help=f'{", ".join(BENCHMARKS)}, or {PLOT}: draw the newest figures')
    add('--list', action='store_true', help='say what the sub-benchmarks are, and end')
    add('--device', choices=('cpu', 'cuda'), default='cpu')
    add('--threads', type=int, help='threads of the CPU; those that torch takes by default')
    add('--variants', nargs='+', default=(), metavar='V', choices=list(VARIANTS), help='for named sub-benchmarks')
    add('--sizes', nargs='+', default=(), type=int, metavar='N', help='heights of pictures, for named sub-benchmarks')
    add('--arch', nargs='+', default=(), metavar='A', help='for basicsr: Name or Name:key=value,key=value in YAML')
    add('--quick', action='store_true', help='tiny cases, once: shows that everything runs, measures nothing')
    add('--out', type=Path, default=Path('docs/benchmarks'), help='folder for the figures in JSON (%(default)s)')
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure, print and write; returns the exit status."""
    check(options)
    names = [name for name in options.names if name != PLOT]
    failed = False
    if names or not options.names:
        failed = measure(options, names)
    if PLOT in options.names:
        print(f'wrote {plot.draw(options.out)}')
    return int(failed)


def check(options: argparse.Namespace) -> None:
    """Raises UserError where options contradict each other or the machine."""
    for name in options.names:
        if name not in BENCHMARKS and name != PLOT:
            raise UserError(f'there is no sub-benchmark {name!r}. {nearest(name, [*BENCHMARKS, PLOT])}')
    if options.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: this PyTorch sees no GPU; take --device cpu')
    if (options.variants or options.sizes) and not options.names:
        raise UserError('--variants and --sizes go with names of sub-benchmarks')
    if options.arch and 'basicsr' not in options.names:
        raise UserError('--arch goes with the sub-benchmark basicsr')
    if options.threads is not None and options.threads < 1:
        raise UserError(f'--threads is {options.threads}: take a number from 1 up')
    for size in options.sizes:
        if size < 8 or size % 8:
            raise UserError(f'--sizes: {size} is not a multiple of 8')
    for arch in options.arch:
        architectures.parse(arch)


def measure(options: argparse.Namespace, names: list[str]) -> bool:
    """Run the named sub-benchmarks, or the default set; tell whether a case has failed."""
    if options.threads:
        os.environ['OMP_NUM_THREADS'] = str(options.threads)  # for the processes of the cases
        torch.set_num_threads(options.threads)
    setting = Setting(options.device, tuple(options.variants), tuple(options.sizes), tuple(options.arch), options.quick)
    cases = [case for name in names or BENCHMARKS for case in BENCHMARKS[name][0](setting) if names or case.default]
    about = report.machine(options.device)
    print(report.heading(about), report.COLUMNS, sep='\n\n', flush=True)
    start, rows = time.perf_counter(), []
    for case in cases:
        rows.append(process.measure(case, setting))
        print(report.line(rows[-1]), flush=True)
    reached = goals.reached(rows, options.device)
    print(f'\n{report.goal_table(reached)}')
    path = report.write(options.out, about, rows, reached)
    print(f'\n{len(rows)} cases in {time.perf_counter() - start:.0f} s; wrote {path}')
    return any('error' in row for row in rows)


if __name__ == '__main__':
    sys.exit(main())
