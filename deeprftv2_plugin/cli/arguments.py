"""Arguments shared by several commands."""

import argparse


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`, the argument of `checkpoints.sources.find_weights` and `inference.load`."""
    parser.add_argument(
        '--weights',
        metavar='FILE|NAME',
        help='checkpoint (.pth, .safetensors), or OWNER/NAME on the Hugging Face Hub; default: the bundled weights',
    )
