"""Option files: numbers, inheritance, overrides, and the resolved options that BasicSR reads."""

import os

import pytest
import yaml

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.config import reading
from deeprftv2_plugin.utils import plain_yaml
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file to the folder of the test and returns its path."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize('text', ['1e-3', '1E-3', '0.001', '1.0e-3', '.1e-2', '+1e-3'])
def test_a_number_with_an_exponent_is_a_number(write, text):
    assert reading.load(write('a.yml', f'lr: {text}')) == {'lr': 0.001}


@pytest.mark.parametrize(
    ('text', 'value'),
    [('1', 1), ('e-3', 'e-3'), ('"1e-3"', '1e-3'), ('1e3d', '1e3d'), ('~', None), ('None', None)]
    + [('2024-01-31', '2024-01-31'), ('12:30', '12:30'), ('007', '007'), ('0x10', '0x10'), ('1_000', 1000), ('-3', -3)]
    + [('none', 'none'), ('"None"', 'None'), ('1.5', 1.5), ('-.5', -0.5), ('1_0.5', 10.5), ('9' * 30, 1e30)],
)
def test_text_that_is_not_a_number_remains_text(write, text, value):
    assert reading.load(write('a.yml', f'x: {text}')) == {'x': value}


def test_bases_are_relative_to_the_file_and_can_be_nested(write, monkeypatch, tmp_path):
    write('bases/ground.yml', 'train: {optim_g: {type: AdamW, lr: 1e-3}, total_iter: 9}\nscale: 1')
    write('bases/middle.yml', '_base_: ground.yml\ntrain: {optim_g: {lr: 2e-3}}')
    write('bases/other.yml', 'name: other')
    path = write('top.yml', '_base_: [bases/middle.yml, bases/other.yml]\nname: top\nextra: [1, 2]')
    monkeypatch.chdir('/')
    assert reading.load(path) == {
        'train': {'optim_g': {'type': 'AdamW', 'lr': 2e-3}, 'total_iter': 9},
        'scale': 1,
        'name': 'top',
        'extra': [1, 2],
    }


def test_a_section_can_discard_inherited_keys(write):
    write('base.yml', 'network_g: {type: A, width: 3}')
    path = write('top.yml', '_base_: base.yml\nnetwork_g: {_delete_: true, type: B}')
    assert reading.load(path) == {'network_g': {'type': 'B'}}


@pytest.mark.parametrize(('scheduler', 'period'), [('', 7), (', T_max: 3', 3)])
def test_a_cosine_schedule_lasts_as_long_as_the_training(write, scheduler, period):
    text = 'train: {total_iter: 9, scheduler: {type: CosineAnnealingLR, eta_min: 1e-7' + scheduler + '}}'
    resolved = reading.load(write('a.yml', text), ['train:total_iter=7'])
    assert resolved['train']['scheduler']['T_max'] == period


def test_keys_keep_the_order_in_which_they_are_written(write):
    path = write('a.yml', 'z: 1\na: {y: 1, b: 2}\nm: 3')
    resolved = reading.load(path, ['c=4'])
    assert list(resolved) == ['z', 'a', 'm', 'c']
    assert list(resolved['a']) == ['y', 'b']


@pytest.mark.parametrize(
    ('override', 'value'),
    [
        ('a:b=1e-3', 0.001),
        ('a:b=[64, 48]', [64, 48]),
        ('a:b={c: 1}', {'c': 1}),
        ('a:b=true', True),
        ('a:b=x=y', 'x=y'),
        ('a:b=~', None),
        ('a:b=None', None),
        ('a:b=', None),
        ('a:b=__import__("os")', '__import__("os")'),
    ],
)
def test_an_override_is_parsed_as_yaml(write, override, value):
    assert reading.load(write('a.yml', 'a: {b: 0}'), [override]) == {'a': {'b': value}}


