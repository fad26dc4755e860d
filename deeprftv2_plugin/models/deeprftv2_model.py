"""The model class that BasicSR's pipelines drive."""

import sys
from collections import OrderedDict
from inspect import signature

import torch
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY

from deeprftv2_plugin.errors import UserError
from deeprftv2_plugin.inference import check_tiles, restore
from deeprftv2_plugin.models.ema import update_average
from deeprftv2_plugin.models.losses import MultiScaleLoss
from deeprftv2_plugin.models.optimisers import advance, build_optimiser, build_schedule
from deeprftv2_plugin.models.progress import ProgressBar
from deeprftv2_plugin.ops import backends


class DeepRFTv2Model(SRModel):
    """Trains and validates any network that restores pictures, DeepRFTv2 first of all.

    Beyond the options of BasicSR's ``SRModel``:

    - ``train.pixel_opt`` and ``train.frequency_opt``, each any registered loss, are taken over all outputs of
      the network and over both of its scales (see :class:`MultiScaleLoss`), ``train.perceptual_opt`` over the
      last output.
    - ``train.optim_g`` and ``train.scheduler`` name any class of ``torch.optim`` and its ``lr_scheduler``, or
      a schedule of BasicSR's; without a scheduler the rate stays.
    - ``train.warmup_iter`` multiplies the scheduled rate by a factor that rises to one.
    - ``train.clip_grad_norm`` bounds the norm of the gradient of all parameters, which is then logged.
    - ``val.tile``, ``val.overlap`` and ``val.ensemble`` are those of
      :func:`deeprftv2_plugin.inference.restore`.

    Networks that enlarge (``scale`` other than 1) train alike, and are validated without the last three.

    Raises:
        UserError: The options ask for what is not there; the message names them.
    """

    def __init__(self, opt):
        val_opt = opt.get('val') or {}
        if opt.get('scale', 1) != 1 and (val_opt.get('tile') or val_opt.get('ensemble')):
            raise UserError(
                f'val: found tile or ensemble with scale {opt["scale"]}, but they are for networks that keep '
                'the size of a picture; leave them out or set scale: 1.'
            )
        super().__init__(opt)
        get_root_logger().info(f'Backends in the order of preference: {backends.describe()}.')
        check_tiles(self.get_bare_model(self.net_g), **self.tiles())

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
                advance(scheduler, self.last_loss)
        if current_iter < warmup_iter:
            part = current_iter / warmup_iter
            self._set_lr([[rate * part for rate in scheduler.get_last_lr()] for scheduler in self.schedulers])

    def feed_data(self, data):
        vars(self).pop('gt', None)  # a picture without ground truth must not be compared with the last one's
        super().feed_data(data)

    def optimize_parameters(self, current_iter):
        self.optimizer_g.step(self.compute_gradients)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        if self.progress is None:
            total = int(self.opt['train']['total_iter'])
            self.progress = ProgressBar(total, current_iter - 1, visible=self.opt['rank'] == 0)
        self.progress.advance(current_iter, self.terms['l_total'], self.get_current_learning_rate()[0])

    def get_current_log(self):
        """The losses of the last iteration, the mean over all processes. Only here does the CPU wait for the GPU."""
        return self.reduce_loss_dict(self.terms)

    def compute_gradients(self):
        """Fill the gradients for the current batch, and ``self.terms`` with what is logged.

        An optimiser that evaluates the loss more than once a step, as LBFGS, calls this as often.

        Returns:
            The sum of all losses.
        """
        self.optimizer_g.zero_grad()
        terms = self.losses_of(self.net_g(self.lq))
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        terms['l_total'] = total
        limit = self.opt['train'].get('clip_grad_norm')
        if limit:
            terms['grad_norm'] = torch.nn.utils.clip_grad_norm_(self.net_g.parameters(), limit)
        self.terms = OrderedDict((name, value.detach()) for name, value in terms.items())
        return total

    def losses_of(self, output):
        """The losses by their names in the log: ``l_pix_full``, ``l_pix_half``, ...; ``l_pix`` for one scale.

        Args:
            output: What the network put out for ``self.lq``, to be compared with ``self.gt``.
        """
        terms = OrderedDict()
        for name, criterion in (('l_pix', self.cri_pix), ('l_frequency', self.cri_frequency)):
            if criterion is not None:
                scales = criterion.per_scale(output, self.gt)
                for scale, value in scales.items():
                    terms[f'{name}_{scale}' if len(scales) > 1 else name] = value
        if self.cri_perceptual is not None:
            outputs = getattr(output, 'full', output)
            last = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
            parts = zip(('l_percep', 'l_style'), self.cri_perceptual(last, self.gt), strict=True)
            terms.update((name, value) for name, value in parts if value is not None)
        return terms

    def model_ema(self, decay=0.999):
        update_average(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    def last_loss(self):
        """The last training loss, the mean over all processes, the same in each; None before the first."""
        if not hasattr(self, 'terms'):
            return None
        loss = self.terms['l_total'].clone()
        if self.opt['dist']:
            torch.distributed.all_reduce(loss)
            loss /= self.opt['world_size']
        return loss.item()

    def test(self):
        if self.opt.get('scale', 1) != 1:
            super().test()
            return
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        self.output = self.restore(net, self.lq)

    def restore(self, net, x):
        """Pictures (N, C, H, W) through a network by the tiles, overlap and ensemble of the options."""
        ensemble = (self.opt.get('val') or {}).get('ensemble') or False
        return restore(net, x, ensemble=ensemble, **self.tiles())

    def tiles(self):
        """The tile and the overlap of the options; what is absent there keeps the default of ``restore``."""
        val_opt = self.opt.get('val') or {}
        return {key: val_opt[key] for key in ('tile', 'overlap') if val_opt.get(key) is not None}

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """BasicSR's, for data sets without ground truth too: there, metrics that compare are left out."""
        whole, val_opt = self.opt, {'suffix': None, **self.opt['val']}
        metrics = val_opt.get('metrics') or {}
        if metrics and 'gt' not in dataloader.dataset[0]:
            metrics = {name: opt for name, opt in metrics.items() if not _compares(opt['type'])}
            left_out = ', '.join(name for name in val_opt['metrics'] if name not in metrics)
            get_root_logger().info(f'{dataloader.dataset.opt["name"]} has no ground truth, so no {left_out}.')
        val_opt['metrics'] = metrics or None
        val_opt['pbar'] = val_opt.get('pbar') and sys.stderr.isatty()
        vars(self).pop('metric_results', None)  # they may be of another data set with other metrics
        self.opt = {**whole, 'val': val_opt}
        try:
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        finally:
            self.opt = whole


def _over_scales(loss):
    return loss if isinstance(loss, MultiScaleLoss) else MultiScaleLoss([loss])


def _compares(metric):
    """Whether a registered metric needs a second picture."""
    return 'img2' in signature(METRIC_REGISTRY.get(metric)).parameters
