"""A training step does not wait for the GPU: nothing is read from it but what is logged."""

import logging
import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deeprftv2_plugin.basicsr_bridge.training_run import Run
from deeprftv2_plugin.training.dist_flags import Agreement
from tests.cli.runs import options as run_options
from tests.cli.runs import write_pictures
from tests.training.test_progress import Terminal

from .toys import batch, make_model, options, train

EVERYTHING = {
    'frequency_opt': {'type': 'FourierLoss', 'loss_weight': 0.01},
    'clip_grad_norm': 0.1,
    'ema_decay': 0.9,
    'accumulation': 2,
    'scheduler': {'type': 'ReduceLROnPlateau', 'patience': 0},
}


class Readings(TorchDispatchMode):
    """Counts how often Python asks for the value of a tensor, for which it would wait on a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket is torch.ops.aten._local_scalar_dense
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('optimizer', ['Adam', 'AdamW', 'SGD'])
def test_a_step_asks_for_no_value(monkeypatch, optimizer):
    """Not even for the bar on a terminal, or for the schedule that follows the loss."""
    monkeypatch.setattr('sys.stderr', Terminal())
    model = make_model(optim_g={'type': optimizer, 'lr': 0.01}, **EVERYTHING)
    train(model, [1])
    with Readings() as readings:
        train(model, [2, 3])
        assert readings.count == 0
        float(model.terms['l_total'])
        assert readings.count == 1


class Recorded(torch.Tensor):
    """A tensor that notes how it is copied."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to:
            args[0].copies.append((args[1:], kwargs))
        return super().__torch_function__(function, types, args, kwargs)


def test_batches_are_copied_without_waiting():
    model = make_model()
    data = {name: batch()[name].as_subclass(Recorded) for name in ('lq', 'gt')}
    for picture in data.values():
        picture.copies = []
    model.feed_data(data)
    for picture in data.values():
        assert picture.copies == [((torch.device('cpu'),), {'non_blocking': True})]


@pytest.fixture
def with_gpu(tmp_path, monkeypatch):
    """Options of a run with a GPU, which is not touched before the first batch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    write_pictures(tmp_path)
    opt = run_options()
    opt.update(num_gpu=1, dist=False, rank=0, world_size=1, auto_resume=False)
    for phase, settings in opt['datasets'].items():
        settings.update(phase=phase, scale=1)
    return opt


@pytest.mark.parametrize('mode', [None, 'cpu', 'cuda'])
@pytest.mark.parametrize(
    'num_gpu, asked, expected', [(1, None, True), (1, True, True), (1, False, False), (0, None, False)]
)
def test_batches_are_in_pinned_memory_where_there_is_a_gpu(with_gpu, mode, num_gpu, asked, expected):
    with_gpu['num_gpu'] = num_gpu
    with_gpu['datasets']['train'].update(prefetch_mode=mode, pin_memory=asked)
    loader, *_ = Run().create_train_val_dataloader(with_gpu, logging.getLogger())
    assert loader._loader.pin_memory is expected
    assert with_gpu['datasets']['train']['pin_memory'] is expected  # BasicSR's prefetcher for CUDA asks there


def tell(agreement, iterations):
    """The news that arrives with each iteration, of which the third one fails and the loss is its number."""
    found = []
    for iteration in iterations:
        finite, loss = torch.tensor(iteration != 3), torch.tensor(float(iteration))
        everywhere, news = agreement.share(iteration, finite, loss, leave=iteration == 2)
        assert everywhere == (iteration != 3)
        found.append(news)
    return found


def test_what_arrives_late_is_the_same_one_step_later():
    cpu = torch.device('cpu')
    prompt, late = Agreement(cpu), Agreement(cpu)
    late.late = True  # as on a GPU
    expected = tell(prompt, range(1, 5))
    assert [each.loss for each in expected] == [1, 2, 3, 4]
    assert [each.finite for each in expected] == [True, True, False, True]
    assert [each.leave for each in expected] == [False, True, False, False]
    assert tell(late, range(1, 5)) == [None, *expected[:3]]
    assert late.settle() == expected[3]
    assert late.settle() is None and prompt.settle() is None


@pytest.mark.parametrize('late', [False, True])
def test_a_schedule_that_follows_the_loss_is_resumed_exactly(tmp_path, late):
    """Each loss is given to it once, also where a save comes between a step and its news."""

    def make():
        model = make_model(scheduler={'type': 'ReduceLROnPlateau', 'patience': 1, 'threshold': 0.9})
        model.agreement.late = late
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
def test_a_step_on_a_gpu_does_not_synchronize(network):
    opt = options(network, channels_last=True, optim_g={'type': 'AdamW', 'lr': 1e-3}, **EVERYTHING)
    opt['num_gpu'] = 1
    model = make_model(opt=opt)
    data = {name: value.pin_memory() for name, value in batch(2, 64).items() if name != 'lq_path'}
    train(model, range(1, 4), data=data)  # kernels are compiled and chosen
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            train(model, range(4, 7), data=data)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert [str(each.message) for each in caught if 'synchronizing' in str(each.message)] == []
    assert model.get_current_log()['l_total'] > 0
