"""BasicSR on current libraries."""

import importlib.util
import os
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.basicsr_bridge import patches, replacement
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture(autouse=True, scope='module')
def patched():
    patches.apply()


def test_applying_twice_patches_once():
    from basicsr.models.base_model import BaseModel

    before, loading = replacement.active(), BaseModel.load_network
    patches.apply()
    assert replacement.active() == before and BaseModel.load_network is loading


def test_patches_are_listed_with_their_reasons():
    reasons = {each.name: each.reason for each in replacement.active()}
    assert {'model_to_device', 'load_network', 'save_network', 'save_training_state'} <= reasons.keys()
    assert all(reasons.values())


def test_the_module_that_torchvision_removed_can_be_imported():
    from torchvision.transforms import functional, functional_tensor

    assert functional_tensor.rgb_to_grayscale is functional.rgb_to_grayscale


def test_distutils_is_only_provided_during_the_import(monkeypatch):
    monkeypatch.setattr(patches, '_importable', lambda name: False)
    for name in ('distutils', 'distutils.version'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with patches.distutils_for_import():
        from distutils.version import LooseVersion

        assert LooseVersion('0.28.0+cpu') >= LooseVersion('0.9.0')
    assert 'distutils' not in sys.modules


def test_an_existing_distutils_is_kept(monkeypatch):
    real = types.ModuleType('distutils')
    monkeypatch.setattr(patches, '_importable', lambda name: True)
    monkeypatch.setitem(sys.modules, 'distutils', real)
    with patches.distutils_for_import():
        assert sys.modules['distutils'] is real
    assert sys.modules['distutils'] is real


def test_the_error_for_a_missing_basicsr_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='not installed.*pip install'):
        patches.require_basicsr()


def test_the_error_for_a_hidden_basicsr_names_the_other_package(monkeypatch, tmp_path):
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr/train.py').touch()
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / 'basicsr')], origin=None)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
    with pytest.raises(UserError) as caught:
        patches.require_basicsr()
    assert str(tmp_path / 'basicsr') in str(caught.value)
    assert 'utils/registry.py' in str(caught.value)


@pytest.mark.parametrize('other', ['1.4.1', '1.5.0'])
def test_another_version_of_basicsr_is_an_error(monkeypatch, tmp_path, other):
    (tmp_path / 'utils').mkdir()
    for name in ('train.py', 'utils/registry.py'):
        (tmp_path / name).touch()
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    )
    (tmp_path / 'version.py').write_text(f"__version__ = '{other}'\n")
    with pytest.raises(UserError, match=rf'BasicSR {other} is installed in .* only BasicSR 1\.4\.2.*pip install'):
        patches.require_basicsr()
    (tmp_path / 'version.py').write_text("__version__ = '1.4.2'\n")
    patches.require_basicsr()


def test_the_package_requires_the_version_that_is_patched():
    project = (Path(__file__).parents[2] / 'pyproject.toml').read_text()
    assert f'"basicsr=={patches.VERSION}"' in project


def broken_batches():
    yield 1
    raise UserError('frame_7 is damaged')


def test_an_error_of_the_dataset_reaches_the_training_through_the_prefetcher():
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    prefetched = PrefetchGenerator(broken_batches(), 2)
    assert next(prefetched) == 1
    with pytest.raises(UserError, match='frame_7'):
        next(prefetched)


def test_the_prefetcher_stops_after_the_last_batch():
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    assert list(PrefetchGenerator(iter('abc'), 2)) == ['a', 'b', 'c']


def test_a_prefetcher_is_replaced_only_if_it_loses_errors():
    class Sound:
        def run(self):
            try:
                for item in self.generator:
                    self.queue.put(item)
            except Exception as error:
                self.queue.put(error)

    (replaced,) = [each for each in replacement.active() if each.name == 'PrefetchGenerator']
    assert patches._loses_errors(replaced.original)
    assert not patches._loses_errors(Sound)


@pytest.mark.parametrize(('name', 'lines'), [('small', 1), ('debug_small', 4)])
def test_network_is_logged_in_one_line_except_with_debug(log, name, lines):
    from basicsr.models.base_model import BaseModel
    from torch import nn

    model = BaseModel({'name': name, 'num_gpu': 0, 'is_train': False})
    model.print_network(nn.Sequential(nn.Linear(2, 3)))
    shown = '\n'.join(dict.fromkeys(record.message for record in log.records))
    assert len(shown.splitlines()) == lines
    assert 'Sequential' in shown and '9 parameters' in shown.replace('with parameters: 9', '9 parameters')


@pytest.mark.posix
def test_models_of_basicsr_save_images_under_any_name(tmp_path):
    from basicsr.models import sr_model, video_base_model

    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    path = os.path.join(tmp_path, os.fsdecode(b'caf\xe9'), 'a.png')  # OpenCV would crash
    for module in (sr_model, video_base_model):
        module.imwrite(image, path)
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
        assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR), image)
        Path(path).unlink()
        with pytest.raises(
            UserError, match='the image .*xxx.png could not be written: File name too long. The name is'
        ):
            module.imwrite(image, str(tmp_path / f'{300 * "x"}.png'))
