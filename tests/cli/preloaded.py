"""Modules that the forkserver imports once for all runs."""

import importlib

import torch

import deeprftv2_plugin

deeprftv2_plugin.register()
importlib.import_module('deeprftv2_plugin.basicsr_bridge.training_run')
importlib.import_module('torch._dynamo')  # imported by the first optimizer step
torch.set_num_threads(1)
