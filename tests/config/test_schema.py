"""Comparison of the schema with the classes whose options it declares."""

import inspect
import re
from pathlib import Path

import pytest

import deeprftv2_plugin
from deeprftv2_plugin.config import basicsr_schema, reference, schema
from deeprftv2_plugin.config.validation import DATASETS, MODELS

PAGE = Path(deeprftv2_plugin.__file__).parents[1] / 'docs/options.md'


def plain(name):
    return name.removesuffix('_basicsr')


def source_of(cls):
    """Return the source of the modules of a class and its parents, except those of torch."""
    modules = {inspect.getmodule(each) for each in cls.__mro__}
    return '\n'.join(
        inspect.getsource(m) for m in modules if m.__name__.partition('.')[0] not in ('builtins', 'torch', 'typing')
    )


def keys_read(source):
    """Return the keys of option dicts that a source reads."""
    return set(re.findall(r"opt(?:\.get\(|\[)'(\w+)'", source))


def test_every_dataset_of_the_registry_is_declared():
    from basicsr.utils.registry import DATASET_REGISTRY

    ours = ('basicsr', 'deeprftv2_plugin')
    names = {plain(name) for name, cls in DATASET_REGISTRY if cls.__module__.partition('.')[0] in ours}
    assert names == set(DATASETS)


@pytest.mark.parametrize('name', sorted(basicsr_schema.DATASETS))
def test_declared_keys_of_basicsrs_datasets_are_those_it_reads(name):
    from basicsr.utils.registry import DATASET_REGISTRY

    source = source_of(DATASET_REGISTRY.get(name))
    declared = set(basicsr_schema.DATASETS[name])
    assert [key for key in declared if f"'{key}'" not in source] == []
    others = set().union(*(set(table) for table in basicsr_schema.DATASETS.values()))  # of classes in the same module
    assert keys_read(source) - others - {'type', 'phase', 'name', 'db_paths', 'client_keys'} == set()


@pytest.mark.parametrize('name', sorted(basicsr_schema.MODELS))
def test_declared_keys_of_basicsrs_models_are_those_it_reads(name):
    from basicsr.utils.registry import MODEL_REGISTRY

    cls = MODEL_REGISTRY.get(name)
    source = source_of(cls)
    declared = {}
    for parent in cls.__mro__:
        for table in MODELS.get(parent.__name__, {}).values():
            declared |= table
    own = {key for table in basicsr_schema.MODELS[name].values() for key in table}
    assert [key for key in own if f"'{key}'" not in source] == []
    elsewhere = {*schema.ROOT, *schema.PATH, 'dist', 'rank', 'world_size', 'is_train', 'type', 'lr', 'models'}
    elsewhere |= {'training_states', 'visualization', 'better'}
    read = {key for key in keys_read(source) if not key.startswith(('pretrain_', 'strict_load_', 'param_key_'))}
    assert read - set(declared) - elsewhere - {'find_unused_parameters', 'db_paths'} == set()


def test_defaults_are_values_that_the_options_accept():
    tables = [schema.ROOT, schema.DIST_PARAMS, schema.PATH, schema.PATH_OF_NETWORK, schema.LOGGER, schema.WANDB]
    tables += [schema.TRAIN, schema.STAGE, schema.VAL, schema.LOADER, schema.LOADER_TRAIN, schema.PART]
    tables += [*DATASETS.values(), *(table for parts in MODELS.values() for table in parts.values())]
    for table in tables:
        for key, option in table.items():
            assert option.required or option.accepts(option.default), key


def test_documented_options_are_up_to_date():
    text = PAGE.read_text(encoding='utf-8')
    assert text == reference.reference(), 'run: python -m deeprftv2_plugin.config.reference > docs/options.md'
    for key in (*schema.TRAIN, *schema.LOGGER, *schema.MODELS['DeepRFTv2Model']['train']):
        assert f'| `{key}` |' in text
