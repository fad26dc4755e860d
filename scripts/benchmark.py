"""Measure the network and its parts against goals, floors and other implementations. See --help."""

import argparse
import os
import sys
import time
from pathlib import Path

# for the processes of the cases: waiting threads sleep, and freed memory is reused, see docs/performance.md
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0')
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))  # the package of this clone, installed or not

import torch  # noqa: E402
from benchmarks import goals, report  # noqa: E402
from benchmarks.cases import BENCHMARKS  # noqa: E402
from benchmarks.measure import Setting  # noqa: E402

from deeprftv2_plugin.archs.variants import VARIANTS  # noqa: E402
from deeprftv2_plugin.comparison.candidates import parse_architecture  # noqa: E402
from deeprftv2_plugin.comparison.measurement import machine  # noqa: E402
from deeprftv2_plugin.utils.errors import UserError, nearest  # noqa: E402


def main() -> int:
    options = arguments().parse_args()
    if options.list:
        print('\n'.join(f'{name:12}{about}' for name, (about, _) in BENCHMARKS.items()))
        return 0
    try:
        return run(options)
    except UserError as error:
        print(f'benchmark: {error}', file=sys.stderr)
        return 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Measure the network and its parts. Without names, run the benchmarks that the goals need, which '
        'takes less than ten minutes on two cores.',
        epilog='A yard is the time of eight 3x3 convolutions 64->64 on 1x64x256x256 in float32, measured at the '
        'start of the same process. The floor ratio is the time divided by the time of the multiply-adds at the rate '
        'of the yard, or on CUDA, by the time of every product at the measured rate of a matrix product or of a copy, '
        'whichever is slower. Each case runs in its own process: "peak" is the peak memory of the process (on CUDA, '
        'of PyTorch\'s allocations), and "increase" is the part allocated after the network and its input. A training '
        'step includes AdamW.',
    )
    add = parser.add_argument
    add('names', nargs='*', metavar='NAME', help=f'{", ".join(BENCHMARKS)}, or plot, which draws the newest figures')
    add('--list', action='store_true', help='list the sub-benchmarks and exit')
    add('--device', choices=('cpu', 'cuda'), default='cpu')
    add('--threads', type=int, help="number of CPU threads (default: PyTorch's)")
    add('--variants', nargs='+', default=(), metavar='V', choices=list(VARIANTS), help='for the named sub-benchmarks')
    add('--sizes', nargs='+', default=(), type=int, metavar='N', help='image sizes, for the named sub-benchmarks')
    add('--arch', nargs='+', default=(), metavar='A', help='for basicsr: Name or Name:key=value,key=value in YAML')
    add('--quick', action='store_true', help='run tiny cases once, to check that they work; measures nothing')
    add('--out', type=Path, default=Path('docs/benchmarks'), help='folder of the JSON files (default: %(default)s)')
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure, print and write. Return the exit status."""
    check(options)
    names = [name for name in options.names if name != 'plot']
    failed = measure(options, names) if names or not options.names else False
    if 'plot' in options.names:
        print(f'wrote {report.plot(options.out)}')
    return int(failed)


def check(options: argparse.Namespace) -> None:
    """Raise a UserError if options conflict with each other or with the machine."""
    known = [*BENCHMARKS, 'plot']
    for name in set(options.names) - set(known):
        raise UserError(f'there is no sub-benchmark {name!r}. {nearest(name, known)}')
    if options.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: PyTorch finds no GPU; use --device cpu')
    if (options.variants or options.sizes) and not options.names:
        raise UserError('--variants and --sizes require the names of sub-benchmarks')
    if options.arch and 'basicsr' not in options.names:
        raise UserError('--arch needs the sub-benchmark basicsr')
    if options.threads is not None and options.threads < 1:
        raise UserError(f'--threads is {options.threads}, expected at least 1')
    for size in options.sizes:
        if size < 8 or size % 8:
            raise UserError(f'--sizes: {size} is not a positive multiple of 8')
    for arch in options.arch:
        parse_architecture(arch)


def measure(options: argparse.Namespace, names: list[str]) -> bool:
    """Run the named sub-benchmarks or the default cases. Return whether a case failed."""
    if options.threads:
        os.environ['OMP_NUM_THREADS'] = str(options.threads)  # for the processes of the cases
        torch.set_num_threads(options.threads)
    chosen = {'variant': options.variants, 'size': options.sizes, 'arch': options.arch}
    setting = Setting(options.device, options.quick, {name: values for name, values in chosen.items() if values})
    cases = [(name, case) for name in names or BENCHMARKS for case in BENCHMARKS[name][1](setting)]
    about = machine(options.device)
    print(report.heading(about), report.COLUMNS, sep='\n\n', flush=True)
    start, rows = time.perf_counter(), []
    for name, case in cases:
        if names or case.default:
            rows.append({'benchmark': name, **case.measure(setting)})
            print(report.line(rows[-1]), flush=True)
    reached = goals.reached(rows, options.device)
    print(f'\n{report.goal_table(reached)}')
    path = report.write(options.out, about, rows, reached)
    print(f'\n{len(rows)} cases in {time.perf_counter() - start:.0f} s; wrote {path}')
    return any('error' in row for row in rows)


if __name__ == '__main__':
    sys.exit(main())
