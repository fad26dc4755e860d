"""`basicsr train`: BasicSR's training pipeline on an option file."""

from deeprftv2_plugin.basicsr_bridge import pipelines as pipeline

HELP = 'train a network as an option file says'
EXAMPLES = """examples:
  basicsr train -opt options/train_gopro.yml
  basicsr train -opt options/train_gopro.yml --force_yml network_g:variant=S train:recipe_gpus=1
  torchrun --nproc_per_node=8 -m deeprftv2_plugin train -opt options/train_gopro.yml

Weights, logs and the resolved options go to experiments/NAME under the working directory, what TensorBoard shows to
tb_logger/NAME. An experiment of that name which is there already is renamed to NAME_archived_TIME, except when it is
resumed (--auto_resume, or path:resume_state; a restart by torchrun or SLURM does so by itself).

SIGTERM, SIGUSR1 and Ctrl-C save the state at the end of the step. The exit status is then 75, after Ctrl-C 130."""


def add_arguments(parser):
    pipeline.add_arguments(parser)


def run(args):
    pipeline.run(args, is_train=True)
