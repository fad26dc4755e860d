"""A training step does not synchronize with the GPU. Only logging reads values."""

import logging
import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deeprftv2_plugin.basicsr_bridge.training_run import TrainingRun
from tests.cli import runs
from tests.cli.runs import write_images
from tests.training.test_progress import Terminal

from .toys import batch, make_model, options, train

EVERYTHING = {
    'frequency_opt': {'type': 'FourierLoss', 'loss_weight': 0.01},
    'clip_grad_norm': 0.1,
    'ema_decay': 0.9,
    'accumulation': 2,
    'scheduler': {'type': 'ReduceLROnPlateau', 'patience': 0},
}


class ValueReads(TorchDispatchMode):
    """Count how often Python reads the value of a tensor, which would synchronize with a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket is torch.ops.aten._local_scalar_dense
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('optimizer', ['Adam', 'AdamW', 'SGD'])
def test_training_step_reads_no_values(monkeypatch, optimizer):
    """Neither the progress bar nor a schedule that monitors the loss reads a value."""
    monkeypatch.setattr('sys.stderr', Terminal())
    model = make_model(optim_g={'type': optimizer, 'lr': 0.01}, **EVERYTHING)
    train(model, [1])
    with ValueReads() as reads:
        train(model, [2, 3])
        assert reads.count == 0
        float(model.terms['l_total'])
        assert reads.count == 1


class CopyRecorder(torch.Tensor):
    """A tensor that records how it is copied."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to:
            args[0].copies.append((args[1:], kwargs))
        return super().__torch_function__(function, types, args, kwargs)


def test_batches_are_copied_asynchronously():
    model = make_model()
    data = {name: batch()[name].as_subclass(CopyRecorder) for name in ('lq', 'gt')}
    for image in data.values():
        image.copies = []
    model.feed_data(data)
    for image in data.values():
        assert image.copies == [((torch.device('cpu'),), {'non_blocking': True})]


@pytest.fixture
def with_gpu(tmp_path, monkeypatch):
    """Options of a run with a GPU, which is not used before the first batch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    write_images(tmp_path)
    opt = runs.options()
    opt.update(num_gpu=1, dist=False, rank=0, world_size=1, auto_resume=False)
    for phase, settings in opt['datasets'].items():
        settings.update(phase=phase, scale=1)
    return opt


@pytest.mark.parametrize('mode', [None, 'cpu', 'cuda'])
@pytest.mark.parametrize(
    'num_gpu, pin_memory, expected', [(1, None, True), (1, True, True), (1, False, False), (0, None, False)]
)
def test_batches_are_pinned_if_there_is_a_gpu(with_gpu, mode, num_gpu, pin_memory, expected):
    with_gpu['num_gpu'] = num_gpu
    with_gpu['datasets']['train'].update(prefetch_mode=mode, pin_memory=pin_memory)
    loader, *_ = TrainingRun().create_loaders(with_gpu, logging.getLogger())
    assert loader._loader.pin_memory is expected
    assert with_gpu['datasets']['train']['pin_memory'] is expected  # read by BasicSR's CUDA prefetcher


@pytest.mark.parametrize('late', [False, True])
def test_plateau_schedule_is_resumed_exactly(tmp_path, late):
    """The schedule gets each loss once, even if the state is saved before the result of a step is read."""

    def make():
        model = make_model(scheduler={'type': 'ReduceLROnPlateau', 'patience': 1, 'threshold': 0.9})
        model.flags.late = late
        model.opt['path'].update(models=tmp_path, training_states=tmp_path)
        return model

    model = make()
    train(model, range(1, 4))
    model.save(0, 3)
    expected = train(model, range(4, 10))
    assert len(set(expected)) > 2
    assert model.schedulers[0].last_epoch == (7 if late else 8)
    resumed = make()
    resumed.resume_training(torch.load(tmp_path / '3.state', weights_only=True))
    resumed.net_g.load_state_dict(torch.load(tmp_path / 'net_g_3.pth', weights_only=True)['params'])
    assert train(resumed, range(4, 10)) == expected
    assert vars(resumed.schedulers[0])['last_epoch'] == model.schedulers[0].last_epoch


@pytest.mark.gpu
@pytest.mark.parametrize('network', ['OneScale', {'type': 'DeepRFTv2', 'variant': 'T'}])
def test_training_step_on_a_gpu_does_not_synchronize(network):
    opt = options(network, channels_last=True, optim_g={'type': 'AdamW', 'lr': 1e-3}, **EVERYTHING)
    opt['num_gpu'] = 1
    model = make_model(opt=opt)
    data = {name: value.pin_memory() for name, value in batch(2, 64).items() if name != 'lq_path'}
    train(model, range(1, 4), data=data)  # warm-up: kernels are compiled and selected
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            train(model, range(4, 7), data=data)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert [str(each.message) for each in caught if 'synchronizing' in str(each.message)] == []
    assert model.get_current_log()['l_total'] > 0
