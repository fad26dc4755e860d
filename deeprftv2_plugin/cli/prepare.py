"""`basicsr prepare`: a data set in the form that the option files expect."""

from deeprftv2_plugin.utils.errors import UserError

PHOTOGRAPHS = 'skimage'

HELP = 'make a data set ready for training'
EXAMPLES = """examples:
  basicsr prepare downloads/GOPRO_Large datasets/GoPro-crops --crop 512 --step 256
  basicsr prepare downloads/REDS datasets/REDS-lmdb --split train_jpeg val_300_jpeg
  basicsr prepare datasets/GoPro-crops --verify
  basicsr prepare skimage datasets/quickstart

SOURCE is the folder that an archive unpacks to, or the one around it; --list shows what is recognised. For every split
DEST/SPLIT_blur.lmdb and DEST/SPLIT_sharp.lmdb are written, with the bytes of the files where nothing is cropped.
BasicSR's PairedImageDataset (which makes 8 bits of 16) and PairedDeblurDataset read them.

A run that was interrupted goes on where it was when its command is repeated. Until then its work is in DEST/.partial;
with other settings it is refused until that folder is removed. What is finished is never overwritten.

Crops lie at multiples of the step, the last ones flush with the border; smaller pictures stay whole. They are the
pairs NAME_s001, NAME_s002, ..., PNGs of as many bits as the pictures have.

SOURCE skimage needs no download: the photographs that the scikit-image wheel ships, blurred by random camera
shake, in DEST/{train,test}_{blur,sharp}.lmdb, with the kernels in DEST/{train,test}_kernels.npz."""


def add_arguments(parser):
    parser.add_argument('source', metavar='SOURCE', nargs='?', help='the folder of a data set, or skimage')
    parser.add_argument('destination', metavar='DEST', nargs='?', help='folder to write into')
    parser.add_argument('--split', nargs='+', metavar='SPLIT', help='which parts of the data set; all by default')
    parser.add_argument('--crop', type=int, metavar='N', help='cut training splits into windows of N x N pixels')
    parser.add_argument(
        '--step', type=int, metavar='N', help='pixels from one window to the next; N of --crop by default'
    )
    parser.add_argument('--folders', action='store_true', help='write folders of files in the place of LMDBs')
    parser.add_argument('--verify', action='store_true', help='decode every pair in SOURCE, prepared or not; no DEST')
    parser.add_argument('--list', action='store_true', help='show the layouts that are recognised')


def run(args):
    """Does what the flags ask for.

    Raises:
        UserError: They do not fit together, or the data set is at fault.
    """
    from tqdm import tqdm

    from deeprftv2_plugin.data.preparation import prepare_archive, prepare_photographs, verify

    settings = {'--split': args.split, '--crop': args.crop, '--step': args.step, '--folders': args.folders}
    given = [flag for flag, value in settings.items() if value not in (None, False)]
    if args.list:
        _list()
    elif args.verify:
        if not args.source or args.destination or given:
            raise UserError(
                f'--verify takes one folder and nothing else: basicsr prepare {args.source or "DEST"} --verify'
            )
        verify(args.source, say=tqdm.write)
    elif not args.source or not args.destination:
        raise UserError('name the data set and the folder to write into: basicsr prepare SOURCE DEST')
    elif args.source == PHOTOGRAPHS:
        if given:
            raise UserError(f'{", ".join(given)} is for data sets on disk, {PHOTOGRAPHS} is written in one way only')
        print(f'wrote {prepare_photographs(args.destination)}')
    else:
        prepare_archive(
            args.source, args.destination, args.split, _crops(args.crop, args.step), args.folders, say=tqdm.write
        )


def _list():
    from deeprftv2_plugin.data.layouts.known import LAYOUTS

    for known in LAYOUTS:
        print(f'{known.name:10}  {known.description}')
    print(f'{PHOTOGRAPHS:10}  no folder: photographs that scikit-image ships, under synthetic camera shake')


def _crops(size, step):
    from deeprftv2_plugin.data.preparation.pieces import Crops

    if size is None:
        if step is not None:
            raise UserError(f'--step {step} goes from one crop to the next, but --crop is missing: give both or none')
        return None
    step = size if step is None else step
    if size < 1 or step < 1:
        raise UserError(f'--crop {size} --step {step}: positive numbers of pixels are expected')
    return Crops(size, step)
