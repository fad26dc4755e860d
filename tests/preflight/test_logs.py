"""Packages to log with."""

import pytest

from deeprftv2_plugin.preflight import logs
from tests.preflight.findings import errors


def check(opt, monkeypatch, installed, **settings):
    monkeypatch.setattr(logs, 'find_spec', lambda name: name if name in installed else None)
    opt['logger'].update(settings)
    return list(logs.check_logs(opt))


@pytest.mark.parametrize(
    ('settings', 'package'),
    [({'use_tb_logger': True}, 'tensorboard'), ({'use_tb_logger': True, 'wandb': {'project': 'x'}}, 'wandb')],
)
def test_a_package_that_is_missing_is_named_with_its_cure(opt, monkeypatch, settings, package):
    installed = {'tensorboard', 'wandb'}
    assert not errors(check(opt, monkeypatch, installed, **settings))
    (text,) = errors(check(opt, monkeypatch, installed - {package}, **settings))
    assert f'pip install {package}' in text


def test_wandb_takes_what_tensorboard_gets(opt, monkeypatch):
    (text,) = errors(check(opt, monkeypatch, {'wandb'}, wandb={'project': 'x'}))
    assert 'logger.use_tb_logger: true' in text


def test_what_nobody_asks_for_may_be_missing(opt, monkeypatch):
    assert not check(opt, monkeypatch, set(), wandb={'project': None})
    opt['name'] = 'debug_small'
    assert not check(opt, monkeypatch, set(), use_tb_logger=True)
