"""The content of BasicSR's registries."""

import contextlib
import types

import pytest

import deeprftv2_plugin
from deeprftv2_plugin.basicsr_bridge import registration
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture(scope='module')
def registry():
    deeprftv2_plugin.register()
    from basicsr.utils import registry

    return registry


@pytest.fixture
def plugins(monkeypatch):
    """Set the entry points that other packages declare."""

    def declare(*values):
        entries = [types.SimpleNamespace(name='other', value='other:x', load=lambda v=value: v()) for value in values]
        monkeypatch.setattr(registration, 'entry_points', lambda group: entries)

    return declare


@pytest.mark.parametrize(
    ('kind', 'names'),
    [
        ('ARCH_REGISTRY', ['DeepRFTv2', 'AblatedDeepRFTv2', 'KernelHead', 'FourierKernelEstimator']),
        ('LOSS_REGISTRY', ['FourierLoss', 'FFTL1Loss', 'FocalFrequencyLoss', 'PSNRLoss', 'MultiScaleLoss']),
        ('MODEL_REGISTRY', ['DeepRFTv2Model']),
        ('DATASET_REGISTRY', ['PairedDeblurDataset', 'SyntheticBlurDataset', 'MixedDataset']),
    ],
)
def test_every_part_is_registered(registry, kind, names):
    assert set(names) <= set(getattr(registry, kind).keys())


def test_registering_twice_registers_once(registry):
    before = dict(iter(registry.LOSS_REGISTRY))
    deeprftv2_plugin.register()
    assert dict(iter(registry.LOSS_REGISTRY)) == before


def test_the_error_for_a_name_in_use_says_who_registered_it(registry):
    with pytest.raises(UserError, match='L1Loss of .* cannot be registered: basicsr.losses.basic_loss'):
        registration.add(registry.LOSS_REGISTRY, type('L1Loss', (), {}))


def test_a_plugin_is_loaded_and_its_function_called(plugins):
    seen = []

    class Class:
        def __init__(self):
            seen.append('a class is not called')

    plugins(lambda: seen.append('loaded'), lambda: lambda: seen.append('called'), lambda: Class)
    registration.load_plugins()
    assert seen == ['loaded', 'called']


def test_a_plugin_that_fails_is_named(plugins):
    plugins(lambda: 1 / 0)
    with pytest.raises(UserError, match=r'plugin other = other:x .* ZeroDivisionError'):
        registration.load_plugins()


@pytest.mark.parametrize('names', [['loose_module'], 'loose_module', {'imports': ['loose_module']}])
def test_custom_imports_include_the_working_directory(tmp_path, monkeypatch, names):
    (tmp_path / 'loose_module.py').write_text('import os\nos.environ["LOOSE_MODULE"] = "seen"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', ['elsewhere'])
    monkeypatch.delitem(registration.sys.modules, 'loose_module', raising=False)
    monkeypatch.setenv('LOOSE_MODULE', '')
    registration.import_modules(names)
    assert registration.os.environ['LOOSE_MODULE'] == 'seen'


def test_a_file_in_the_working_directory_does_not_replace_an_installed_module(tmp_path, monkeypatch):
    (tmp_path / 'installed').mkdir()
    for folder in (tmp_path, tmp_path / 'installed'):
        (folder / 'module_of_both.py').write_text('')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', [str(tmp_path / 'installed')])
    monkeypatch.delitem(registration.sys.modules, 'module_of_both', raising=False)
    registration.import_modules(['module_of_both'])
    assert registration.sys.modules['module_of_both'].__file__ == str(tmp_path / 'installed' / 'module_of_both.py')
    assert registration.sys.path == [str(tmp_path / 'installed'), str(tmp_path)]


@pytest.mark.parametrize('names', [[], {}, {'imports': []}, {'imports': None}])
def test_the_working_directory_is_not_searched_without_custom_imports(tmp_path, monkeypatch, names):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', ['elsewhere'])
    with contextlib.suppress(UserError):
        registration.import_modules(names)
    assert registration.sys.path == ['elsewhere']


@pytest.mark.parametrize('code', ['raise SystemExit', '1 / 0'])
def test_a_module_that_fails_or_exits_is_named(tmp_path, monkeypatch, code):
    """Otherwise the command would end with the exit status of the module."""
    (tmp_path / 'module_that_ends.py').write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', ['elsewhere'])
    with pytest.raises(UserError, match='custom_imports: module_that_ends failed'):
        registration.import_modules(['module_that_ends'])


@pytest.mark.parametrize('names', [['no_such_module'], 7, [7]])
def test_wrong_custom_imports_are_refused(names):
    with pytest.raises(UserError, match='custom_imports'):
        registration.import_modules(names)
