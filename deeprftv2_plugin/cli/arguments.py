"""Arguments that several commands have."""

import argparse


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the flag for the network, which `checkpoints.sources.find_weights` or `inference.load` finds."""
    parser.add_argument(
        '--weights',
        metavar='FILE|NAME',
        help='checkpoint (.pth, .safetensors), or OWNER/NAME on the Hugging Face Hub; default: those of the package',
    )
