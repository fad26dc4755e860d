"""Check the shipped option files with changes."""

from pathlib import Path

import deeprftv2_plugin
from deeprftv2_plugin import config
from deeprftv2_plugin.config.validation import validate

OPTIONS = Path(deeprftv2_plugin.__file__).parents[1] / 'options'
TRAIN, TEST = str(OPTIONS / 'train_gopro.yml'), str(OPTIONS / 'test_gopro.yml')


def check(*overrides, path=TRAIN, is_train=True):
    validate(config.load(path, overrides), path, is_train, overrides)
