"""`basicsr train`: BasicSR's training pipeline on an option file."""

import argparse

from deeprftv2_plugin.basicsr_bridge import pipelines

HELP = 'train a network with the settings of an option file'
EXAMPLES = """examples:
  basicsr train -opt options/train_gopro.yml
  basicsr train -opt options/train_gopro.yml --force_yml network_g:variant=S train:recipe_gpus=1
  torchrun --nproc_per_node=8 -m deeprftv2_plugin train -opt options/train_gopro.yml

Weights, logs and the resolved options are written to experiments/NAME under the working directory, TensorBoard files to
tb_logger/NAME. An existing experiment of the same name is renamed to NAME_archived_TIME, unless it is resumed with
--auto_resume or path:resume_state. After a restart by torchrun or SLURM, training resumes without these options.

SIGTERM, SIGHUP, SIGUSR1 and Ctrl-C save the state after the step. The exit status is then 75, or 130 after Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add BasicSR's flags."""
    pipelines.add_arguments(parser, is_train=True)


def run(args: argparse.Namespace) -> None:
    """Train."""
    pipelines.run(args, is_train=True)
