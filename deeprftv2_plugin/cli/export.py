"""`basicsr export`: export a network to a file that runs without this package."""

import argparse
import re
from pathlib import Path

from deeprftv2_plugin.cli.arguments import add_weights
from deeprftv2_plugin.utils.errors import UserError

HELP = 'export a network to ONNX or torch.export'
EXAMPLES = """examples:
  basicsr export -o model.onnx
  basicsr export -o model.pt2 --size 720x1280
  basicsr export --weights experiments/train_gopro/models/net_g_latest.safetensors -o gopro.onnx

The file runs without this package. It takes RGB images (1, 3, height, width) with values from 0 to 1. Its results are
compared with those of the network before it is written. ONNX requires more packages:
pip install 'deeprftv2-plugin[export]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        '-o', '--output', required=True, metavar='OUT', help='model.onnx, or model.pt2 for torch.export'
    )
    add_weights(parser)
    parser.add_argument('--size', metavar='HxW', help='height and width of all images; default: any size')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')


def run(args: argparse.Namespace) -> None:
    """Export the network.

    Raises:
        UserError: The arguments are not valid, or the network cannot be exported.
    """
    from deeprftv2_plugin.checkpoints.networks import load_network
    from deeprftv2_plugin.checkpoints.sources import SHIPPED, find_weights
    from deeprftv2_plugin.inference.export import check_target, export_network
    from deeprftv2_plugin.inference.outputs import require_free, require_writable

    target, size = Path(args.output), _size(args.size)
    check_target(target, size)
    require_free('-o', target, args.overwrite)
    net = load_network(find_weights(args.weights or SHIPPED))
    require_writable(target.parent)
    print('\n'.join(export_network(net, target, size)))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not re.fullmatch(r'[0-9]{1,6}x[0-9]{1,6}', text):
        raise UserError(f'--size is {text}, expected height and width in pixels, such as 720x1280')
    height, width = map(int, text.split('x'))
    return height, width
