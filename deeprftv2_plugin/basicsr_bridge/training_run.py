"""A resumable run of BasicSR's training loop: the functions that load data, build the model and log."""

import copy
import functools
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from basicsr import train
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.prefetch_dataloader import PrefetchDataLoader
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import distributed
from torch.utils.data import DataLoader

from deeprftv2_plugin.basicsr_bridge import patches, sample_stream
from deeprftv2_plugin.basicsr_bridge.distributed import (
    any_process,
    errors_reported_once,
    from_first_process,
    in_first_process,
)
from deeprftv2_plugin.basicsr_bridge.loggers import Board
from deeprftv2_plugin.basicsr_bridge.model_in_run import ModelInRun, RunLogger
from deeprftv2_plugin.basicsr_bridge.replacement import replace
from deeprftv2_plugin.basicsr_bridge.start import HeldBackLog, checked_model
from deeprftv2_plugin.basicsr_bridge.tolerant_model import report_as_process
from deeprftv2_plugin.checkpoints.states import newest_whole, read_state, resumed_networks, resumed_weights
from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.data.loading.loader import TrainLoader, first_batch
from deeprftv2_plugin.data.loading.plan import Plan
from deeprftv2_plugin.evaluation.metrics_log import MetricsLog
from deeprftv2_plugin.training import run_folder, signals
from deeprftv2_plugin.training.branches import set_aside
from deeprftv2_plugin.training.stages import accumulation_of, gpus_of, stages_of
from deeprftv2_plugin.utils.atomic_io import advice
from deeprftv2_plugin.utils.errors import Interrupted, UserError, describe_error
from deeprftv2_plugin.utils.locks import UNLOCKED


