"""The command line."""

import argparse
import runpy
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

import deeprftv2_plugin
from deeprftv2_plugin import cli
from deeprftv2_plugin.utils.errors import UserError


def parser_of(run):
    """Return a parser whose only command is `run`."""
    return lambda: argparse.Namespace(parse_args=lambda argv: argparse.Namespace(run=run))


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize('module', cli.COMMANDS, ids=lambda module: module.__name__.rpartition('.')[2])
def test_the_help_of_every_command_has_a_description_and_an_example(module, capsys):
    command = module.__name__.rpartition('.')[2]
    with pytest.raises(SystemExit) as end:
        cli.main([command, '--help'])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f'\n  basicsr {command} ' in text and f'{module.HELP[1:]}.\n' in text


def test_basicsr_test_has_no_flag_to_resume(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(['test', '-opt', 'test.yml', '--auto_resume'])
    assert end.value.code == 2
    assert 'unrecognized arguments: --auto_resume' in capsys.readouterr().err


def test_version_prints_the_versions_and_the_device(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(['--version'])
    assert end.value.code == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines['deeprftv2-plugin'] == deeprftv2_plugin.__version__
    assert {'BasicSR', 'torch', 'Python', 'device'} <= set(lines)


def test_python_m_runs_the_same_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['deeprftv2_plugin', '--help'])
    with pytest.raises(SystemExit):
        runpy.run_module('deeprftv2_plugin', run_name='__main__')
    assert 'usage: basicsr' in capsys.readouterr().out


def test_wrong_input_prints_its_message_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(cli, 'make_parser', parser_of(raising(UserError('x is 1, expected 2'))))
    assert cli.main([]) == 1
    assert capsys.readouterr().err == 'error: x is 1, expected 2\n'


def test_ctrl_c_exits_with_130(monkeypatch):
    monkeypatch.setattr(cli, 'make_parser', parser_of(raising(KeyboardInterrupt())))
    assert cli.main([]) == 130


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, 'make_parser', parser_of(raising(ZeroDivisionError())))
    with pytest.raises(ZeroDivisionError):
        cli.main([])


class Damaged(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError('a.png is damaged: 3 of 9 rows\nget it again')


def test_an_error_of_a_data_loader_worker_is_printed_without_its_traceback():
    with pytest.raises(UserError) as caught:
        next(iter(DataLoader(Damaged(), num_workers=1)))
    assert 'Traceback' in str(caught.value)
    assert cli.message_of(caught.value) == 'a.png is damaged: 3 of 9 rows\nget it again'
