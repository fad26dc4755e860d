"""What classes and functions say about their options without being asked to."""

import pytest
from torch import nn, optim

from deeprftv2_plugin.basicsr_bridge import patches as compat
from deeprftv2_plugin.config.keys import Reads, arguments, reads


@pytest.fixture
def basicsr():
    """BasicSR's registries by the kind of what is in them."""
    compat.apply()
    from basicsr.utils import registry

    return {
        'network': registry.ARCH_REGISTRY,
        'dataset': registry.DATASET_REGISTRY,
        'model': registry.MODEL_REGISTRY,
        'metric': registry.METRIC_REGISTRY,
    }


class Parent:
    def __init__(self, width, depth=1):
        pass


class Child(Parent):
    def __init__(self, name, **kwargs):
        super().__init__(**kwargs)


class Swallowing(Parent):
    def __init__(self, name, **kwargs):
        super().__init__(1)


class Passing(nn.Module):
    def __init__(self, name, **kwargs):
        super().__init__()
        self.inner = Parent(**kwargs)


@pytest.mark.parametrize(
    ('target', 'known', 'required', 'any_'),
    [
        (Parent, {'width', 'depth'}, {'width'}, False),
        (Child, {'name', 'width', 'depth'}, {'name'}, False),
        (Swallowing, {'name'}, {'name'}, False),
        (Passing, {'name'}, {'name'}, True),
        (lambda a, *, b=1: None, {'a', 'b'}, {'a'}, False),
    ],
)
def test_arguments(target, known, required, any_):
    assert arguments(target) == (known, required, any_)


def test_arguments_that_are_no_options_are_left_out():
    assert 'params' not in arguments(optim.AdamW, given=['params']).known
    assert {'lr', 'betas', 'weight_decay'} <= arguments(optim.AdamW).known


def test_basicsrs_networks_and_metrics_swallow_what_they_do_not_know(basicsr):
    assert not arguments(basicsr['network'].get('SwinIR')).any
    psnr = arguments(basicsr['metric'].get('calculate_psnr'))
    assert psnr.known == {'img', 'img2', 'crop_border', 'input_order', 'test_y_channel'}


@pytest.mark.parametrize('kind', ['network', 'metric'])
def test_everything_that_basicsr_registers_has_arguments_that_can_be_told(basicsr, kind):
    for name, target in basicsr[kind]:
        assert not arguments(target).any, name


class Base:
    def __init__(self, opt):
        self.opt = opt
        self.size = opt['size']


class Reading(Base):
    def run(self):
        train_opt = self.opt['train']
        rate = train_opt.get('rate', 1)
        inner = train_opt.get('inner') or {}
        if 'flag' in self.opt:
            self.opt['written'] = inner['deep']
        settings = {key: self.opt['val'][key] for key in ('tile', 'overlap')}
        return rate, settings, helper(self.opt, 'anywhere')


def helper(opt, key):
    return opt[key], opt['by_helper']


def test_reads_follow_options_through_a_class_and_its_parents():
    read = reads(Reading)
    assert read.of() == {'size', 'train', 'val', 'flag'}
    assert read.of('train') == {'rate', 'inner'}
    assert read.of('train', 'inner') == {'deep'}
    assert read.of('val') == {'tile', 'overlap'}
    assert read.complete


def test_a_key_that_a_helper_reads_is_admitted():
    read = reads(Reading)
    assert read.admit('anywhere')
    assert read.admit('by_helper')
    assert not read.admit('by_' + 'helpr')  # in one piece it would be a word of this module


def test_without_a_source_every_key_is_admitted():
    built = type('Built', (), {'__module__': __name__})
    assert reads(built).admit('anything')


def test_what_is_read_under_another_name_is_found_with_that_root():
    def build(dataset_opt):
        return dataset_opt['batch'], dataset_opt.get('workers')

    assert reads(build, root='dataset_opt').of() == {'batch', 'workers'}


def test_every_option_that_basicsr_documents_for_its_dataset_is_found(basicsr):
    documented = {'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'filename_tmpl', 'gt_size'}
    found = reads(basicsr['dataset'].get('PairedImageDataset')).of()
    assert documented | {'use_hflip', 'use_rot', 'scale', 'phase'} <= found


def test_sections_of_basicsrs_model_are_told_apart(basicsr):
    read = reads(basicsr['model'].get('SRModel'))
    assert {'ema_decay', 'pixel_opt', 'perceptual_opt', 'optim_g', 'scheduler'} <= read.of('train')
    assert {'metrics', 'pbar', 'suffix'} <= read.of('val')
    assert 'ema_decay' not in read.of('val')


def test_nothing_is_read_from_a_section_that_no_one_reads():
    assert Reads(frozenset({('a', 'b')}), frozenset(), frozenset(), True).of('c') == set()
