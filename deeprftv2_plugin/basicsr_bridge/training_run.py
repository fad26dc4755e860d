"""One run of BasicSR's training loop, which takes what is here in the place of its own collaborators."""

import copy
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from basicsr import train
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.prefetch_dataloader import PrefetchDataLoader
from basicsr.models import build_model
from basicsr.utils import MessageLogger, get_root_logger
from torch import distributed
from torch.utils.data import DataLoader

from deeprftv2_plugin.checkpoints.states import newest_whole, read_state
from deeprftv2_plugin.data.loading.loader import TrainLoader
from deeprftv2_plugin.data.loading.plan import Plan, Step
from deeprftv2_plugin.evaluation.metrics_log import MetricsLog
from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.training import signals as interruption
from deeprftv2_plugin.training.saving import save_or_log
from deeprftv2_plugin.training.stages import accumulation_of, gpus_of, stages_of
from deeprftv2_plugin.utils.errors import UserError


class Run:
    """A training that can be left and gone on with.

    Args:
        seeded: Whether the option file gives a seed; otherwise a resumed run takes that of the run before.
        notes: What is to be said at the beginning of the log.
    """

    def __init__(self, seeded: bool = True, notes: Sequence[str] = ()):
        self.seeded, self.notes = seeded, list(notes)
        self.state = self.plan = self.model = None
        self.val_loaders = []

    @contextmanager
    def in_basicsr(self) -> Iterator[None]:
        """While this lasts `basicsr.train.train_pipeline` is this run."""
        with ExitStack() as stack:
            for method in (self.load_resume_state, self.create_train_val_dataloader, self.build_model):
                stack.enter_context(mock.patch.object(train, method.__name__, method))
            stack.enter_context(mock.patch.object(train, 'MessageLogger', self.begin))
            stack.enter_context(mock.patch.object(train, 'init_tb_logger', self.init_tb_logger))
            self._opened = stack
            yield

    def load_resume_state(self, opt: dict) -> dict | None:
        """The state to go on from: the newest whole one with `--auto_resume`, else `path.resume_state`.

        Raises:
            UserError: It is missing or damaged, or the training is longer already than `total_iter`.
        """
        path = opt['path'].get('resume_state')
        labels = [key.removeprefix('network_') for key in opt if key.startswith('network_')]
        ignored = opt['path'].get('ignore_resume_networks') or []
        kept = [label for label in labels if f'network_{label}' not in ignored]
        if _in_any(opt['auto_resume'], opt):
            folders = opt['path']['training_states'], opt['path']['models']
            found, faults = newest_whole(*folders, kept) if opt['rank'] == 0 else (None, [])
            found = _from_first(found and str(found), opt)
            self.notes += [f'{fault}. An older state is taken.' for fault in faults]
            path = opt['path']['resume_state'] = found or path
        opt['manual_seed'] = _from_first(opt['manual_seed'], opt)
        if path is None:
            return None
        self.state = read_state(path)
        models = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(path))), 'models')
        for label in kept:
            opt['path'][f'pretrain_network_{label}'] = os.path.join(models, f'net_{label}_{self.state["iter"]}.pth')
            opt['path'][f'param_key_{label}'] = 'params'
        for key in ('models', 'training_states', 'log', 'visualization'):
            os.makedirs(opt['path'][key], exist_ok=True)
        done, total = self.state['iter'], int(opt['train']['total_iter'])
        if done > total:
            raise UserError(f'{path} has {done} iterations done, but train.total_iter is {total}: raise it to go on')
        stream = self.state.get('stream') or {}
        if not self.seeded and 'seed' in stream:
            opt['manual_seed'] = stream['seed']
        return self.state

    def create_train_val_dataloader(self, opt: dict, logger) -> tuple:
        """Loaders by a plan; the epochs and iterations that BasicSR's loop then goes through."""
        for note in self.notes:
            logger.warning(note)
        settings = opt['datasets']['train']
        dataset, total = build_dataset(settings), int(opt['train']['total_iter'])
        self.plan = plan = self.make_plan(opt, len(dataset))
        gpus = gpus_of(opt)
        logger.info(
            f'Training: {len(dataset)} samples, {total} iterations; on each of {gpus} GPUs (or processes) '
            f'{accumulation_of(opt, gpus)} batches a step.'
        )
        stages = {
            step.first: f'Stage {number} of {len(plan.steps)}: {stage}, {step.batch} in all a step.'
            for number, (stage, step) in enumerate(zip(stages_of(opt), plan.steps, strict=True), 1)
        }
        for text in stages.values():
            logger.info(text)
        del stages[1]
        if self.state is not None:
            self.go_on(opt, logger)
        if settings.get('pin_memory') is None:  # in the options, because BasicSR asks for it with prefetch_mode: cuda
            settings['pin_memory'] = opt['num_gpu'] != 0 and torch.cuda.is_available()
        workers = settings.get('num_worker_per_gpu', 0) * gpus // plan.processes
        loading = {
            'num_workers': workers,
            'pin_memory': settings['pin_memory'],
            'persistent_workers': settings.get('persistent_workers', True) and workers > 0,
            'loader': DataLoader,
        }
        if settings.get('prefetch_mode') == 'cpu':
            queue = settings.get('num_prefetch_queue', 1)
            loading['loader'] = functools.partial(PrefetchDataLoader, queue)
        damaged = settings.get('max_damaged') or 0
        loader = TrainLoader(dataset, plan, opt['manual_seed'], damaged, stages, logger, **loading)
        for phase, val_settings in opt['datasets'].items():
            if phase.split('_')[0] == 'val':
                val_set = build_dataset(val_settings)
                self.val_loaders.append(build_dataloader(val_set, val_settings, seed=opt['manual_seed']))
                logger.info(f'Validation: {len(val_set)} samples in {val_settings["name"]}.')
        return loader, plan, self.val_loaders, plan.epoch_of(total), total

    def make_plan(self, opt: dict, length: int) -> Plan:
        """Which samples of a data set of this length go into which iteration."""
        gpus, stages = gpus_of(opt), stages_of(opt)
        step = gpus * accumulation_of(opt, gpus)
        return Plan(
            length,
            [Step(stage.first, stage.batch * step, stage.gt_size) for stage in stages],
            int(opt['train']['total_iter']),
            opt['world_size'] if opt['dist'] else 1,
            opt['rank'],
            opt['manual_seed'],
            opt['datasets']['train'].get('dataset_enlarge_ratio', 1),
        )

    def go_on(self, opt: dict, logger) -> None:
        """Take up the plan where the state has left it, and say what is not as it was."""
        done, stream = self.state['iter'], self.state.get('stream')
        if stream is None:
            self.plan.go_on_from(done, self.plan.samples_until(done))
            logger.warning('The state does not tell which samples were used: counted as if nothing had changed.')
        else:
            self.plan.go_on_from(done, stream['samples'])
            for key, value in self.conditions(done).items():
                if stream[key] != value:
                    logger.warning(f'Resumed with another {key}: {value}, it was {stream[key]}.')
        self.state['epoch'] = self.plan.epoch_of(done + 1)
        if opt['rank'] == 0:
            MetricsLog(opt['path']['log']).rewind(done)
        logger.info(f'Goes on after iteration {done} with sample {self.plan.samples_done} of the stream.')
        if done == self.plan.total:
            logger.warning(
                f'All {done} iterations are done: nothing is left to train. The latest weights are written and '
                'validated; a larger train.total_iter goes on.'
            )

    def conditions(self, iteration: int) -> dict:
        """What the order of the samples after an iteration and their division depend on."""
        following = self.plan.step_of(min(iteration + 1, self.plan.total))
        return {
            'seed': self.plan.seed,
            'number of processes': self.plan.processes,
            'effective batch': following.batch,
            'number of samples in the data set': self.plan.length,
        }

    def stream_at(self, iteration: int) -> dict:
        """The position in the stream after an iteration, for the state."""
        return {'samples': self.plan.samples_until(iteration), **self.conditions(iteration)}

    def build_model(self, opt: dict):
        """The model, told what of the run it has to know."""
        recorded = copy.deepcopy(opt)
        model = build_model(opt)
        model.recorded_options = recorded
        model.plan, model.stream_at = self.plan, self.stream_at
        model.save = functools.partial(save_or_log, model, model.save)
        if isinstance(model, DeepRFTv2Model):
            self._opened.enter_context(interruption.watched())
        self.model = model
        return model

    def begin(self, opt: dict, start_iter: int, tb_logger) -> 'RunLogger':
        """The last before the loop begins: what the run before was killed in is done, and the log is opened."""
        val_opt = opt.get('val')
        if self.state is not None and start_iter and val_opt and start_iter % val_opt['val_freq'] == 0:
            lines = (line for line in MetricsLog(opt['path']['log']) if line['iter'] == start_iter)
            seen = _from_first({line.pop('dataset'): line for line in lines if 'dataset' in line}, opt)
            for loader in self.val_loaders:
                name = loader.dataset.opt['name']
                if name in seen:
                    self.model.recall_results(name, start_iter, seen[name])
                else:
                    get_root_logger().info(f'The validation of iteration {start_iter} had not come to its end.')
                    self.model.validation(loader, start_iter, tb_logger, val_opt['save_img'])
        return RunLogger(opt, start_iter, tb_logger)

    def init_tb_logger(self, log_dir: str):
        """TensorBoard's writer, which drops what an earlier run wrote after the iteration gone on from."""
        from torch.utils.tensorboard import SummaryWriter

        if distributed.is_initialized() and distributed.get_rank() != 0:
            return None
        writer = SummaryWriter(log_dir, purge_step=self.state['iter'] + 1 if self.state else None)
        self._opened.callback(writer.close)
        return writer


class RunLogger(MessageLogger):
    """BasicSR's log of a training, also as JSON Lines."""

    def __init__(self, opt: dict, start_iter: int, tb_logger):
        super().__init__(opt, start_iter, tb_logger)
        self._journal = MetricsLog(opt['path']['log']) if opt['rank'] == 0 else None

    def __call__(self, log_vars: dict) -> None:
        if self._journal is not None:
            iteration, (rate, *_) = log_vars['iter'], log_vars['lrs']
            values = {key: value for key, value in log_vars.items() if key not in ('iter', 'lrs')}
            self._journal.append(iteration, lr=rate, **values)
        super().__call__(log_vars)


def _in_any(value, opt):
    """Whether it is true in any process: of a training on several nodes, torchrun may tell one only of a restart."""
    everybody = [value]
    if opt['dist']:
        everybody = [None] * opt['world_size']
        distributed.all_gather_object(everybody, value)
    return any(everybody)


def _from_first(value, opt):
    """The first process's value, in all processes."""
    box = [value]
    if opt['dist']:
        distributed.broadcast_object_list(box)
    return box[0]
