"""`basicsr compare`: compare networks."""

import argparse

from deeprftv2_plugin.utils.errors import UserError

HELP = 'compare networks: size, operations, time, memory and quality'
EXAMPLES = """examples:
  basicsr compare T S B SwinIR RRDBNet EDSR RIDNet NAFNet Restormer -o results/compare
  basicsr compare DeepRFTv2:T NAFNet:width=64 options/train_gopro.yml --size 256
  basicsr compare weights/gopro.pth nafnet.pth --data datasets/GoPro --metrics psnr ssim -o results/gopro

NETWORK is
  - a registered network of BasicSR, of this package, of a plugin or of spandrel, by its name or as
    NAME:KEY=VALUE,KEY=VALUE with values in YAML; arguments that are not given are the published ones for restoration,
  - a variant of DeepRFTv2, such as T or DeepRFTv2:T,
  - an option file, for its network_g and path.pretrain_network_g,
  - a checkpoint (.pth, .safetensors) of DeepRFTv2 or of a network that spandrel recognizes, or deblur, for the weights
    that come with the package.

Each network runs in processes of its own, with random images and, where none are given, random weights. A network that
fails is a row with the reason, and the exit status is 1. docs/compare.md describes the columns."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('networks', metavar='NETWORK', nargs='+', help='see below')
    parser.add_argument('-o', '--output', metavar='FOLDER', help='write the table (CSV, Markdown, JSON) and plots')
    parser.add_argument(
        '--size', type=int, default=128, metavar='N', help='height and width in pixels (default: %(default)s)'
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda if there is a GPU, otherwise cpu')
    parser.add_argument(
        '--data',
        metavar='FILE|FOLDER',
        help='score on the test images of an option file or of a folder',
    )
    parser.add_argument(
        '--metrics', nargs='+', metavar='NAME', help='registered metrics (default: those of the file, or psnr and ssim)'
    )
    parser.add_argument(
        '--import', dest='imports', nargs='+', default=[], metavar='MODULE', help='modules that register networks'
    )


def run(args: argparse.Namespace) -> None:
    """Measure all networks, print their rows as they come in, and write the files.

    Raises:
        UserError: The arguments are not valid, or a network failed.
    """
    import functools
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()  # patches BasicSR, which the next imports need
    from deeprftv2_plugin.comparison.candidates import candidates_of
    from deeprftv2_plugin.comparison.figures import Setting, compare
    from deeprftv2_plugin.comparison.measurement import machine
    from deeprftv2_plugin.comparison.plots import require_matplotlib, write_plots
    from deeprftv2_plugin.comparison.scoring import score, test_options
    from deeprftv2_plugin.comparison.table import columns_of, screen_lines, write_tables
    from deeprftv2_plugin.inference.restorer import devices

    if args.size < 1:
        raise UserError(f'--size is {args.size}, expected a number of pixels')
    if args.metrics and not args.data:
        raise UserError('--metrics needs --data, the images to score')
    setting = Setting(args.size, devices(args.device)[0].type)
    candidates = candidates_of(args.networks, args.imports)
    if args.data and all(candidate.weights is None for candidate in candidates):
        raise UserError('--data: all networks have random weights. Name checkpoints, or option files with weights')
    if args.output and args.data:
        require_matplotlib()
    rows: list[dict] = []
    with TemporaryDirectory() as temporary:
        folder = Path(args.output or temporary)
        options = args.data and test_options(args.data, args.metrics, setting.device)
        test = functools.partial(score, options=options, folder=folder) if options else None
        for row in compare(candidates, setting, test):
            rows.append(row)
            print(f'{len(rows)} of {len(candidates)}: {row["name"]}{": " if row["remark"] else ""}{row["remark"]}')
    metrics = list(dict.fromkeys(name for row in rows for name in row.get('metrics', ())))
    columns = columns_of(metrics)
    print('', *screen_lines(rows, columns), sep='\n')
    if args.output:
        about = {'size': args.size, 'data': args.data, 'machine': machine(setting.device)}
        write_tables(folder, rows, columns, about)
        plots = write_plots(folder, rows, metrics[0]) if metrics else []
        print(f'\nwrote {", ".join(map(str, [folder / "compare.{csv,md,json}", *plots]))}')
    failed = [row['name'] for row in rows if row['failed']]
    if failed:
        raise UserError(f'{len(failed)} of {len(rows)} networks failed: {", ".join(failed)}')
