"""From which weights and from which iteration a run begins."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from deeprftv2_plugin.checkpoints import load_into, read_weights
from deeprftv2_plugin.checkpoints.states import newest_whole, read_state
from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.utils.errors import UserError


def check_checkpoints(opt: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> Iterator[Finding]:
    """Loads what the networks begin with.

    Args:
        opt: The options.
        networks: The networks by their labels, such as 'g' for that of `network_g`; they get their weights.
    """
    if opt['path'].get('resume_state') is not None and 'train' in opt:
        yield from check_state(opt, networks)
        return
    for label, net in networks.items():
        yield check_weights(opt, label, net)
    if 'train' in opt:
        yield from check_earlier_run(opt, networks)


def check_weights(opt: Mapping[str, Any], label: str, net: nn.Module) -> Finding:
    """Loads `path.pretrain_network_*`, if there is one."""
    count = f'{sum(weight.numel() for weight in net.parameters()):,} parameters'
    option = f'path.pretrain_network_{label}'
    path = opt['path'].get(f'pretrain_network_{label}')
    if path is None:
        text = f'{option} names none: network_{label} has random weights, {count}'
        return ok(text) if 'train' in opt else warning(text)
    strict = opt['path'].get(f'strict_load_{label}', True)
    weights = read_weights(path, opt['path'].get(f'param_key_{label}', 'params'))
    left_out = load_into(net, weights, path, strict)
    if left_out:
        return warning(f'{option}: {len(left_out)} names of {path} do not fit, the first is {left_out[0]}; {count}')
    return ok(f'{option} fits: {path}, {count}')


def check_state(opt: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> Iterator[Finding]:
    """Reads `path.resume_state` and the weights that belong to it."""
    path = Path(opt['path']['resume_state'])
    done, total = read_state(path)['iter'], opt['train']['total_iter']
    ignored = opt['path'].get('ignore_resume_networks') or []
    for label, net in networks.items():
        if f'network_{label}' not in ignored:
            weights = path.absolute().parent.parent / 'models' / f'net_{label}_{done}.pth'
            load_into(net, read_weights(weights), weights, opt['path'].get(f'strict_load_{label}', True))
    text = f'path.resume_state: {path} has done {done} of {total} iterations'
    if done > total:
        yield error(f'{text}: raise train.total_iter to go on')
    elif done == total:
        yield warning(f'{text}: nothing is left to train; raise train.total_iter to go on')
    else:
        yield ok(text)


def check_earlier_run(opt: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> Iterator[Finding]:
    """Looks for states that `--auto_resume` would find."""
    try:
        found, faults = newest_whole(opt['path']['training_states'], opt['path']['models'], list(networks))
    except UserError as fault:
        found, faults = None, [str(fault)]
    for message in faults:
        yield warning(message)
    if found:
        yield ok(f'{found} is whole: --auto_resume goes on from it, without it the folder {opt["name"]} is renamed')