class TrainingRun:
    """A training that can be interrupted and resumed.

    Args:
        seeded: Whether the option file has a seed. If not, a resumed run uses the seed of the earlier run.
        notes: Warnings to write at the beginning of the log.
        path: The option file, for error messages.

    Attributes:
        state: The state from which the run resumes; empty for a new run.
        plan: The assignment of samples to iterations.
        model: BasicSR's model.
    """

    plan: Plan
    model: Any

    def __init__(self, seeded: bool = True, notes: Sequence[str] = (), path: str = 'the options'):
        self.seeded, self.notes, self.path = seeded, list(notes), path
        self.parent = os.getppid()
        self.state: dict[str, Any] = {}
        self.val_loaders: list[DataLoader] = []

    @contextmanager
    def in_basicsr(self) -> Iterator[None]:
        """Let `basicsr.train.train_pipeline` run this training within the block."""
        replacements = (
            (
                'load_resume_state',
                self.start,
                'the newest valid state; checks before folders change',
            ),
            ('make_exp_dirs', self.make_folders, 'only unused folders of earlier trainings are renamed'),
            ('mkdir_and_rename', run_folder.replace, 'the same for the folder of TensorBoard'),
            (
                'create_train_val_dataloader',
                self.create_loaders,
                'a plan of the samples, so that a run resumes exactly',
            ),
            ('build_model', self.hand_over_model, 'the model is built once, and signals are recorded'),
            ('MessageLogger', self.create_logger, 'metrics.jsonl, and validations that an earlier run did not finish'),
            ('init_tb_logger', self.init_tb_logger, 'a resumed run overwrites later values in TensorBoard'),
        )
        with ExitStack() as self._stack:
            self._stack.enter_context(signals.launcher_watched(self.parent))
            for name, new, reason in replacements:
                self._stack.enter_context(replace(train, name, new, reason))
            try:
                yield
            except Interrupted:
                raise
            except Exception as error:
                if hasattr(self, 'model'):
                    self.save_after_error()
                    report_as_process(error, self.model.opt)
                raise
            if hasattr(self, 'model'):
                self.model.require_last_validations()

    def save_after_error(self) -> None:
        """Save the state of the last completed iteration, unless the weights are changing or are not finite.

        The first process writes it. If the error occurred in another one, the first process gets here when it notices
        that their connection is lost.
        """
        if self.model.opt['rank'] != 0:
            return
        try:
            saved = self.model.save_last()
        except Exception as fault:  # such as a lack of memory, which must not hide the first error
            get_root_logger().error(f'The state could not be saved: {describe_error(fault)}')
        else:
            if saved:
                text = f'The state of iteration {self.model.done} is saved. Rerun with --auto_resume to resume.'
                get_root_logger().warning(text)

    def start(self, opt: dict) -> dict | None:
        """Read the state, build the model and check everything before a folder is created or renamed.

        Returns:
            The state from which the run resumes; None for a new run.

        Raises:
            UserError: The run would fail, or its folder cannot be used. The folder is unchanged.
        """
        with errors_reported_once():
            self.find_state(opt)
            with HeldBackLog() as self._log:
                self.model = checked_model(opt, self.path, self.build_model, lambda data: self.load_batch(opt, data))
            if not self.state:
                return None
            self.take_folder(opt, resume=True)
        return self.state

    def find_state(self, opt: dict) -> None:
        """Read the newest valid state with `--auto_resume`, otherwise the one in `path.resume_state`, if any.

        Raises:
            UserError: The state is missing or damaged, or has more iterations than `total_iter`.
        """
        path = opt['path'].get('resume_state')
        # with several nodes, torchrun may report a restart to only one of them
        if any_process(opt['auto_resume'], opt):
            folders = opt['path']['training_states'], opt['path']['models']
            newest = in_first_process(lambda: newest_whole(*folders, resumed_networks(opt)), opt)
            found, faults = newest or (None, [])
            found = from_first_process(found and str(found), opt)
            self.notes += [f'{fault}. An older state is used.' for fault in faults]
            path = opt['path']['resume_state'] = found or path
            if path is None:
                self.notes.append(f'There is no training state in {folders[0]}: training starts at iteration 0.')
        opt['manual_seed'] = from_first_process(opt['manual_seed'], opt)
        if path is None:
            return
        self.state = read_state(path)
        for label, weights in resumed_weights(opt, path, self.state['iter']).items():
            opt['path'][f'pretrain_network_{label}'] = str(weights)
            opt['path'][f'param_key_{label}'] = 'params'
        done, total = self.state['iter'], int(opt['train']['total_iter'])
        if done > total:
            raise UserError(f'{path} is at iteration {done}, but train.total_iter is {total}: raise it to resume')
        stream = self.state.get('stream') or {}
        if not self.seeded and 'seed' in stream:
            opt['manual_seed'] = stream['seed']

    def load_batch(self, opt: dict, dataset: SizedDataset) -> None:
        """Load the first batch of this process like a worker.

        Args:
            opt: The options.
            dataset: A copy of the training data, since workers would inherit open files of the original.

        Raises:
            UserError: Too many of its samples are damaged.
        """
        plan = sample_stream.make_plan(opt, len(dataset))
        if self.state:
            sample_stream.resume(plan, self.state)
        first_batch(dataset, plan, opt['manual_seed'], opt['datasets']['train'].get('max_damaged') or 0)

    def make_folders(self, opt: dict) -> None:
        """Create the folders of a new run. The folder of an earlier run is renamed.

        Raises:
            UserError: The folder cannot be used.
        """
        with errors_reported_once():
            self.take_folder(opt, resume=False)

    def take_folder(self, opt: dict, resume: bool) -> None:
        """Lock the folder until the end of the run, and create its subfolders."""
        folder = opt['path']['experiments_root']
        lock = in_first_process(lambda: run_folder.take(folder, run_folder.TRAINING, resume), opt)
        if lock is not None:
            self._stack.callback(lock.release)
            if not lock.is_effective:
                self.notes.append(UNLOCKED.format(folder) + '.')

    def create_loaders(self, opt: dict, logger: logging.Logger) -> tuple:
        """Return the loader of the plan, the plan as its sampler, the validation loaders, epochs and iterations."""
        for note in self.notes:
            logger.warning(note)
        settings = opt['datasets']['train']
        dataset, total = build_dataset(settings), int(opt['train']['total_iter'])
        self.plan = plan = sample_stream.make_plan(opt, len(dataset))
        gpus = gpus_of(opt)
        logger.info(
            f'Training: {len(dataset)} samples, {total} iterations; {accumulation_of(opt, gpus)} batches per step on '
            f'each of {gpus} GPUs (or processes).'
        )
        stages = {
            step.first: f'Stage {number} of {len(plan.steps)}: {stage}, {step.batch} samples per step in all.'
            for number, (stage, step) in enumerate(zip(stages_of(opt), plan.steps, strict=True), 1)
        }
        for text in stages.values():
            logger.info(text)
        del stages[1]
        if self.state:
            self.resume_plan(logger)
        if settings.get('pin_memory') is None:  # set in the options, where BasicSR reads it for prefetch_mode: cuda
            settings['pin_memory'] = opt['num_gpu'] != 0 and torch.cuda.is_available()
        workers = settings.get('num_worker_per_gpu', 0) * gpus // plan.processes
        loading = {
            'num_workers': workers,
            'pin_memory': settings['pin_memory'],
            'persistent_workers': settings.get('persistent_workers', True) and workers > 0,
            'loader': DataLoader,
            'setup': patches.apply,
        }
        if settings.get('prefetch_mode') == 'cpu':
            loading['loader'] = functools.partial(PrefetchDataLoader, settings.get('num_prefetch_queue', 1))
        damaged = settings.get('max_damaged') or 0
        loader = TrainLoader(dataset, plan, opt['manual_seed'], damaged, stages, signals.request, logger, **loading)
        for phase, val_settings in opt['datasets'].items():
            if phase.split('_')[0] == 'val':
                val_set = build_dataset(val_settings)
                self.val_loaders.append(build_dataloader(val_set, val_settings, seed=opt['manual_seed']))
                logger.info(f'Validation: {len(val_set)} samples in {val_settings["name"]}.')
        return loader, plan, self.val_loaders, plan.epoch_of(total), total

    def resume_plan(self, logger: logging.Logger) -> None:
        """Continue the plan after the iteration of the state, and log differences from the earlier run."""
        done = self.state['iter']
        sample_stream.resume(self.plan, self.state)
        for text in sample_stream.differences(self.plan, self.state):
            logger.warning(text)
        self.state['epoch'] = self.plan.epoch_of(done + 1)
        logger.info(f'Resumed after iteration {done} with sample {self.plan.samples_done} of the stream.')
        if done == self.plan.total:
            logger.warning(
                f'All {done} iterations are complete. The latest weights are saved and validated. Raise '
                'train.total_iter to continue training.'
            )

    def build_model(self, opt: dict) -> Any:
        """Return an instance of the model's class, extended by `ModelInRun`."""
        model_class = MODEL_REGISTRY.get(opt['model_type'])
        extension = {'current_plan': staticmethod(lambda: self.plan), 'recorded_options': copy.deepcopy(opt)}
        in_run = type(model_class.__name__, (ModelInRun, model_class), extension)
        model = in_run(copy.deepcopy(opt))  # BasicSR's models remove entries from the options
        get_root_logger().info(f'Model [{model_class.__name__}] is created.')
        return model

    def hand_over_model(self, opt: dict) -> Any:
        """Return the model, and start to record signals."""
        self._log.release()
        if isinstance(self.model, SRModel):
            get_root_logger().addFilter(_is_relevant)
            self._stack.callback(get_root_logger().removeFilter, _is_relevant)
        self._stack.enter_context(signals.watched())
        return self.model

    def rewind(self, opt: dict) -> None:
        """Remove what an earlier run saved after the iteration of the state.

        The metrics log is truncated. States and weights are moved aside if there is a newer state.

        Raises:
            UserError: A file cannot be moved.
        """
        done, journal = self.state['iter'], MetricsLog(opt['path']['log'])
        try:
            branch = set_aside(opt['path']['experiments_root'], done)
            if branch is not None:
                if journal.path.is_file():
                    shutil.copy(journal.path, branch)
                get_root_logger().warning(
                    f'The states and weights after iteration {done}, and the latest and best weights, are moved to '
                    f'{branch}. Resume from a state in {branch / "training_states"} to continue that branch.'
                )
            journal.rewind(done)
        except OSError as error:
            text = f'{error.filename or opt["path"]["log"]} cannot be written: {error.strerror}'
            raise UserError(f'{text}. {advice(error)}') from error

    def create_logger(self, opt: dict, start_iter: int, tb_logger: Any) -> RunLogger:
        """Return the logger, after a validation that an earlier run did not finish."""
        if self.state:
            in_first_process(lambda: self.rewind(opt), opt)
        val_opt = opt.get('val')
        if self.state and start_iter and val_opt and start_iter % val_opt['val_freq'] == 0:
            lines = (line for line in MetricsLog(opt['path']['log']) if line['iter'] == start_iter)
            seen = from_first_process({line.pop('dataset'): line for line in lines if 'dataset' in line}, opt)
            for loader in self.val_loaders:
                dataset: Any = loader.dataset
                name = dataset.opt['name']
                if name in seen and hasattr(self.model, 'recall_results'):
                    self.model.recall_results(name, start_iter, seen[name])
                else:
                    get_root_logger().info(f'The validation of iteration {start_iter} is not complete.')
                    self.model.validation(loader, start_iter, tb_logger, val_opt['save_img'])
        return RunLogger(opt, start_iter, tb_logger)

    def init_tb_logger(self, log_dir: str) -> Any:
        """Return TensorBoard's writer. It purges what an earlier run logged after the iteration of the state."""
        from torch.utils.tensorboard import SummaryWriter

        if distributed.is_initialized() and distributed.get_rank() != 0:
            return None
        purge_step = self.state['iter'] + 1 if self.state else None
        board = Board(functools.partial(SummaryWriter, log_dir, purge_step=purge_step))
        self._stack.callback(board.close)
        return board


def _is_relevant(record: logging.LogRecord) -> bool:
    """Filter BasicSR's warning that only SRModel supports several validation datasets. Models here do, too."""
    return not record.getMessage().startswith('Multiple validation datasets')
