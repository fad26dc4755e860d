"""`basicsr compare`: compare networks."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from deeprftv2_plugin.utils.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from deeprftv2_plugin.comparison.candidates import Candidate
    from deeprftv2_plugin.comparison.figures import Setting

HELP = 'compare networks: size, operations, time, memory and quality'
EXAMPLES = """examples:
  basicsr compare T S B SwinIR RRDBNet EDSR RIDNet NAFNet Restormer -o results/compare
  basicsr compare DeepRFTv2:T NAFNet:width=64 options/train_gopro.yml --size 256
  basicsr compare weights/gopro.pth nafnet.pth --data datasets/GoPro --metrics psnr ssim -o results/gopro
  basicsr compare --train options/compare_quickstart.yml -o results/compare_quickstart

NETWORK is
  - the name of a registered network of BasicSR, this package, a plugin or spandrel, alone or as
    NAME:KEY=VALUE,KEY=VALUE with values in YAML; the defaults are the published arguments for restoration,
  - a variant of DeepRFTv2, such as T or DeepRFTv2:T,
  - an option file with network_g and, for its weights, path.pretrain_network_g,
  - a checkpoint (.pth, .safetensors) of DeepRFTv2 or of a network that spandrel recognizes, or
  - deblur, the weights that come with the package.

Each network runs in new processes, on random images and with random weights unless it has weights. If a network fails,
its row states the reason, and the exit status is 1. docs/compare.md describes the columns.

