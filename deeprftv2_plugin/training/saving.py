"""How any model of BasicSR's writes its weights and its training state: whole files or none."""

import json
import os

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from deeprftv2_plugin.checkpoints.files import OPTIONS, write_checkpoint
from deeprftv2_plugin.checkpoints.states import prune, write_state
from deeprftv2_plugin.utils.errors import UserError


@master_only
def save_network(self, net, net_label, current_iter, param_key='params'):
    """Write ``{label}_{iteration}.pth`` and, with the options in it, ``.safetensors``.

    The latter has one set of weights: the average where there is one, since that is what restores pictures.

    Args:
        self: BasicSR's model; ``recorded_options``, where it has them, are what is written along.
        net: The network or several.
        net_label: Its name in the files' names.
        current_iter: The iteration or a word; -1 stands for 'latest'.
        param_key: The name of the set of weights, or several.

    Raises:
        OSError: A file cannot be written; an earlier one of its name is left as it was.
    """
    name = f'{net_label}_{"latest" if current_iter == -1 else current_iter}'
    path = os.path.join(self.opt['path']['models'], name)
    nets, names = (each if isinstance(each, list) else [each] for each in (net, param_key))
    sets = {}
    for part, each in zip(names, nets, strict=True):
        state = self.get_bare_model(each).state_dict()
        sets[part] = {key.removeprefix('module.'): value.detach().cpu() for key, value in state.items()}
    write_checkpoint(sets, f'{path}.pth')
    deployed = next((part for part in sets if part.endswith('_ema')), names[0])
    options = getattr(self, 'recorded_options', self.opt)
    write_checkpoint({deployed: sets[deployed]}, f'{path}.safetensors', {OPTIONS: json.dumps(options, default=str)})


@master_only
def save_training_state(self, epoch, current_iter):
    """Write ``{iteration}.state``: all from which a run goes on as if it had not ended, but for the weights.

    Beyond BasicSR's iteration, epoch, optimisers and schedules these are the best metrics, the losses that no schedule
    has been given yet, the position in the stream of samples and what its reading depends on. The generators of random
    numbers are not among them, since the seed, the position and the iteration decide all that they give.

    Raises:
        OSError: The file cannot be written.
    """
    if current_iter == -1:
        return
    state = {
        'epoch': epoch,
        'iter': current_iter,
        'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
        'schedulers': [schedule.state_dict() for schedule in self.schedulers],
        'best_metric_results': getattr(self, 'best_metric_results', {}),
        'unseen_losses': getattr(self, 'unseen_losses', []),
        **({'stream': self.stream_at(current_iter)} if hasattr(self, 'stream_at') else {}),
    }
    write_state(state, os.path.join(self.opt['path']['training_states'], f'{current_iter}.state'))


def save_or_go_on(model, save, epoch, current_iter) -> bool:
    """Save; where the disk does not let it, say so and let the training go on, as long as it can be tried again.

    Args:
        model: BasicSR's model.
        save: Its own method to save.
        epoch: The epoch.
        current_iter: The iteration; -1 at the end of a training.

    Returns:
        Whether all is written.

    Raises:
        UserError: At the end of a training, where nothing is tried again.
    """
    opt = model.opt
    paths = [opt['path'][key] for key in ('training_states', 'models')]
    try:
        save(epoch, current_iter)
        keep = opt['logger'].get('keep_checkpoints')
        if keep and opt['rank'] == 0 and current_iter != -1:
            prune(*paths, keep)
        return True
    except OSError as error:
        text = f'{error.filename or paths[1]} could not be written: {error.strerror or error}. What is there is whole'
        if current_iter == -1:
            raise UserError(
                f'the weights at the end of the training are lost: {text}. Make room, then resume'
            ) from error
        get_root_logger().error(f'{text}. The training goes on, the next save is the next try')
        return False
