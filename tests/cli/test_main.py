"""The program around its commands."""

import argparse
import runpy
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

import deeprftv2_plugin
from deeprftv2_plugin import cli
from deeprftv2_plugin.utils.errors import UserError


def parser_of(run):
    """A stand-in for the command line, whose only command is `run`."""
    return lambda: argparse.Namespace(parse_args=lambda argv: argparse.Namespace(run=run))


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize('command', ['train', 'test', 'check', 'prepare', 'convert'])
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, '--help'])
    assert end.value.code == 0
    assert f'\n  basicsr {command} ' in capsys.readouterr().out


def test_version_names_everything_involved(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(['--version'])
    assert end.value.code == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines['deeprftv2-plugin'] == deeprftv2_plugin.__version__
    assert {'BasicSR', 'torch', 'Python', 'device'} <= set(lines)


def test_python_dash_m_is_the_same_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['deeprftv2_plugin', '--help'])
    with pytest.raises(SystemExit):
        runpy.run_module('deeprftv2_plugin', run_name='__main__')
    assert 'usage: basicsr' in capsys.readouterr().out


def test_wrong_input_is_one_sentence_and_status_one(monkeypatch, capsys):
    monkeypatch.setattr(cli, 'make_parser', parser_of(raising(UserError('x is 1, expected 2'))))
    assert cli.main([]) == 1
    assert capsys.readouterr().err == 'error: x is 1, expected 2\n'


def test_interruption_has_the_status_of_the_shell(monkeypatch):
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


def test_the_sentence_of_a_data_loaders_worker_comes_without_its_traceback():
    with pytest.raises(UserError) as caught:
        next(iter(DataLoader(Damaged(), num_workers=1)))
    assert 'Traceback' in str(caught.value)
    assert cli.sentence(caught.value) == 'a.png is damaged: 3 of 9 rows\nget it again'
