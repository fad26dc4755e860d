"""Checkpoints: safe reading, atomic writing, rebuilding networks, and conversion to and from the authors' format."""

from deeprftv2_plugin.checkpoints.conversion import convert_file
from deeprftv2_plugin.checkpoints.files import read_weights, write_checkpoint
from deeprftv2_plugin.checkpoints.networks import load_file, load_into, load_network, network_options
from deeprftv2_plugin.checkpoints.official_keys import from_official_state_dict, is_official, to_official_state_dict
from deeprftv2_plugin.checkpoints.official_options import from_official_options
from deeprftv2_plugin.checkpoints.sources import find_weights, shipped_weights

__all__ = [
    'convert_file',
    'find_weights',
    'from_official_options',
    'from_official_state_dict',
    'is_official',
    'load_file',
    'load_into',
    'load_network',
    'network_options',
    'read_weights',
    'shipped_weights',
    'to_official_state_dict',
    'write_checkpoint',
]
