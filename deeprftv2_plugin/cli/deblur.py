"""`basicsr deblur`: deblur photographs."""

import argparse
import contextlib

from deeprftv2_plugin.cli.arguments import add_weights
from deeprftv2_plugin.utils.errors import UserError

HELP = 'deblur photographs'
EXAMPLES = """examples:
  basicsr deblur photo.jpg -o sharper.jpg
  basicsr deblur my_photos -o sharper --skip-existing
  basicsr deblur 'my_photos/*.jpg' scans/page.tif -o sharper --weights weights/gopro.pth

Folders are searched recursively. A result has the path of the image relative to the given folder or to the part of the
pattern before the first wildcard, and its format, bit depth, transparency and metadata. OUT can be a file if there is
one image; its suffix then determines the format. Images in formats that cannot be written, such as GIF, are written as
PNG.

If an image cannot be restored, the error is reported, the others are restored, and the exit status is 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('inputs', metavar='INPUT', nargs='+', help='image, folder or quoted pattern such as "*.jpg"')
    parser.add_argument('-o', '--output', required=True, metavar='OUT', help='folder for the results, or a file')
    add_weights(parser)
    parser.add_argument(
        '--tile', type=int, metavar='N', help='height and width of tiles in pixels; default: depends on the free memory'
    )
    parser.add_argument('--ensemble', action='store_true', help='average over eight flips and rotations; 8x slower')
    parser.add_argument('--compare', action='store_true', help='write the blurry image and the result side by side')
    parser.add_argument('--bf16', action='store_true', help='compute in bfloat16 where possible')
    parser.add_argument(
        '--device', help='cpu, cuda for all GPUs, or cuda:N for one; default: cuda if there is a GPU, otherwise cpu'
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--skip-existing', action='store_true', help='skip images whose result exists')
    existing.add_argument('--overwrite', action='store_true', help='replace existing results')


def run(args: argparse.Namespace) -> None:
    """Restore the images.

    Raises:
        UserError: The arguments are not valid, or an image could not be restored.
    """
    from deeprftv2_plugin.checkpoints.sources import SHIPPED
    from deeprftv2_plugin.inference.deblurring import deblur_files
    from deeprftv2_plugin.inference.outputs import plan, select
    from deeprftv2_plugin.inference.restorer import devices, load

    planned = plan(args.inputs, args.output)
    settings = {'tile': args.tile, 'ensemble': args.ensemble, 'bf16': args.bf16}
    weights = args.weights or SHIPPED
    restorers = [load(weights, device=device, **settings) for device in devices(args.device)]
    jobs = select(planned, args.overwrite, args.skip_existing)
    failures = deblur_files(restorers, jobs, args.compare)
    skipped = f', skipped {len(planned) - len(jobs)} whose results exist' if len(planned) > len(jobs) else ''
    with contextlib.suppress(OSError):  # as in Progress.say
        print(f'restored {len(jobs) - len(failures)} of {len(jobs)} images{skipped}')
    if failures:
        listed = '\n'.join(f'  {failure}' for failure in failures)
        raise UserError(f'{len(failures)} of {len(jobs)} images could not be restored:\n{listed}')
