"""`basicsr convert`: checkpoints and option files of the authors to ours and back."""

HELP = 'convert a checkpoint or an option file of the authors'
EXAMPLES = """examples:
  basicsr convert net_g_GoPro.pth weights/gopro.pth
  basicsr convert net_g_GoPro.pth weights/gopro.safetensors
  basicsr convert experiments/train_gopro/models/net_g_latest.pth for_their_code.pth
  basicsr convert their_options.yml network.yml

The names in a checkpoint tell whose it is: the authors' are converted to ours, ours to theirs. Of the authors' option
file, network_g and the tiles are written as an option file of this package has them."""


def add_arguments(parser):
    parser.add_argument('source', metavar='IN', help='checkpoint (.pth, .safetensors) or option file (.yml) to read')
    parser.add_argument('destination', metavar='OUT', help='file to write, of the same kind')


def run(args):
    from deeprftv2_plugin import checkpoints

    print(checkpoints.convert_file(args.source, args.destination))
