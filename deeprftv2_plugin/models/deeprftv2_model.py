"""The model class for BasicSR's training and test pipelines."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from deeprftv2_plugin.data.loading.loader import seed_everything
from deeprftv2_plugin.losses import MultiScaleLoss
from deeprftv2_plugin.models.restoration_model import RestorationModel
from deeprftv2_plugin.training import memory_layout, resuming, signals
from deeprftv2_plugin.training.dist_flags import SharedFlags, StepResult
from deeprftv2_plugin.training.ema import WeightAverage
from deeprftv2_plugin.training.optimizers import (
    advance,
    build_optimizer,
    build_schedule,
    evaluation_weights,
    step_if_finite,
    weights_of,
)
from deeprftv2_plugin.training.progress import ProgressBar
from deeprftv2_plugin.training.saving import leave
from deeprftv2_plugin.training.stages import accumulation_of, gpus_of
from deeprftv2_plugin.utils.errors import UserError

MAX_SKIPPED_IN_A_ROW = 20
"""Number of consecutive steps without a finite loss and gradient after which training stops."""


class DeepRFTv2Model(RestorationModel):
    """Train and validate DeepRFTv2 or any other restoration network.

    Options in addition to those of BasicSR's ``SRModel``:

    - ``train.pixel_opt`` and ``train.frequency_opt``: any registered losses, applied to all outputs of the network at
      both scales (see :class:`MultiScaleLoss`). ``train.perceptual_opt`` applies to the last output.
    - ``train.optim_g``: any class of ``torch.optim``, or of another package with the name of its module, such as
      ``schedulefree.AdamWScheduleFree``.
    - ``train.scheduler``: any class of ``torch.optim.lr_scheduler``, or a schedule of BasicSR. Without a scheduler the
      learning rate is constant.
    - ``train.warmup_iter``: multiply the scheduled rate by a factor that rises linearly to one.
    - ``train.clip_grad_norm``: maximum norm of the gradient of all parameters. The norm is logged.
    - ``train.accumulation`` or ``train.recipe_gpus``: number of batches per step, see
      :func:`deeprftv2_plugin.training.stages.accumulation_of`. Gradients are synchronized once per step.
    - ``train.bf16``: run the network under bfloat16 autocast. Losses are computed in float32.
    - ``train.channels_last`` and ``train.compile``: use the channels_last memory format and ``torch.compile``.

    A step whose loss or gradient is not finite is counted and skipped in all processes. On SIGTERM, SIGHUP, SIGUSR1 or
    Ctrl-C the state is saved after the step, once its log line is written. Random numbers are seeded in every iteration
    from the seed, the rank and the iteration.

    Args:
        opt: BasicSR's options.

    Raises:
        UserError: The options are not supported.
    """

    cri_pix: MultiScaleLoss | None
    cri_perceptual: Any
    lq: Tensor
    gt: Tensor
    _evaluation: ExitStack | None = None
    """Switches back to the weights for training; None outside of `evaluating`."""

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the device, and wrap it for distributed training."""
        train_opt = self.opt.get('train') or {}
        if train_opt.get('channels_last'):
            memory_layout.to_channels_last(net)
        if train_opt.get('compile') and self.is_train:
            net.compile()
        if not self.opt['dist']:
            return super().model_to_device(net)
        net = net.to(self.device)
        memory_layout.match_gradients(net)
        return DistributedDataParallel(
            net,
            device_ids=[torch.cuda.current_device()] if self.device.type == 'cuda' else None,
            find_unused_parameters=self.opt.get('find_unused_parameters', False),
            gradient_as_bucket_view=True,  # avoids copying every gradient back from the communication buffer
        )

    def init_training_settings(self) -> None:
        """Build the losses, optimizers, schedules and the weight average.

        Raises:
            UserError: The options have no loss, or a value is invalid.
        """
        train_opt = self.opt['train']
        if not train_opt.get('pixel_opt') and not train_opt.get('perceptual_opt'):
            raise UserError(
                'train: found neither pixel_opt nor perceptual_opt, expected at least one of them. '
                'Add a loss, e.g. pixel_opt: {type: L1Loss}.'
            )
        self.cri_frequency = None
        if train_opt.get('frequency_opt'):
            self.cri_frequency = _over_scales(build_loss(train_opt['frequency_opt'])).to(self.device)
        super().init_training_settings()
        if self.cri_pix is not None:
            self.cri_pix = _over_scales(self.cri_pix)
        self.accumulation = accumulation_of(self.opt, gpus_of(self.opt))
        self.buffers = [each for each in self.get_bare_model(self.net_g).buffers() if each.is_floating_point()]
        self.flags = SharedFlags(self.device, self.processes)
        self.skipped, self.skipped_in_a_row, self.last_skipped = 0, 0, 0
        self.unseen_losses: list[float] = []  # not yet used by the schedules
        self.progress: ProgressBar | None = None

    def get_optimizer(self, optim_type: str, params: list, **settings: Any) -> Optimizer:
        """Build the optimizer of ``train.optim_g``."""
        return build_optimizer({'type': optim_type, **settings}, params)

    def setup_schedulers(self) -> None:
        """Build the schedule of ``train.scheduler`` for each optimizer."""
        settings = self.opt['train'].get('scheduler') or {'type': 'ConstantLR', 'factor': 1}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault('initial_lr', group['lr'])  # ReduceLROnPlateau does not store it
        self.schedulers = [build_schedule(settings, optimizer) for optimizer in self.optimizers]

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the learning rate of an iteration: the scheduled rate times the warm-up factor.

        Args:
            current_iter: The iteration about to begin, counted from 1.
            warmup_iter: First iteration with the full rate; -1 for no warm-up.

        Raises:
            Interrupted: A signal or a fault requested a stop. The state of the previous iteration is saved.
            UserError: The state could not be saved, or too many consecutive steps were skipped. All processes raise it.
        """
        # the following are not raised in a step, whose state could not be saved
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise UserError(
                f'the loss or gradient was not finite in {self.skipped_in_a_row} consecutive steps, up to iteration '
                f'{self.last_skipped}. These steps did not change the weights, and saved checkpoints are valid. Check '
                'the data of these iterations, lower train.optim_g.lr, set train.clip_grad_norm, or remove train.bf16; '
                'then resume'
            )
        if self.leaving:
            self.leave(current_iter - 1)
        if current_iter > 1:
            for scheduler in self.schedulers:
                advance(scheduler, self.unseen_losses)
            self.unseen_losses.clear()
        if current_iter < warmup_iter:
            factor = current_iter / warmup_iter
            self._set_lr([[rate * factor for rate in scheduler.get_last_lr()] for scheduler in self.schedulers])

    def feed_data(self, data: dict[str, Any]) -> None:
        """Copy a batch to the device, asynchronously if it is in pinned memory.

        Args:
            data: ``lq`` and, if available, ``gt``, tensors (N, C, H, W).
        """
        if hasattr(self, 'gt'):  # otherwise an image without ground truth would be compared with the previous one
            del self.gt
        self.lq = data['lq'].to(self.device, non_blocking=True)
        if 'gt' in data:
            self.gt = data['gt'].to(self.device, non_blocking=True)
        if (self.opt.get('train') or {}).get('channels_last'):
            self.lq = self.lq.contiguous(memory_format=torch.channels_last)

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step."""
        seed_everything(self.opt.get('manual_seed') or 0, self.opt['rank'], current_iter)
        signal_before = signals.requested()
        old_buffers = [buffer.clone() for buffer in self.buffers]
        total = self.compute_gradients()
        finite = torch.isfinite(total) & torch.isfinite(self.terms['grad_norm'])
        finite, mean, result = self.flags.share(current_iter, finite, total, leave=signal_before is not None)
        for buffer, old in zip(self.buffers, old_buffers, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))
        step_if_finite(finite, self.optimizer_g, mean, lambda: self.flags.mean(self.compute_gradients()))
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        if self.progress is None:
            iterations = int(self.opt['train']['total_iter'])
            self.progress = ProgressBar(iterations, current_iter - 1, visible=self.opt['rank'] == 0)
        self.progress.advance(current_iter, result and result.loss, self.get_current_learning_rate()[0])
        if result is not None:
            self.record(result)
        if self.processes > 1:
            self.leaving = result is not None and result.leave
        else:
            self.leaving = signals.requested() is not None

    def get_current_log(self) -> dict[str, float]:
        """Return the losses of the last iteration, averaged over all processes. Waits for the GPU once."""
        values = torch.stack([value.mean() for value in self.terms.values()])
        if self.processes > 1:
            torch.distributed.all_reduce(values)
        return OrderedDict(zip(self.terms, (values / self.processes).tolist(), strict=True))

    def compute_gradients(self) -> Tensor:
        """Compute the gradients of the current batch, and store the losses to be logged in ``self.terms``.

        Optimizers that evaluate the loss several times per step, such as LBFGS, call this repeatedly.

        Returns:
            The sum of all losses, a scalar tensor.
        """
        self.optimizer_g.zero_grad()
        parts = list(zip(self.lq.chunk(self.accumulation), self.gt.chunk(self.accumulation), strict=True))
        terms: OrderedDict[str, Tensor] = OrderedDict()
        for number, (lq, gt) in enumerate(parts, 1):
            accumulating = number < len(parts) and hasattr(self.net_g, 'no_sync')
            with self.net_g.no_sync() if accumulating else nullcontext():
                losses = self.compute_losses(self.run(lq), gt)
                losses['l_total'] = torch.stack(list(losses.values())).sum()
                weight = len(lq) / len(self.lq)
                (losses['l_total'] * weight).backward()
            for name, value in losses.items():
                term = weight * value.detach()
                terms[name] = terms[name] + term if name in terms else term
        params = weights_of(self.optimizer_g)
        terms['grad_norm'] = get_total_norm([param.grad for param in params if param.grad is not None])
        limit = self.opt['train'].get('clip_grad_norm')
        if limit:
            clip_grads_with_norm_(params, limit, terms['grad_norm'])
        self.terms = terms
        return terms['l_total']

    def run(self, lq: Tensor) -> Any:
        """Return the output of the network for a part of a batch, in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.opt['train'].get('bf16'))):
            output = self.net_g(lq)
        return _in_float32(output)

    def compute_losses(self, output: Any, gt: Tensor) -> OrderedDict[str, Tensor]:
        """Return the losses by their names in the log.

        The names are ``l_pix_full``, ``l_pix_half`` etc. for two scales and ``l_pix`` etc. for a single scale.

        Args:
            output: Output of the network.
            gt: Ground truth (N, C, H, W).
        """
        terms: OrderedDict[str, Tensor] = OrderedDict()
        for name, criterion in (('l_pix', self.cri_pix), ('l_frequency', self.cri_frequency)):
            if criterion is not None:
                scales = criterion.per_scale(output, gt)
                for scale, value in scales.items():
                    terms[f'{name}_{scale}' if len(scales) > 1 else name] = value
        if self.cri_perceptual is not None:
            outputs = getattr(output, 'full', output)
            last = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
            parts = zip(('l_percep', 'l_style'), self.cri_perceptual(last, gt), strict=True)
            terms.update((name, value) for name, value in parts if value is not None)
        return terms

    def record(self, result: StepResult) -> None:
        """Record the loss of a step, and count the step if it was skipped."""
        self.unseen_losses.append(result.loss)
        if result.finite:
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.last_skipped = result.iteration
        get_root_logger().warning(
            f'Iteration {result.iteration}: the loss or gradient is not finite, the step is skipped '
            f'({self.skipped_in_a_row} in a row, {self.skipped} in total).'
        )

    def leave(self, current_iter: int) -> None:
        """Save the state and stop training in all processes, even if only one of them received a request.

        Raises:
            Interrupted: The state is saved.
            UserError: The state could not be saved.
        """
        leave(self, self.epoch_at(current_iter), current_iter)

    def epoch_at(self, current_iter: int) -> int:
        """Return the epoch of an iteration; 0 if the model has no sample plan."""
        plan = getattr(self, 'plan', None)
        return plan.epoch_of(current_iter) if plan else 0

    def save(self, epoch: int, current_iter: int) -> bool:
        """Save the weights and the state, after all pending step results are recorded; return True.

        This ends an evaluation, since the state needs the weights for training.
        """
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None
        result = self.flags.settle()
        if result is not None:
            self.record(result)
        super().save(epoch, current_iter)
        return True

    def save_network(self, *args: Any, **kwargs: Any) -> None:
        """Save the weights; if the optimizer has two modes, those for evaluation."""
        with self.evaluating():
            super().save_network(*args, **kwargs)

    def validation(self, *args: Any, **kwargs: Any) -> None:
        """Validate the weights that `save_network` saves, see `RestorationModel.validation`."""
        with self.evaluating():
            super().validation(*args, **kwargs)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to the weights for evaluation within the block or until `save`. Blocks can be nested."""
        if self._evaluation is not None or not self.is_train:
            yield
            return
        try:
            with ExitStack() as self._evaluation:
                self._evaluation.enter_context(evaluation_weights(self.optimizers))
                yield
        finally:
            self._evaluation = None

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Load a training state returned by `checkpoints.states.read_state`.

        Optimizer and schedule use the settings of the options. Settings that differ from the resumed run are logged.

        Raises:
            UserError: The state belongs to another network, optimizer or type of schedule.
        """
        resuming.prepare(self, resume_state, same_schedules=False)
        types = resume_state.get('types', {}).get('schedulers', [None] * len(self.schedulers))
        changes = []
        for number, (optimizer, schedule) in enumerate(zip(self.optimizers, self.schedulers, strict=True)):
            saved = resume_state['optimizers'][number]
            changes += resuming.resume_optimizer(optimizer, saved)
            saved_schedule = resume_state['schedulers'][number]
            rates = [group.get('initial_lr') for group in saved['param_groups']]
            changes += resuming.resume_schedule(schedule, saved_schedule, resume_state['iter'], types[number], rates)
        resuming.resume_weights(self.optimizers, resume_state.get('training_weights'))
        for text in dict.fromkeys(changes):
            get_root_logger().warning(text)
        self.best_metric_results = resume_state.get('best_metric_results') or {}
        self.unseen_losses = list(resume_state.get('unseen_losses') or [])

    def model_ema(self, decay: float = 0.999) -> None:
        """Update the weight average."""
        if not hasattr(self, '_average'):
            if self.opt['train'].get('channels_last'):
                memory_layout.to_channels_last(self.net_g_ema)  # the fused update requires equal layouts
            self._average = WeightAverage(self.net_g_ema, self.get_bare_model(self.net_g))
        self._average.update(decay)


def _over_scales(loss: nn.Module) -> MultiScaleLoss:
    return loss if isinstance(loss, MultiScaleLoss) else MultiScaleLoss([loss])


def _in_float32(output: Any) -> Any:
    """Convert the tensors in nested lists and named tuples to float32."""
    if isinstance(output, Tensor):
        return output.float()
    parts = [_in_float32(part) for part in output]
    return type(output)(*parts) if hasattr(output, '_fields') else parts
