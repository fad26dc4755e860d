"""Processes of a run with different options or data are refused. An error in one process ends all of them."""

import copy
import platform

import pytest

from tests.cli.lives import run_together
from tests.cli.runs import options, test_options, write, write_images


def toy_options(opt):
    opt.update(custom_imports=['tests.models.toys'], model_type='DeepRFTv2Model', network_g={'type': 'OneScale'})
    for settings in opt['datasets'].values():
        settings['type'] = 'PairedDeblurDataset'
        for key in ('io_backend', 'use_hflip'):
            settings.pop(key, None)
    return opt


def run_two(folder, command, opt, change):
    """Run two processes, the second with changed options. Return the exit statuses and the outputs."""
    other = copy.deepcopy(opt)
    change(other)
    files = write(folder, opt, 'first.yml'), write(folder, other, 'second.yml')
    return run_together(folder, *((command, '-opt', file) for file in files))


def more_learning(opt):
    opt['train']['optim_g']['lr'] = 0.1
    opt['val']['val_freq'] = 2


def other_images(opt):
    for settings in opt['datasets'].values():
        settings.update(dataroot_lq='node/lq', dataroot_gt='node/gt')


@pytest.mark.parametrize(
    ('change', 'count', 'words'),
    [
        (more_learning, 4, ['train.optim_g.lr: 0.1, in process 0 0.001', 'val.val_freq: 2, in process 0 4']),
        (other_images, 3, ['datasets.train, number of samples: 3, in process 0 4']),
    ],
)
def test_training_with_different_options_or_data_is_refused(folder, change, count, words):
    (folder / 'node').mkdir()
    write_images(folder / 'node', count)
    statuses, outputs = run_two(folder, 'train', toy_options(options()), change)
    assert statuses == [1, 1], outputs
    for text in outputs:
        assert 'error: process 1 on ' in text and 'differs from process 0 on ' in text, text
        assert all(each in text for each in words) and 'Traceback' not in text, text
    assert not (folder / 'experiments').exists()


def test_test_with_the_same_number_of_other_images_is_refused(folder):
    (folder / 'node').mkdir()
    write_images(folder / 'node')
    for part in ('lq', 'gt'):
        (folder / 'node' / part / '2.png').rename(folder / 'node' / part / 'other.png')
    statuses, outputs = run_two(folder, 'test', toy_options(test_options()), other_images)
    assert statuses == [1, 1], outputs
    assert all('datasets.test, digest of the sample names: ' in text for text in outputs), outputs
    assert not (folder / 'results').exists()


def test_equal_images_may_be_in_another_folder_on_another_node(folder):
    (folder / 'node').mkdir()
    write_images(folder / 'node')
    statuses, outputs = run_two(folder, 'test', toy_options(test_options()), other_images)
    assert statuses == [0, 0], outputs


def test_an_image_that_one_process_cannot_restore_is_named_by_all(folder):
    """The second process restores the second image, which the checks before the run do not read."""
    opt = toy_options(test_options())
    opt['val']['metrics'] = {'ssim': {'type': 'ssim'}}
    for part in ('lq', 'gt'):
        write_small(folder / part / '1.png')
    statuses, outputs = run_two(folder, 'test', opt, lambda other: None)
    assert statuses == [1, 1], outputs
    assert 'error: process 1: 1 of more-noise: SSIM needs at least 11x11' in outputs[0], outputs[0]
    assert 'error: 1 of more-noise: SSIM needs at least 11x11' in outputs[1], outputs[1]


def write_small(path):
    import cv2
    import numpy as np

    cv2.imwrite(str(path), np.zeros((8, 9, 3), np.uint8))


def test_unused_parameters_are_named_with_the_option(folder):
    opt = toy_options(options())
    opt['network_g'] = {'type': 'PartlyUnused'}
    opt['datasets']['train']['batch_size_per_gpu'] = 2
    del opt['val']
    statuses, outputs = run_two(folder, 'train', opt, lambda other: None)
    assert statuses == [1, 1], outputs
    words = 'iteration 2: the loss does not depend on 2 parameters of the network: unused.weight, unused.bias'
    assert all(words in text and 'find_unused_parameters: true' in text for text in outputs), outputs
    opt['find_unused_parameters'] = True
    (folder / 'used').mkdir()
    for part in ('lq', 'gt'):
        (folder / 'used' / part).symlink_to(folder / part)
    statuses, outputs = run_two(folder / 'used', 'train', opt, lambda other: None)
    assert statuses == [0, 0], outputs


