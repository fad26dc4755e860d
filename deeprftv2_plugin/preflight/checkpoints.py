"""Check the initial weights of a run, or the training state that it resumes from."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.models.base_model import BaseModel
from torch import nn

from deeprftv2_plugin.checkpoints import load_file
from deeprftv2_plugin.checkpoints.states import newest_whole, read_state, resumed_networks, resumed_weights
from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.utils.errors import UserError, shortened
from deeprftv2_plugin.utils.regular_files import why_absent


def check_checkpoints(
    opt: Mapping[str, Any], networks: Mapping[str, nn.Module], model: BaseModel | None = None
) -> Iterator[Finding]:
    """Load the initial weights of the networks, or resume the model.

    Args:
        opt: The options.
        networks: The networks by label, such as 'g' for `network_g`. The weights are loaded into them.
        model: The model with these networks, if it could be built.
    """
    if opt['path'].get('resume_state') is not None and opt['is_train']:
        yield from check_state(opt, networks, model)
        return
    for label, net in networks.items():
        yield check_weights(opt, label, net)
    if opt['is_train']:
        yield from check_earlier_run(opt)


def check_weights(opt: Mapping[str, Any], label: str, net: nn.Module) -> Finding:
    """Load `path.pretrain_network_*`, if given."""
    count = f'{sum(weight.numel() for weight in net.parameters()):,} parameters'
    option = f'path.pretrain_network_{label}'
    path = opt['path'].get(f'pretrain_network_{label}')
    if path is None:
        text = f'{option} is not set: network_{label} has random weights, {count}'
        return ok(text) if opt['is_train'] else warning(text)
    if not os.path.exists(path):
        return error(f'{option} is {shortened(path)}, which {why_absent(path)}')
    strict = opt['path'].get(f'strict_load_{label}', True)
    try:
        weights, left_out = load_file(net, path, opt['path'].get(f'param_key_{label}'), strict)
    except UserError as fault:
        return error(str(fault))
    if left_out:
        return warning(f'{option}: {len(left_out)} names of {path} do not fit, the first is {left_out[0]}; {count}')
    return ok(f'{option} fits: {path}, weights {weights}; {count}')


def check_state(
    opt: Mapping[str, Any], networks: Mapping[str, nn.Module], model: BaseModel | None
) -> Iterator[Finding]:
    """Resume from `path.resume_state` and the weights that belong to it."""
    path = opt['path']['resume_state']
    if not os.path.exists(path):
        yield error(f'path.resume_state is {shortened(path)}, which {why_absent(path)}')
        return
    state, total = read_state(path), opt['train']['total_iter']
    done = state['iter']
    for label, weights in resumed_weights(opt, path, done).items():
        if label in networks:
            load_file(networks[label], weights, 'params', opt['path'].get(f'strict_load_{label}', True))
    if model is not None and done <= total:
        model.resume_training(state)
    text = f'path.resume_state: {path} is at iteration {done} of {total}'
    if done > total:
        yield error(f'{text}: raise train.total_iter to resume')
    elif done == total:
        yield warning(f'{text}: training is complete; raise train.total_iter to continue')
    else:
        yield ok(text)


def check_earlier_run(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Look for states from which `--auto_resume` would resume."""
    try:
        folders = opt['path']['training_states'], opt['path']['models']
        found, faults = newest_whole(*folders, resumed_networks(opt))
    except UserError as fault:
        found, faults = None, [str(fault)]
    for message in faults:
        yield warning(message)
    if found:
        yield ok(f'{found} is valid: --auto_resume resumes from it; without it, the folder {opt["name"]} is renamed')
