"""One of several processes: trains on its share of the batch, and rank 0 saves what it has come to.

torchrun --nproc_per_node=N -m tests.models.distributed_worker FILE
"""

import sys
import warnings

import torch

from deeprftv2_plugin.basicsr_bridge.distributed import init_dist

from .toys import SWINIR, batch, make_model, options, train

NETWORKS = {
    'TwoScales': ({'type': 'TwoScales'}, {}),
    'accumulated': ({'type': 'TwoScales'}, {'accumulation': 2}),
    'SwinIR': (SWINIR, {}),
    'DeepRFTv2': ({'type': 'DeepRFTv2', 'variant': 'T'}, {}),
    'channels_last': ({'type': 'DeepRFTv2', 'variant': 'T'}, {'channels_last': True}),
}
"""Networks with what is special in their section ``train``."""


def run(network, settings, rank=0, world_size=1):
    """Three iterations on this process's share of a batch.

    Returns:
        The clipped gradients of the first iteration, and in how many pieces of memory all of them lie; after the last
        the weights, their average and the log; the learning rate of each; and the warnings about the layout of
        gradients.
    """
    plateau = {'type': 'ReduceLROnPlateau', 'patience': 0, 'threshold': 0.9}  # no loss falls as fast as that
    opt = options(network, frequency_opt={'type': 'FourierLoss', 'loss_weight': 0.01}, ema_decay=0.5,
                  optim_g={'type': 'SGD', 'lr': 0.01}, clip_grad_norm=0.1, scheduler=plateau, **settings)  # fmt: skip
    opt.update(dist=world_size > 1, rank=rank, world_size=world_size)
    model = make_model(opt=opt)
    pictures = batch(2 * settings.get('accumulation', 1), size=32)
    data = {name: value[rank::world_size] for name, value in pictures.items()}
    net = model.get_bare_model(model.net_g)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        rates = train(model, [1], data=data)
        gradients = {name: weight.grad.clone() for name, weight in net.named_parameters()}
        rates += train(model, [2, 3], data=data)
    pieces = {weight.grad.untyped_storage().data_ptr() for weight in net.parameters()}
    return {
        'gradients': gradients,
        'pieces': len(pieces),
        'weights': dict(net.state_dict()),
        'average': dict(model.net_g_ema.state_dict()),
        'log': dict(model.get_current_log()),
        'rates': rates,
        'warnings': [str(each.message) for each in caught if 'strides' in str(each.message)],
    }


def main():
    torch.set_warn_always(True)  # otherwise one warning hides those of the networks that follow
    init_dist('pytorch')
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    found = {name: run(*network, rank, world_size) for name, network in NETWORKS.items()}
    for result in found.values():
        rates = [None] * world_size
        torch.distributed.all_gather_object(rates, result['rates'])
        assert rates == [rates[0]] * world_size, 'the processes do not agree on the learning rate'
    if rank == 0:
        torch.save(found, sys.argv[1])
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