def test_an_override_creates_missing_sections(write):
    assert reading.load(write('a.yml', 'a: 1\nb: ~'), ['b:c:d=2']) == {'a': 1, 'b': {'c': {'d': 2}}}


@pytest.mark.parametrize(
    ('override', 'words'),
    [('a:b', 'key:key=value'), (':b=1', 'key:key=value'), ('a:b:c=1', 'a:b is 0'), ('a:b=[1', 'not YAML')],
)
def test_an_override_that_cannot_be_applied_is_named(write, override, words):
    with pytest.raises(UserError, match=words) as caught:
        reading.load(write('a.yml', 'a: {b: 0}'), [override])
    assert override in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a: [', 'line 1, column 5'),
        ('a: 1\n b: 2', 'line 2'),
        ('- a', 'found a list'),
        ('', 'found a NoneType'),
        ('a: !!python/object/apply:os.getcwd []', 'python/object'),
        ('a: 1\nb: 2\na: 3', "line 3, column 1: not YAML: duplicate key 'a'"),
        ('a: !!int x', 'not YAML'),
        ('a: !!set {b}', 'not YAML'),
        ('? [a, b]\n: 1', 'a key that is not text'),
        ('1: 2\n"1": 3', "duplicate key '1'"),
        ('a: &a [*a]', 'line 1, column 8: not YAML: a section or list that contains itself'),
        ('a: &a {b: *a}', 'contains itself'),
        ('[' * 10_000, 'more than 50 nested sections and lists'),
        ('\n'.join('  ' * n + 'a:' for n in range(600)), 'more than 50 nested sections and lists'),
        ('a: ' + '9' * 5000, 'not YAML'),
        ('a: {{$HOME:x}}', 'a key that is not text'),
        ('a: {{ fileDirname }}', 'a key that is not text'),
        ('_base_: 5', '_base_ is 5, expected an option file'),
        ('_base_: [5]', '_base_ is [5], expected'),
        ('_base_: {a: b}', "_base_ is {'a': 'b'}, expected"),
        ('a: "\x00"', 'not YAML'),
        ('_base_: absent.yml', 'absent.yml'),
        ('_base_: code.py', 'found .py'),
        ('_base_: a.yml', 'inherits from itself'),
    ],
)
def test_a_file_without_options_is_named(write, text, words):
    path = write('a.yml', text)
    write('code.py', 'raise SystemExit')
    with pytest.raises(UserError) as caught:
        reading.load(path)
    assert words in str(caught.value)
    assert path in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match='nowhere.yml: No such file'):
        reading.load('nowhere.yml')


def test_an_error_in_an_inherited_file_names_that_file(write):
    base = write('base.yml', 'a: [')
    with pytest.raises(UserError) as caught:
        reading.load(write('top.yml', '_base_: base.yml'))
    assert str(caught.value).startswith(base)


def test_bases_that_cannot_be_merged_are_an_error(write):
    write('base.yml', 'a: 1')
    with pytest.raises(UserError, match='top.yml'):
        reading.load(write('top.yml', '_base_: base.yml\na: {b: 1}'))


def test_basicsr_reads_what_was_resolved():
    patches.apply()
    from basicsr.utils.options import ordered_yaml

    resolved = {
        'name': 'ümlaut',
        'lr': 1e-7,
        'text': '1e-3',
        'none': None,
        'sizes': [256, 512],
        'nested': [{'type': 'L1Loss'}, [1, 2]],
        'no': 'no',
        'empty': {},
    }
    text = plain_yaml.dump(resolved)
    assert 'sizes: [256, 512]' in text
    assert yaml.load(text, ordered_yaml()[0]) == yaml.load(text, plain_yaml.Loader) == resolved


def test_torchrun_is_recognized_by_its_environment(monkeypatch):
    for name in reading.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert reading.launcher() == 'none'
    for name in reading.LAUNCHED:
        monkeypatch.setenv(name, '0')
    assert reading.launcher() == 'pytorch'
    assert reading.launcher('slurm') == 'slurm'


