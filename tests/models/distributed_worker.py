"""Train on one process's share of a batch. Rank 0 saves the results.

torchrun --nproc_per_node=N -m tests.models.distributed_worker FILE
"""

import sys
import warnings

import torch

from deeprftv2_plugin.basicsr_bridge.distributed import init_dist
from deeprftv2_plugin.cli import exit_without_finalization

from .toys import SWINIR, batch, make_model, options, train

NETWORKS = {
    'TwoScales': ({'type': 'TwoScales'}, {}),
    'accumulated': ({'type': 'TwoScales'}, {'accumulation': 2}),
    'SwinIR': (SWINIR, {}),
    'DeepRFTv2': ({'type': 'DeepRFTv2', 'variant': 'T'}, {}),
    'channels_last': ({'type': 'DeepRFTv2', 'variant': 'T'}, {'channels_last': True}),
    'line_search': (
        {'type': 'TwoScales'},
        {'optim_g': {'type': 'LBFGS', 'lr': 0.5, 'max_iter': 2, 'line_search_fn': 'strong_wolfe'}},
    ),
}
"""Networks and additions to the section ``train``."""


def run(network, settings, rank=0, world_size=1):
    """Run three iterations on this process's share of a batch.

    Returns:
        The clipped gradients of the first iteration and the number of memory blocks that hold all gradients; the
        weights, their average and the log after the last iteration; all learning rates; and the warnings about the
        strides of gradients.
    """
    plateau = {'type': 'ReduceLROnPlateau', 'patience': 0, 'threshold': 0.9}  # lowers the rate in every step
    settings = {'optim_g': {'type': 'SGD', 'lr': 0.01}, **settings}
    opt = options(network, frequency_opt={'type': 'FourierLoss', 'loss_weight': 0.01}, ema_decay=0.5,
                  clip_grad_norm=0.1, scheduler=plateau, **settings)  # fmt: skip
    opt.update(dist=world_size > 1, rank=rank, world_size=world_size)
    model = make_model(opt=opt)
    images = batch(2 * settings.get('accumulation', 1), size=32)
    data = {name: value[rank::world_size] for name, value in images.items()}
    net = model.get_bare_model(model.net_g)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        rates = train(model, [1], data=data)
        gradients = {name: weight.grad.clone() for name, weight in net.named_parameters()}
        rates += train(model, [2, 3], data=data)
    blocks = {weight.grad.untyped_storage().data_ptr() for weight in net.parameters()}
    return {
        'gradients': gradients,
        'blocks': len(blocks),
        'weights': dict(net.state_dict()),
        'average': dict(model.net_g_ema.state_dict()),
        'log': dict(model.get_current_log()),
        'rates': rates,
        'warnings': [str(each.message) for each in caught if 'strides' in str(each.message)],
    }


def main():
    torch.set_warn_always(True)  # otherwise one warning suppresses those of the following networks
    init_dist('pytorch')
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    found = {name: run(*network, rank, world_size) for name, network in NETWORKS.items()}
    for result in found.values():
        rates = [None] * world_size
        torch.distributed.all_gather_object(rates, result['rates'])
        assert rates == [rates[0]] * world_size, 'learning rates differ between processes'
    if rank == 0:
        torch.save(found, sys.argv[1])
    torch.distributed.destroy_process_group()
    exit_without_finalization(0)


if __name__ == '__main__':
    main()
