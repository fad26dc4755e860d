"""What every run imports, once for all of them."""

import importlib

import torch

import deeprftv2_plugin

deeprftv2_plugin.register()
importlib.import_module('deeprftv2_plugin.basicsr_bridge.training_run')
importlib.import_module('torch._dynamo')  # by the first step of an optimiser
torch.set_num_threads(1)