EXPLOSIONS = {
    'lists': 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n'
    + '\n'.join(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 10)}]' for n in range(1, 10)),
    'sections': 'a0: &a0 {x: 1}\n' + '\n'.join(f'a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}' for n in range(1, 40)),
    'merged sections': 'a0: &a0 {x: 1}\n'
    + '\n'.join(f'a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}' for n in range(1, 40)),
}


@pytest.mark.parametrize('text', EXPLOSIONS.values(), ids=EXPLOSIONS)
def test_content_multiplied_by_aliases_is_refused(write, text):
    with pytest.raises(UserError, match='more than 100,000 keys and values'):
        reading.load(write('a.yml', text))
    with pytest.raises(UserError, match='a.yml, line'):
        reading.load(write('top.yml', '_base_: a.yml'))


def test_aliases_within_the_limits_are_read(write):
    text = 'a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}'
    assert reading.load(write('a.yml', text), ['b:x=4']) == {
        'a': {'x': 1, 'y': [2]},
        'b': {'x': 4, 'y': [2]},
        'c': {'x': 3, 'y': [2]},
    }


def test_too_many_inherited_files_are_refused(write):
    write('0.yml', '{}')
    for number in range(1, 40):
        write(f'{number}.yml', f'_base_: [{number - 1}.yml, {number - 1}.yml]')
    with pytest.raises(UserError, match='39.yml inherits from more than 100 files'):
        reading.load(write('39.yml', '_base_: [38.yml, 38.yml]'))


def test_two_bases_with_the_same_key_are_refused(write):
    write('a.yml', 'x: 1')
    write('b.yml', 'x: 2')
    with pytest.raises(UserError, match='top.yml: two of the files in _base_ have the key x'):
        reading.load(write('top.yml', '_base_: [a.yml, b.yml]'))


def test_a_section_cannot_replace_an_inherited_value(write):
    write('base.yml', 'logger: {wandb: ~}')
    assert reading.load(write('top.yml', '_base_: base.yml\nlogger: {wandb: {project: x}}')) == {
        'logger': {'wandb': {'project': 'x'}}
    }


def test_delete_is_removed_if_nothing_is_inherited(write):
    write('base.yml', 'a: 1')
    assert reading.load(write('top.yml', '_base_: base.yml\nb: {_delete_: true, c: 2}')) == {'a': 1, 'b': {'c': 2}}


def test_keys_are_text_and_numbers_can_be_read_as_text(write):
    path = write('a.yml', '1: 001\non: 1_0\n2024-01-01: {x: 1e3, y: [2.50, true, ~]}')
    assert reading.load(path) == {'1': '001', 'on': 10, '2024-01-01': {'x': 1000.0, 'y': [2.5, True, None]}}
    assert reading.load(path, ['z=0.10'], plain_yaml.TextLoader) == {
        '1': '001',
        'on': '1_0',
        '2024-01-01': {'x': '1e3', 'y': ['2.50', True, None]},
        'z': '0.10',
    }


def test_byte_order_mark_is_skipped(write):
    assert reading.load(write('a.yml', '\ufeffa: 1')) == {'a': 1}


@pytest.mark.posix
def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe.yml')
    (tmp_path / 'folder.yml').mkdir()
    (tmp_path / 'zero.yml').symlink_to('/dev/zero')
    (tmp_path / 'large.yml').write_bytes(b' ' * 2_000_000)
    (tmp_path / 'base.yml').write_text('_base_: pipe.yml')
    for name, words in {
        'pipe': 'a named pipe',
        'folder': 'a folder',
        'zero': 'a device',
        'large': '2,000,000 bytes',
        'base': 'a named pipe',
    }.items():
        with pytest.raises(UserError, match=words):
            reading.load(str(tmp_path / f'{name}.yml'))
