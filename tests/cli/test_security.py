"""Files in the working directory are not executed, and links in the folder of a run are not followed."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import deeprftv2_plugin
from deeprftv2_plugin.basicsr_bridge import pipelines
from tests.cli.runs import options, test_options, write
from tests.data.archives import unpack

pytestmark = pytest.mark.posix
ROOT = Path(__file__).parents[2]
PLANTED = """
import os
print('PLANTED', __name__, flush=True)
os._exit(3)
"""
OPTIONAL = {'mamba_ssm', 'pyiqa', 'wandb', 'triton', 'scipy', 'skimage', 'tensorboard', 'matplotlib', 'torch', 'numpy'}
COMMANDS = """
import multiprocessing
import os
import runpy
import sys

if __name__ == '__main__':
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    for command in sys.argv[1:]:
        if command.startswith('prepare') and sys.version_info >= (3, 11):
            multiprocessing.set_start_method('spawn', force=True)
        sys.argv = ['basicsr', *command.split()]
        sys.path.insert(0, os.getcwd())  # as python -m does
        try:
            runpy.run_module('deeprftv2_plugin', run_name='__main__')
        except SystemExit as end:
            print('DONE', command, end.code, flush=True)
        if os.getcwd() in sys.path:
            print('the working directory is searched after', command)
"""
"""Run commands one after the other."""


@pytest.fixture
def planted(folder):
    """A working directory with data, a file for every module that a command may try to import, and a plugin."""
    (folder / 'planted.py').write_text(PLANTED)
    names = {*packages_distributions(), *OPTIONAL} - {'deeprftv2_plugin'}
    if sys.version_info >= (3, 11):  # older versions of `python -m` import modules of the standard library from there
        names |= sys.stdlib_module_names
    for name in names:
        if name.isidentifier():
            (folder / f'{name}.py').symlink_to('planted.py')
    (folder / 'planted-1.0.dist-info').mkdir()
    (folder / 'planted-1.0.dist-info/METADATA').write_text('Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n')
    (folder / 'planted-1.0.dist-info/entry_points.txt').write_text('[basicsr.plugins]\nplanted = planted\n')
    return folder


def output(folder, *argv):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    environment.pop('PYTHONSAFEPATH', None)
    process = subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert 'PLANTED' not in process.stdout, process.stdout
    return process


def test_python_m_imports_nothing_from_the_working_directory(planted):
    process = output(planted, '-m', 'deeprftv2_plugin', 'check', '-opt', write(planted, options()))
    assert process.returncode == 0, process.stdout


def test_no_command_imports_anything_from_the_working_directory(planted, tmp_path_factory):
    driver = tmp_path_factory.mktemp('driver') / 'driver.py'
    driver.write_text(COMMANDS)
    unpack('GOPRO_Large', planted / 'GoPro', (24, 40, 3))
    training, test = options(), test_options()
    training['model_type'] = test['model_type'] = 'DeepRFTv2Model'
    training['datasets']['train']['num_worker_per_gpu'] = 1
    write(planted, training)
    write(planted, test, 'test.yml')
    commands = ('train -opt small.yml', 'test -opt test.yml', 'prepare GoPro crops --crop 16 --split train')
    process = output(planted, str(driver), *commands)
    for command in commands:
        assert f'DONE {command} 0' in process.stdout, process.stdout
    assert 'the working directory is searched' not in process.stdout


def test_a_run_continues_if_its_options_cannot_be_saved(tmp_path, log):
    deeprftv2_plugin.register()
    from basicsr import train

    with pipelines.handed_over(options(), 'small.yml', 'none', auto_resume=True, debug=False):
        train.copy_opt_file('small.yml', str(tmp_path / 'missing'))
    assert 'missing/small.yml: No such file or directory. The run continues without it.' in log.text


def test_a_link_in_the_folder_of_a_run_is_not_followed(tmp_path, monkeypatch):
    deeprftv2_plugin.register()
    from basicsr import train

    (tmp_path / 'victim').write_text('precious')
    (tmp_path / 'small').mkdir()
    (saved := tmp_path / 'small/small.yml').symlink_to(tmp_path / 'victim')
    monkeypatch.setattr(sys, 'argv', ['basicsr', 'caf\udce9.yml'])  # not UTF-8
    with pipelines.handed_over(options(), 'small.yml', 'none', auto_resume=True, debug=False):
        train.copy_opt_file('small.yml', str(tmp_path / 'small'))
    assert (tmp_path / 'victim').read_text() == 'precious'
    assert not saved.is_symlink() and yaml.safe_load(saved.read_text())['name'] == 'small'
