"""`basicsr convert`: convert checkpoints and option files to and from the authors' format."""

import argparse

HELP = "convert checkpoints and option files to and from the authors' format"
EXAMPLES = """examples:
  basicsr convert net_g_GoPro.pth weights/gopro.pth
  basicsr convert net_g_REDS.pth weights/reds.safetensors --options their_options.yml
  basicsr convert experiments/train_gopro/models/net_g_latest.pth for_their_code.pth
  basicsr convert their_options.yml network.yml

The direction is determined by the parameter names in the checkpoint. Of the authors' option files, network_g and the
tile settings are converted. Weights do not determine the sizes of windows: networks with local pooling or windows need
--options."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', metavar='IN', help='input checkpoint (.pth, .safetensors) or option file (.yml)')
    parser.add_argument('destination', metavar='OUT', help='output file of the same kind')
    parser.add_argument(
        '--param_key',
        metavar='SET',
        help='set of weights to convert, params or params_ema; default: all sets, or for a .safetensors file, which '
        'contains a single set, the average if there is one',
    )
    parser.add_argument(
        '--options',
        metavar='FILE',
        help="the authors' option file (.yml), whose network is stored in a .safetensors file with its window sizes",
    )


def run(args: argparse.Namespace) -> None:
    """Convert a file and print a summary.

    Raises:
        UserError: The source cannot be read or converted, or the destination exists.
    """
    from deeprftv2_plugin import checkpoints

    print(checkpoints.convert_file(args.source, args.destination, args.param_key, args.options))
