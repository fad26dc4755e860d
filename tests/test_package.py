"""The wheel: its content and its installation."""

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deeprftv2_plugin import __version__
from deeprftv2_plugin.ops import backends

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'deeprftv2_plugin'
PYTHONS = ('3.10', '3.11', '3.12', '3.13', '3.14')
EXTRAS = ('', 'bench', 'demo', 'test', 'dev')  # the versions that scripts/environment.sh installs


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Path of the wheel that `python -m build` creates from a source distribution of this checkout."""
    source, output = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    for name in ('pyproject.toml', 'README.md', 'LICENSE', 'NOTICE'):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns('__pycache__'))
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(output), cwd=source)
    (path,) = output.glob('*.whl')
    return path


@pytest.fixture(scope='module')
def metadata(wheel):
    with zipfile.ZipFile(wheel) as file:
        return email.message_from_bytes(file.read(f'deeprftv2_plugin-{__version__}.dist-info/METADATA'))


def test_wheel_has_every_file_of_the_package_and_the_licenses(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    for path in PACKAGE.rglob('*'):
        if path.is_file() and '__pycache__' not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    licenses = {name.rpartition('/')[2] for name in names if '.dist-info/licenses/' in name}
    assert licenses == {'LICENSE', 'NOTICE'}


def test_license_and_version_are_in_the_metadata(metadata):
    assert metadata['Version'] == __version__
    assert metadata['License-Expression'] == 'Apache-2.0'


def test_installed_wheel_runs(wheel, tmp_path):
    venv.create(tmp_path / 'venv', with_pip=False)
    scripts = tmp_path / 'venv' / ('Scripts' if os.name == 'nt' else 'bin')
    python = str(scripts / 'python')
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', '--no-index', str(wheel), cwd=tmp_path)
    packages = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=tmp_path).strip()
    # PyTorch and the other dependencies come from this environment
    Path(packages, 'dependencies.pth').write_text(sysconfig.get_path('purelib') + '\n')

    said = run(str(scripts / 'basicsr'), '--version', cwd=tmp_path)
    assert f'deeprftv2-plugin {__version__}\n' in said
    assert f'backends {backends.describe()}\n' in said  # the C++ sources are there and compile
    code = 'from deeprftv2_plugin import archs; print(archs.__file__)'
    assert run(python, '-c', code, cwd=tmp_path).startswith(packages)


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize('system', ['linux', 'darwin', 'win32'])
def test_each_dependency_has_one_version(metadata, python, system):
    environment = {'python_version': python, 'sys_platform': system}
    lines = (line.partition('#')[0].strip() for line in (ROOT / 'scripts/constraints.txt').read_text().splitlines())
    pins = [Requirement(line) for line in lines if line]
    pinned = [canonicalize_name(pin.name) for pin in pins if not pin.marker or pin.marker.evaluate(environment)]
    assert len(pinned) == len(set(pinned))
    required = map(Requirement, metadata.get_all('Requires-Dist'))
    for each in required:
        if not each.marker or any(each.marker.evaluate({**environment, 'extra': extra}) for extra in EXTRAS):
            assert canonicalize_name(each.name) in pinned
