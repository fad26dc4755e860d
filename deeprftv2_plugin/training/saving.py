"""Atomic saving of weights and training states for any BasicSR model."""

import json
import os
from collections.abc import Callable
from signal import Signals
from typing import Any, NoReturn

from basicsr.utils import get_root_logger
from torch import Tensor, nn

from deeprftv2_plugin.checkpoints.containers import require_values, tensors_of
from deeprftv2_plugin.checkpoints.files import OPTIONS, write_checkpoint
from deeprftv2_plugin.checkpoints.states import prune, record_written, write_state
from deeprftv2_plugin.training import environment, signals
from deeprftv2_plugin.training.resuming import training_weights, types_of
from deeprftv2_plugin.utils.atomic_io import advice
from deeprftv2_plugin.utils.errors import Interrupted, UserError


def save_network(
    self: Any,
    net: nn.Module | list[nn.Module],
    net_label: str,
    current_iter: int | str,
    param_key: str | list[str] = 'params',
) -> None:
    """Write ``{label}_{iteration}.pth`` and ``{label}_{iteration}.safetensors``.

    The ``.safetensors`` file also stores the options. It contains a single set of weights: the average if there is one,
    since that is the one used for restoration. The first process writes. All processes check their weights, which are
    equal, so that all of them stop if the training has diverged.

    Args:
        self: A BasicSR model. Its attribute ``recorded_options``, if present, replaces ``opt`` as the stored options.
        net: One or more networks.
        net_label: Label of the network, the first part of the file names.
        current_iter: Iteration, or a label such as 'best'; -1 means 'latest'.
        param_key: Name of each set of weights.

    Raises:
        OSError: The .pth file cannot be written. An existing file of the same name is unchanged.
        UserError: Weights are not finite.
    """
    name = f'{net_label}_{"latest" if current_iter == -1 else current_iter}'
    path = os.path.join(self.opt['path']['models'], name)
    nets = [self.get_bare_model(each) for each in (net if isinstance(net, list) else [net])]
    names = param_key if isinstance(param_key, list) else [param_key]
    sets: dict[str, dict[str, Tensor]] = {}
    for part, each in zip(names, nets, strict=True):
        _require_finite(each, f'{name} ({part})')
        state = each.state_dict()
        sets[part] = {key.removeprefix('module.'): value.detach() for key, value in state.items()}
    if self.opt['rank'] == 0:
        _write_network(self, sets, path, current_iter)


def _write_network(self: Any, sets: dict[str, dict[str, Tensor]], path: str, current_iter: int | str) -> None:
    sets = {part: {key: value.cpu() for key, value in state.items()} for part, state in sets.items()}
    if isinstance(current_iter, int) and current_iter >= 0:
        record_written(self.opt['path']['log'], [f'{path}.pth', f'{path}.safetensors'])
    write_checkpoint(sets, f'{path}.pth')
    deployed = next((part for part in sets if part.endswith('_ema')), next(iter(sets)))
    options = getattr(self, 'recorded_options', self.opt)
    try:
        metadata = {OPTIONS: json.dumps(options, default=str)}
        write_checkpoint({deployed: sets[deployed]}, f'{path}.safetensors', metadata)
    except Exception as error:  # no run resumes from this file, so the training can continue
        get_root_logger().warning(f'{path}.safetensors could not be written: {error}. {path}.pth is complete.')


def _require_finite(net: nn.Module, name: str) -> None:
    """Check the values that an optimizer has written, since only gradients are checked in every step.

    Infinite buffers are allowed, since some networks have them from the beginning, such as masks.

    Raises:
        UserError: A weight is not finite.
    """
    trained = {key for key, weight in net.named_parameters() if weight.requires_grad}
    for key, value in net.state_dict().items():
        if value.is_floating_point() or value.is_complex():
            faults = ~value.isfinite() if key in trained else value.isnan()
            if faults.any():
                raise UserError(_diverged(f'{name}: {key} has {int(faults.sum())} values that are not finite'))


