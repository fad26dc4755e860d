"""The model class that BasicSR's pipelines drive."""

from collections import OrderedDict
from contextlib import nullcontext
from itertools import chain

import torch
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from deeprftv2_plugin.data.loading.loader import seed_everything
from deeprftv2_plugin.losses import MultiScaleLoss
from deeprftv2_plugin.models.restoration_model import RestorationModel
from deeprftv2_plugin.training import memory_layout as layout
from deeprftv2_plugin.training import signals as interruption
from deeprftv2_plugin.training.dist_flags import Agreement
from deeprftv2_plugin.training.ema import Average
from deeprftv2_plugin.training.optimizers import advance, build_optimiser, build_schedule, step_where
from deeprftv2_plugin.training.progress import ProgressBar
from deeprftv2_plugin.training.stages import accumulation_of, gpus_of
from deeprftv2_plugin.utils.errors import Interrupted, UserError

SETTLED = ('T_max', 'eta_min', 'milestones', 'gamma', 'step_size', 'periods', 'total_steps', 'total_iters', 'T_0')
"""What of a schedule comes with the state, and is not changed by other options."""
PATIENCE = 20
"""How many steps in a row may be skipped for a loss or gradient that is not finite."""


class DeepRFTv2Model(RestorationModel):
    """Trains and validates any network that restores pictures, DeepRFTv2 first of all.

    Beyond the options of BasicSR's ``SRModel``:

    - ``train.pixel_opt`` and ``train.frequency_opt``, each any registered loss, are taken over all outputs of
      the network and over both of its scales (see :class:`MultiScaleLoss`), ``train.perceptual_opt`` over the
      last output.
    - ``train.optim_g`` and ``train.scheduler`` name any class of ``torch.optim`` and its ``lr_scheduler``, or
      a schedule of BasicSR's; without a scheduler the rate stays.
    - ``train.warmup_iter`` multiplies the scheduled rate by a factor that rises to one.
    - ``train.clip_grad_norm`` bounds the norm of the gradient of all parameters. The norm is logged.
    - ``train.accumulation``, or ``train.recipe_gpus`` in its place, is how many batches a step takes, see
      :func:`deeprftv2_plugin.training.stages.accumulation_of`. The processes exchange gradients once a step.
    - ``train.bf16`` runs the network in bfloat16 where autocast finds that safe; losses stay in float32.
    - ``train.channels_last`` and ``train.compile`` give the network that memory format, and to torch.compile.

    A step whose loss or gradient is not finite is skipped in all processes alike, and counted. Where SIGTERM,
    SIGUSR1 or Ctrl-C ask for it, the state is saved at the end of the step. Each iteration has random numbers of
    its own, by the seed, the process and its number.

    Raises:
        UserError: The options ask for what is not there; the message names them.
    """

    def model_to_device(self, net):
        train_opt = self.opt.get('train') or {}
        if train_opt.get('channels_last'):
            layout.to_channels_last(net)
        if train_opt.get('compile') and self.is_train:
            net.compile()
        if not self.opt['dist']:
            return super().model_to_device(net)
        net = net.to(self.device)
        layout.match_gradients(net)
        return DistributedDataParallel(
            net,
            device_ids=[torch.cuda.current_device()] if self.device.type == 'cuda' else None,
            find_unused_parameters=self.opt.get('find_unused_parameters', False),
            gradient_as_bucket_view=True,  # otherwise each gradient is copied back from what was exchanged
        )

    def init_training_settings(self):
        train_opt = self.opt['train']
        if not train_opt.get('pixel_opt') and not train_opt.get('perceptual_opt'):
            raise UserError(
                'train: needs pixel_opt or perceptual_opt, with or without frequency_opt; '
                'give a loss, for instance pixel_opt: {type: L1Loss}.'
            )
        self.cri_frequency = None
        if train_opt.get('frequency_opt'):
            self.cri_frequency = _over_scales(build_loss(train_opt['frequency_opt'])).to(self.device)
        super().init_training_settings()
        if self.cri_pix is not None:
            self.cri_pix = _over_scales(self.cri_pix)
        self.accumulation = accumulation_of(self.opt, gpus_of(self.opt))
        self.buffers = [each for each in self.get_bare_model(self.net_g).buffers() if each.is_floating_point()]
        self.agreement = Agreement(self.device, self.processes)
        self.skipped, self.skipped_in_a_row = 0, 0
        self.unseen_losses = []  # those that no schedule has been given yet
        self.progress = None

    def get_optimizer(self, optim_type, params, **settings):
        return build_optimiser({'type': optim_type, **settings}, params)

    def setup_schedulers(self):
        settings = self.opt['train'].get('scheduler') or {'type': 'ConstantLR', 'factor': 1}
        self.schedulers = [build_schedule(settings, optimizer) for optimizer in self.optimizers]

    def update_learning_rate(self, current_iter, warmup_iter=-1):
        """Set the rate of an iteration: the scheduled one, times the part of the warm-up that is over.

        Args:
            current_iter: The iteration about to begin, counted from 1.
            warmup_iter: The first iteration with the whole rate; -1 for no warm-up.
        """
        if current_iter > 1:
            for scheduler in self.schedulers:
                advance(scheduler, self.unseen_losses)
            self.unseen_losses.clear()
        if current_iter < warmup_iter:
            part = current_iter / warmup_iter
            self._set_lr([[rate * part for rate in scheduler.get_last_lr()] for scheduler in self.schedulers])

    def feed_data(self, data):
        """Copy a batch to the device. The CPU does not wait for what is in pinned memory."""
        vars(self).pop('gt', None)  # a picture without ground truth must not be compared with the last one's
        self.lq = data['lq'].to(self.device, non_blocking=True)
        if 'gt' in data:
            self.gt = data['gt'].to(self.device, non_blocking=True)
        if (self.opt.get('train') or {}).get('channels_last'):
            self.lq = self.lq.contiguous(memory_format=torch.channels_last)

    def optimize_parameters(self, current_iter):
        seed_everything(self.opt.get('manual_seed') or 0, self.opt['rank'], current_iter)
        asked = interruption.requested()
        before = [buffer.clone() for buffer in self.buffers]
        total = self.compute_gradients()
        finite = torch.isfinite(total) & torch.isfinite(self.terms['grad_norm'])
        finite, news = self.agreement.share(current_iter, finite, total, leave=asked is not None)
        for buffer, old in zip(self.buffers, before, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))
        step_where(finite, self.optimizer_g, total, self.compute_gradients)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        if self.progress is None:
            iterations = int(self.opt['train']['total_iter'])
            self.progress = ProgressBar(iterations, current_iter - 1, visible=self.opt['rank'] == 0)
        self.progress.advance(current_iter, news and news.loss, self.get_current_learning_rate()[0])
        if news is not None:
            self.hear(news)
        leave = news is not None and news.leave if self.processes > 1 else asked or interruption.requested()
        if leave:
            self.leave(current_iter)

    def get_current_log(self):
        """Return the losses of the last iteration, the mean over all processes. The CPU waits for the GPU once."""
        values = torch.stack([value.mean() for value in self.terms.values()])
        if self.processes > 1:
            torch.distributed.all_reduce(values)
        return OrderedDict(zip(self.terms, (values / self.processes).tolist(), strict=True))

    def compute_gradients(self):
        """Fill the gradients for the current batch, and ``self.terms`` with what is logged.

        An optimiser that evaluates the loss more than once a step, as LBFGS, calls this as often.

        Returns:
            The sum of all losses.
        """
        self.optimizer_g.zero_grad()
        parts = list(zip(self.lq.chunk(self.accumulation), self.gt.chunk(self.accumulation), strict=True))
        terms = OrderedDict()
        for number, (lq, gt) in enumerate(parts, 1):
            waiting = number < len(parts) and hasattr(self.net_g, 'no_sync')
            with self.net_g.no_sync() if waiting else nullcontext():
                losses = self.losses_of(self.run(lq), gt)
                losses['l_total'] = torch.stack(list(losses.values())).sum()
                share = len(lq) / len(self.lq)
                (losses['l_total'] * share).backward()
            for name, value in losses.items():
                terms[name] = terms.get(name, 0) + share * value.detach()
        trained = (group['params'] for group in self.optimizer_g.param_groups)
        weights = [weight for weight in chain.from_iterable(trained) if weight.grad is not None]
        terms['grad_norm'] = get_total_norm([weight.grad for weight in weights])
        limit = self.opt['train'].get('clip_grad_norm')
        if limit:
            clip_grads_with_norm_(weights, limit, terms['grad_norm'])
        self.terms = terms
        return terms['l_total']

    def run(self, lq):
        """What the network puts out for a part of a batch, in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.opt['train'].get('bf16'))):
            output = self.net_g(lq)
        return _in_float32(output)

    def losses_of(self, output, gt):
        """The losses by their names in the log: ``l_pix_full``, ``l_pix_half``, ...; ``l_pix`` for one scale.

        Args:
            output: What the network put out.
            gt: What it should have been.
        """
        terms = OrderedDict()
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

    def hear(self, news):
        """Note the loss of a step, and count a step that was skipped.

        Raises:
            UserError: Too many steps in a row were skipped; raised in all processes alike.
        """
        self.unseen_losses.append(news.loss)
        if news.finite:
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        get_root_logger().warning(
            f'Iteration {news.iteration}: loss or gradient is not finite, the step is skipped '
            f'({self.skipped_in_a_row} in a row, {self.skipped} in all).'
        )
        if self.skipped_in_a_row >= PATIENCE:
            raise UserError(
                f'the loss or its gradient was not finite in {PATIENCE} steps in a row, up to iteration '
                f'{news.iteration}; the weights are those before them, and the states saved are sound. Look at the '
                'data of these iterations, lower train.optim_g.lr, set train.clip_grad_norm, or leave out train.bf16; '
                'then resume'
            )

    def leave(self, current_iter):
        """Save the state and end the training; a process that was not asked to follows one that was."""
        request = interruption.requested()
        name = request.name if request else 'a signal to another process'
        path = self.opt['path'].get('training_states')
        if not self.save(self.epoch_at(current_iter), current_iter):
            raise UserError(f'{name} at iteration {current_iter}, but the state could not be saved')
        text = f'{name}: the state of iteration {current_iter} is saved in {path}; --auto_resume goes on from it.'
        get_root_logger().warning(text)
        raise Interrupted(interruption.status_of(request), text)

    def epoch_at(self, current_iter):
        """The epoch of an iteration, as far as the model knows of epochs."""
        plan = getattr(self, 'plan', None)
        return plan.epoch_of(current_iter) if plan else 0

    def save(self, epoch, current_iter):
        """Write weights and state, with what is known of every step so far; gives True."""
        news = self.agreement.settle()
        if news is not None:
            self.hear(news)
        super().save(epoch, current_iter)
        return True

    def resume_training(self, resume_state):
        wanted = [dict(vars(scheduler)) for scheduler in self.schedulers]
        super().resume_training(resume_state)
        for scheduler, before in zip(self.schedulers, wanted, strict=True):
            for key, value in vars(scheduler).items():
                if key in SETTLED and value != before[key]:
                    get_root_logger().warning(
                        f'The schedule keeps {key} {value}, with which the training began; the options say '
                        f'{before[key]}. For another schedule, begin anew with path.pretrain_network_g.'
                    )
        for optimizer in self.optimizers:
            layout.match_state(optimizer)
        self.best_metric_results = resume_state.get('best_metric_results') or {}
        self.unseen_losses = resume_state.get('unseen_losses') or []

    def model_ema(self, decay=0.999):
        if not hasattr(self, '_average'):
            if self.opt['train'].get('channels_last'):
                layout.to_channels_last(self.net_g_ema)  # one pass over all weights needs equal layouts
            self._average = Average(self.net_g_ema, self.get_bare_model(self.net_g))
        self._average.update(decay)


def _over_scales(loss):
    return loss if isinstance(loss, MultiScaleLoss) else MultiScaleLoss([loss])


def _in_float32(output):
    """The tensors of an output, in the lists and named tuples that it has them in."""
    if isinstance(output, Tensor):
        return output.float()
    parts = [_in_float32(part) for part in output]
    return type(output)(*parts) if hasattr(output, '_fields') else parts
