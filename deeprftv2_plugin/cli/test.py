"""`basicsr test`: BasicSR's test pipeline on an option file."""

import argparse

from deeprftv2_plugin.basicsr_bridge import pipelines

HELP = 'restore and score the test images of an option file'
EXAMPLES = """examples:
  basicsr test -opt options/test_gopro.yml
  basicsr test -opt options/test_gopro.yml --force_yml path:pretrain_network_g=gopro.pth val:save_img=true
  basicsr test -opt options/test_gopro.yml --html

The scores of every image and sequence (CSV, JSON), the protocol and the ten worst images are written to results/NAME
under the working directory. The restored images are also written with val:save_img, or if there is no ground truth."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add BasicSR's flags, without the one that resumes a training, and `--html`."""
    pipelines.add_arguments(parser, is_train=False)
    parser.add_argument(
        '--html',
        nargs='?',
        const='',
        metavar='FOLDER',
        help='write a page with all images for a browser, SET.html, to this folder; default: results/NAME',
    )


def run(args: argparse.Namespace) -> None:
    """Restore and score the test images."""
    pipelines.run(args, is_train=False)