@pytest.mark.parametrize('model', ['DeepRFTv2Model', 'SRModel'])
def test_killed_worker_of_one_process_saves_the_state_of_all(folder, model):
    opt = {**toy_options(options()), 'model_type': model}
    opt['custom_imports'].append('tests.cli.troubles')
    opt['datasets']['train'].update(type='TroubledDataset', num_worker_per_gpu=1, deadly=9)
    opt['train']['total_iter'] = 100
    opt['logger']['save_checkpoint_freq'] = 1000
    del opt['val']
    statuses, outputs = run_two(folder, 'train', opt, lambda other: None)
    assert statuses == [75, 1], outputs
    (state,) = (folder / 'experiments/small/training_states').iterdir()
    assert f'a request of another process: the state of iteration {state.stem} is saved' in outputs[0], outputs[0]
    assert 'failed (SIGKILL), most likely because memory or shared memory' in outputs[1], outputs[1]
    assert 'Lower datasets.train.num_worker_per_gpu' in outputs[1] and 'Traceback' not in outputs[1]


@pytest.mark.parametrize(
    ('fault', 'reason'),
    [('misshapen', 'failed: RuntimeError: '), ('unreadable', 'cannot be read: OSError: it is on fire')],
)
@pytest.mark.parametrize('model', ['DeepRFTv2Model', 'SRModel'])
def test_error_of_another_process_saves_the_state(folder, model, fault, reason):
    opt = {**toy_options(options()), 'model_type': model}
    opt['custom_imports'].append('tests.cli.troubles')
    opt['datasets']['train'].update(type='TroubledDataset', troubled_rank=1, **{fault: 9})
    opt['train']['total_iter'] = 100
    opt['logger']['save_checkpoint_freq'] = 1000
    del opt['val'], opt['datasets']['val']
    statuses, outputs = run_two(folder, 'train', opt, lambda other: None)
    assert statuses == [1, 1], outputs
    (state,) = (folder / 'experiments/small/training_states').iterdir()
    assert f'The state of iteration {state.stem} is saved' in outputs[0] and 'is saved' not in outputs[1], outputs
    host = platform.node()
    assert f'error: process 0 on {host}: another process has ended' in outputs[0], outputs[0]
    assert f'process 1 on {host}' in outputs[1] and reason in outputs[1], outputs[1]


@pytest.mark.parametrize(('number', 'started'), [(1, False), (2, True)])
def test_killed_process_of_a_test_is_an_error_of_the_others(folder, number, started):
    """It is killed in the checks, which read one image, or later."""
    opt = toy_options(test_options())
    opt['custom_imports'].append('tests.cli.troubles')
    opt['datasets']['test'].update(type='TroubledDataset', deadly=number)
    statuses, outputs = run_two(folder, 'test', opt, lambda other: None)
    assert statuses == [1, -9], outputs
    assert f'error: process 0 on {platform.node()}: another process has ended' in outputs[0], outputs[0]
    assert ('Testing more-noise' in outputs[0]) == started and 'Traceback' not in outputs[0], outputs[0]


def test_training_that_diverges_ends_in_all_processes(folder):
    opt = toy_options(options())
    opt['train'].update(total_iter=12, optim_g={'type': 'LBFGS', 'lr': 1000, 'max_iter': 50})
    opt['logger']['save_checkpoint_freq'] = 1
    del opt['val']
    statuses, outputs = run_two(folder, 'train', opt, lambda other: None)
    assert statuses == [1, 1], outputs
    assert all('not finite' in text and 'Training has diverged' in text for text in outputs), outputs
    assert not any((folder / 'experiments/small/models').glob('*_latest.*'))