def _diverged(fault: str) -> str:
    return (
        f'{fault}, so it is not saved. Training has diverged. Existing checkpoints are valid. Lower the learning rate '
        'or set train.clip_grad_norm, then resume'
    )


def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
    """Write ``{iteration}.state``: everything needed to resume exactly, except for the weights.

    In addition to BasicSR's iteration, epoch, optimizers and schedules, the state contains the best metrics, the losses
    that no schedule has used yet, the position in the sample stream, the settings on which the stream depends, and the
    software and hardware on which the last bits depend. If the optimizer has separate weights for training, these are
    included; `save_network` saves those for evaluation. Random number generators are not saved, since the seed, the
    position and the iteration determine all random numbers.

    Raises:
        OSError: The file cannot be written.
        UserError: The state of the optimizer contains NaN, so that no run could resume from it. Raised in all
            processes, as in `save_network`.
    """
    if current_iter == -1:
        return
    state = {
        'epoch': epoch,
        'iter': current_iter,
        'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
        'schedulers': [schedule.state_dict() for schedule in self.schedulers],
        'types': types_of(self.optimizers, self.schedulers),
        'environment': environment.describe(self.device),
        'best_metric_results': getattr(self, 'best_metric_results', {}),
        'unseen_losses': getattr(self, 'unseen_losses', []),
        **training_weights(self.optimizers),
        **({'stream': self.stream_at(current_iter)} if hasattr(self, 'stream_at') else {}),
    }
    try:
        require_values(tensors_of(state))
    except UserError as error:
        raise UserError(_diverged(f'{current_iter}.state: {error}')) from error
    if self.opt['rank'] == 0:
        path = os.path.join(self.opt['path']['training_states'], f'{current_iter}.state')
        record_written(self.opt['path']['log'], [path])
        write_state(state, path)


def save_or_log(model: Any, save: Callable[[int, int], object], epoch: int, current_iter: int) -> bool:
    """Save a model. If writing fails, log the error and continue training, unless this is the final save.

    Args:
        model: A BasicSR model.
        save: The model's own method for saving.
        epoch: Current epoch.
        current_iter: Current iteration; -1 at the end of training.

    Returns:
        Whether all files were written.

    Raises:
        UserError: The final save failed.
    """
    opt = model.opt
    states, models = (opt['path'][key] for key in ('training_states', 'models'))
    try:
        save(epoch, current_iter)
        keep = opt['logger'].get('keep_checkpoints')
        if keep and opt['rank'] == 0 and current_iter != -1:
            prune(opt['path']['log'], states, models, keep)
        return True
    except OSError as error:
        text = f'{error.filename or models} could not be written: {error.strerror or error}'
        if current_iter == -1:
            raise UserError(
                f'the final weights are not saved: {text}. Existing checkpoints are valid. {advice(error)}, then resume'
            ) from error
        get_root_logger().error(
            f'{text}. Existing checkpoints are valid. Training continues and will retry at the next save'
        )
        return False


def leave(model: Any, epoch: int, current_iter: int) -> NoReturn:
    """Save the state and stop training. Called in all processes, even if only one of them received a request.

    Args:
        model: A BasicSR model whose method `save` returns whether all files were written.
        epoch: Current epoch.
        current_iter: The last completed iteration.

    Raises:
        Interrupted: The state is saved.
        UserError: The state could not be saved.
    """
    request = signals.requested()
    name = request.name if isinstance(request, Signals) else request or 'a request of another process'
    path = model.opt['path'].get('training_states')
    if not model.save(epoch, current_iter):
        raise UserError(f'{name} at iteration {current_iter}, but the state could not be saved')
    text = f'{name}: the state of iteration {current_iter} is saved in {path}. Rerun with --auto_resume to resume.'
    get_root_logger().warning(text)
    raise Interrupted(signals.exit_status(request), text)