To resume --train, rerun the command with the same FOLDER. Finished trainings are not repeated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('networks', metavar='NETWORK', nargs='*', help='see below')
    parser.add_argument('-o', '--output', metavar='FOLDER', help='write the table (CSV, Markdown, JSON) and plots')
    parser.add_argument(
        '--size', type=int, default=128, metavar='N', help='height and width of the image (default: %(default)s)'
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda if there is a GPU, otherwise cpu')
    parser.add_argument(
        '--data',
        metavar='FILE|FOLDER',
        help='score the networks on the test images of an option file, or on a dataset folder',
    )
    parser.add_argument(
        '--metrics', nargs='+', metavar='NAME', help='metrics for --data (default: those of FILE, or psnr and ssim)'
    )
    parser.add_argument(
        '--html', action='store_true', help='write a page with all images for a browser to FOLDER/compare.html'
    )
    parser.add_argument(
        '--train', metavar='FILE', help='train the networks of an option file under one recipe, with several seeds'
    )
    parser.add_argument(
        '--import', dest='imports', nargs='+', default=[], metavar='MODULE', help='modules that register networks'
    )


def run(args: argparse.Namespace) -> None:
    """Measure all networks, print a line for each, then the table, and write the files.

    Raises:
        UserError: The arguments are not valid, or a network failed.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()  # patches BasicSR for the following imports
    from deeprftv2_plugin.comparison.figures import Setting
    from deeprftv2_plugin.comparison.measurement import machine
    from deeprftv2_plugin.comparison.pages import write_pages
    from deeprftv2_plugin.comparison.plots import require_matplotlib, write_plots
    from deeprftv2_plugin.comparison.table import columns_of, metrics_of, screen_lines, write_tables
    from deeprftv2_plugin.inference.restorer import devices

    check(args)
    setting = Setting(args.size, devices(args.device)[0].type)
    if args.output and (args.data or args.train):
        require_matplotlib()
    with TemporaryDirectory() as temporary:
        folder = Path(args.output or temporary)
        rows, options = train(args, setting, folder) if args.train else measure(args, setting, folder)
        columns = columns_of(rows)
        print('', *screen_lines(rows, columns), sep='\n')
        if args.output:
            about = {'size': args.size, 'data': args.data, 'train': args.train, 'machine': machine(setting.device)}
            write_tables(folder, rows, columns, about)
            further = [path for metric in metrics_of(rows)[:1] for path in write_plots(folder, rows, metric)]
            if args.html and options:
                further += write_pages(folder, rows, columns, options)
            print(f'\nwrote {", ".join(map(str, [folder / "compare.{csv,md,json}", *further]))}')
    failed = [row['name'] for row in rows if row['failed']]
    if failed:
        raise UserError(f'{len(failed)} of {len(rows)} networks failed: {", ".join(failed)}')


def check(args: argparse.Namespace) -> None:
    """Raise UserError if arguments contradict each other."""
    if args.size < 1:
        raise UserError(f'--size is {args.size}, expected a number of pixels')
    if args.metrics and not args.data:
        raise UserError('--metrics needs --data, the images to score')
    if args.html and not (args.output and (args.data or args.train)):
        raise UserError('--html needs -o, the folder of the page, and images: --data or --train')
    if args.train and (args.networks or args.data or args.imports):
        raise UserError(
            '--train takes networks, data and imports from its option file: use it only with -o, --size, --device and '
            '--html'
        )
    if args.train and not args.output:
        raise UserError('--train needs -o, the folder of the trainings')
    if not args.train and not args.networks:
        raise UserError('name at least one network, or use --train')


Results = tuple[list[dict[str, Any]], dict[str, Any] | None]
"""The rows, and the options with which the networks are tested, if they are."""


def measure(args: argparse.Namespace, setting: 'Setting', folder: 'Path') -> Results:
    """Measure the networks of the command line, and score them with `--data`.

    Raises:
        UserError: An argument is not valid, or no network has weights to be scored.
    """
    import functools

    from deeprftv2_plugin.comparison.candidates import candidates_of
    from deeprftv2_plugin.comparison.scoring import require_valid, score, test_options

    candidates = candidates_of(args.networks, args.imports)
    if args.data and all(candidate.weights is None for candidate in candidates):
        raise UserError('--data: all networks have random weights. Use checkpoints, or option files with weights')
    options = test_options(args.data, args.metrics, setting.device) if args.data else None
    if options:
        require_valid(options, args.data, args.metrics)
    test = functools.partial(score, options=options, folder=folder, html=args.html) if options else None
    return printed(candidates, setting, test), options


def train(args: argparse.Namespace, setting: 'Setting', folder: 'Path') -> Results:
    """Measure and train the networks of an option file."""
    from deeprftv2_plugin.comparison.pairing import write_differences
    from deeprftv2_plugin.comparison.scoring import as_test
    from deeprftv2_plugin.comparison.study import add_results, iterations_of, prepare, read_study, test_first_seed
    from deeprftv2_plugin.comparison.training import train_all

    study = read_study(args.train)
    prepare(study)
    rows = printed(study.networks(), setting)
    iterations = iterations_of(study, folder, setting.device)
    runs = []
    for done in train_all(study.candidates, study.recipe, study.seeds, folder, iterations, study.changes):
        runs.append(done)
        scores = ', '.join(
            f'{name} {value:.4g}' for name, value in done.get('metrics', {}).items() if value is not None
        )
        total = len(study.candidates) * len(study.seeds)
        print(
            f'training {len(runs)} of {total}: {done["candidate"]}, seed {done["seed"]}: {done.get("error") or scores}'
        )
    add_results(rows, runs)
    if study.reference is not None:
        print('', *write_differences(folder, runs, study.reference), sep='\n')
    if not args.html:
        return rows, None
    options = as_test(study.recipe, None, setting.device)
    test_first_seed(study, rows, folder, options)
    return rows, options


def printed(
    candidates: Sequence['Candidate'], setting: 'Setting', test: Callable | None = None
) -> list[dict[str, Any]]:
    """Return the rows of networks. A line is printed as soon as a network is finished."""
    from deeprftv2_plugin.comparison.figures import compare

    rows = []
    for row in compare(candidates, setting, test):
        rows.append(row)
        remark = f': {row["remark"]}' if row['remark'] else ''
        print(f'{len(rows)} of {len(candidates)}: {row["name"]}{remark}', flush=True)
    return rows
