"""`basicsr prepare`: a data set in the form that the option files expect."""

HELP = 'make a data set ready for training'
EXAMPLES = """example:
  basicsr prepare skimage datasets/quickstart

SOURCE skimage needs no download: the photographs that the scikit-image wheel ships, blurred by random camera
shake, in DEST/{train,test}_{blur,sharp}.lmdb, with the kernels in DEST/{train,test}_kernels.npz."""


def add_arguments(parser):
    parser.add_argument('source', metavar='SOURCE', choices=('skimage',), help='skimage')
    parser.add_argument('destination', metavar='DEST', help='folder to write')


def run(args):
    from deeprftv2_plugin.data.prepare import prepare

    prepare(args.source, args.destination)
    print(f'wrote {args.destination}')
