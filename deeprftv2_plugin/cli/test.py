"""`basicsr test`: BasicSR's test pipeline on an option file."""

from deeprftv2_plugin.basicsr_bridge import pipelines as pipeline

HELP = 'restore and score the test images of an option file'
EXAMPLES = """examples:
  basicsr test -opt options/test_gopro.yml
  basicsr test -opt options/test_gopro.yml --force_yml path:pretrain_network_g=gopro.pth val:save_img=true

The scores of every picture and sequence (CSV, JSON), the protocol, the ten worst pictures and, with val:save_img or
where there is no ground truth, the restored ones go to results/NAME under the working directory."""


def add_arguments(parser):
    pipeline.add_arguments(parser)


def run(args):
    pipeline.run(args, is_train=False)
