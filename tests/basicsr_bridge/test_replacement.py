import types

import pytest

from deeprftv2_plugin.basicsr_bridge import replacement
from deeprftv2_plugin.basicsr_bridge.replacement import replace


class Model:
    def save(self):
        return 'original'


def save(self):
    return 'new'


def test_a_replacement_lasts_for_the_block_and_is_listed():
    before = replacement.active()
    with replace(Model, 'save', save, 'testing') as replaced:
        assert Model().save() == 'new'
        assert replaced.original(None) == 'original'
        assert replacement.active() == (*before, replaced)
        assert str(replaced) == 'Model.save: testing'
    assert Model().save() == 'original'
    assert replacement.active() == before


def test_a_replacement_is_undone_after_an_error():
    with pytest.raises(ZeroDivisionError), replace(Model, 'save', save, 'testing'):
        1 / 0  # noqa: B018
    assert Model().save() == 'original'


def test_a_replacement_without_a_block_lasts_until_it_is_undone():
    module = types.ModuleType('module')
    module.value = 1
    replaced = replace(module, 'value', 2, 'testing')
    assert module.value == 2 and replaced in replacement.active()
    replaced.undo()
    assert module.value == 1 and replaced not in replacement.active()


def test_a_key_of_a_mapping_may_be_new():
    modules = {'there': 1}
    with replace(modules, 'new', 2, 'testing'), replace(modules, 'there', 3, 'testing'):
        assert modules == {'there': 3, 'new': 2}
    assert modules == {'there': 1}


def test_an_attribute_must_exist():
    before = replacement.active()
    with pytest.raises(AttributeError, match='restore'):
        replace(Model, 'restore', save, 'testing')
    assert replacement.active() == before and not hasattr(Model, 'restore')
