"""The command `basicsr check`."""

import logging
from functools import cache

import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.ops.backends import native
from tests.cli.runs import options, test_options, write


def run(capsys, *argv):
    """Return the status, the pairs of subject and mark in the report, and the captured output."""
    status = cli.main(['check', '-opt', *argv])
    captured = capsys.readouterr()
    lines = [line.split()[:2] for line in captured.out.splitlines() if line and not line.startswith(' ')]
    return status, [tuple(line) for line in lines], captured


def test_training_is_checked_and_nothing_is_created(folder, capsys):
    file = write(folder, options())
    before = sorted(folder.rglob('*'))
    status, found, captured = run(capsys, file)
    assert status == 0 and captured.err == ''
    subjects = list(dict.fromkeys(subject for subject, _ in found))
    assert subjects == ['options', 'data', 'model', 'checkpoint', 'schedule', 'batch', 'passes', 'memory', 'disk']
    assert {mark for _, mark in found} == {'ok'}
    assert len(captured.out.splitlines()) <= 24
    assert sorted(folder.rglob('*')) == before


def test_test_is_checked_without_the_parts_of_a_training(folder, capsys):
    status, found, _ = run(capsys, write(folder, test_options()))
    assert status == 0
    assert found == [('options', 'ok'), ('data', 'ok'), ('model', 'ok'), ('checkpoint', 'warning'), ('passes', 'ok')]


def test_a_machine_that_is_slow_for_lack_of_a_compiler_is_reported(folder, capsys, monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    monkeypatch.setattr(native, 'why_not', lambda: 'no C++ compiler was found')
    monkeypatch.setattr(backends, 'usable', cache(backends.usable.__wrapped__))
    status, found, captured = run(capsys, write(folder, test_options()))
    assert status == 0 and found[:2] == [('options', 'ok'), ('backend', 'warning')]
    assert 'all operators run slowly in plain PyTorch: ' in captured.out
    assert captured.out.count('not native: no C++ compiler was found') == 1


def test_all_findings_are_printed_and_an_error_sets_the_status(folder, capsys):
    (folder / 'lq/3.png').write_bytes(b'')
    opt = options()
    opt['datasets']['train']['type'] = opt['datasets']['val']['type'] = 'PairedDeblurDataset'
    for key in ('use_hflip', 'io_backend'):
        del opt['datasets']['train'][key]
    del opt['datasets']['val']['io_backend']
    opt['logger']['wandb'] = {'project': 'x'}
    status, found, captured = run(capsys, write(folder, opt), '--force_yml', 'val:val_freq=9')
    assert status == 1
    assert {('data', 'error'), ('schedule', 'warning'), ('log', 'error'), ('disk', 'ok')} <= set(found)
    assert '3.png' in captured.out
    assert captured.err.startswith('error: small.yml: the run would fail (')
    assert 'Traceback' not in captured.err


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('train:total_iters=9', 'Did you mean total_iter?'),
        ('train:optim_g:lr=-1', 'train.optim_g.lr is -1, expected a number in [0, 1000]'),
    ],
)
def test_invalid_options_are_the_only_finding(folder, capsys, override, words):
    status, found, captured = run(capsys, write(folder, options()), '--force_yml', override)
    assert status == 1
    assert found == [('options', 'error')]
    assert words in captured.out


@pytest.mark.parametrize(
    ('override', 'subject', 'words'),
    [
        ('datasets:train:dataroot_lq=nowhere', 'data', 'nowhere'),
        ('path:pretrain_network_g=nowhere.pth', 'checkpoint', 'nowhere.pth, which does not exist'),
    ],
)
def test_missing_files_are_errors_among_the_other_findings(folder, capsys, override, subject, words):
    status, found, captured = run(capsys, write(folder, options()), '--force_yml', override)
    assert status == 1
    assert [each for each in found if each[1] == 'error'] == [(subject, 'error')]
    assert ('disk', 'ok') in found
    assert words in captured.out


def test_undeclared_key_of_another_package_is_a_warning(folder, capsys):
    (folder / 'mild_model.py').write_text(
        'from basicsr.models.sr_model import SRModel\n'
        'from basicsr.utils.registry import MODEL_REGISTRY\n\n\n'
        '@MODEL_REGISTRY.register()\n'
        'class MildModel(SRModel):\n'
        '    pass\n'
    )
    opt = options()
    opt.update(custom_imports=['mild_model'], model_type='MildModel', mildness=1)
    status, found, captured = run(capsys, write(folder, opt))
    assert status == 0 and found[:2] == [('options', 'ok'), ('options', 'warning')]
    assert 'mildness is unknown' in captured.out and 'MildModel' in captured.out


def test_model_that_cannot_be_built_is_an_error(folder, capsys):
    opt = options()
    opt['train']['optim_g'].update(fused=True, foreach=True)
    status, found, captured = run(capsys, write(folder, opt))
    assert status == 1 and ('model', 'error') in found
    assert 'cannot be `True` together' in captured.out


def test_unusual_optimizer_does_not_prevent_other_estimates(folder, capsys):
    opt = options()
    opt.update(model_type='DeepRFTv2Model')
    opt['train']['optim_g'] = {'type': 'SparseAdam', 'lr': 1e-3}
    status, found, captured = run(capsys, write(folder, opt))
    assert status == 1 and ('model', 'error') in found and ('disk', 'ok') in found
    assert 'a step of the optimizer fails: RuntimeError: SparseAdam does not support dense gradients' in captured.out


def test_output_of_networks_is_not_in_the_report(folder, capsys):
    (folder / 'loud_arch.py').write_text(
        'from basicsr.utils import get_root_logger\n'
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        'from torch import nn\n\n\n'
        '@ARCH_REGISTRY.register()\n'
        'class Loud(nn.Conv2d):\n'
        '    def __init__(self):\n'
        '        super().__init__(3, 3, 1)\n'
        '        print("hear me")\n'
        '        get_root_logger().info("hear me")\n'
    )
    opt = options()
    opt.update(custom_imports=['loud_arch'], network_g={'type': 'Loud'})
    status, _, captured = run(capsys, write(folder, opt))
    assert status == 0
    assert 'hear me' not in captured.out + captured.err
    assert logging.root.manager.disable == logging.NOTSET


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(['check', '--help'])
    assert end.value.code == 0
    assert '\n  basicsr check -opt ' in capsys.readouterr().out


@pytest.mark.parametrize('key', ['dataroot_lq', 'dataroot_gt'])
def test_an_impossible_path_is_reported_as_missing(folder, capsys, key):
    opt = options()
    opt['datasets']['train'][key] = '\0'
    assert cli.main(['check', '-opt', write(folder, opt)]) == 1
    assert 'Missing:' in capsys.readouterr().out
