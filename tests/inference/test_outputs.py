"""Input and output files of a command."""

import os
from pathlib import Path

import pytest

from deeprftv2_plugin.inference.outputs import plan, select
from deeprftv2_plugin.utils.errors import DataWarning, UserError

pytestmark = pytest.mark.filterwarnings('error::deeprftv2_plugin.utils.errors.DataWarning')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def planned(*inputs, output='out'):
    return {str(job.source): str(job.target) for job in plan(inputs, output)}


def test_results_keep_the_paths_relative_to_the_inputs():
    make('a.jpg', 'photos/b.PNG', 'photos/2024/may/c.tif', 'photos/notes.txt', 'photos/.hidden.jpg')
    assert planned('a.jpg', 'photos') == {
        'a.jpg': 'out/a.jpg',
        'photos/b.PNG': 'out/b.PNG',
        'photos/2024/may/c.tif': 'out/2024/may/c.tif',
    }


def test_a_single_file_can_be_written_to_a_file_or_into_a_folder():
    make('a.jpg')
    assert planned('a.jpg', output='new/b.png') == {'a.jpg': 'new/b.png'}
    assert planned('a.jpg', output='new') == {'a.jpg': 'new/a.jpg'}
    assert planned('a.jpg', output='b.png/') == {'a.jpg': 'b.png/a.jpg'}
    os.mkdir('c.png')
    assert planned('a.jpg', output='c.png') == {'a.jpg': 'c.png/a.jpg'}
    assert planned('a.jpg', output='version.2') == {'a.jpg': 'version.2/a.jpg'}


def test_same_names_from_different_folders_keep_their_folders():
    make('one/a.jpg', 'one/sub/b.jpg', 'two/a.jpg')
    assert planned('one', 'two') == {
        'one/a.jpg': 'out/one/a.jpg',
        'one/sub/b.jpg': 'out/one/sub/b.jpg',
        'two/a.jpg': 'out/two/a.jpg',
    }
    assert planned('one/a.jpg', 'two/a.jpg') == {'one/a.jpg': 'out/one/a.jpg', 'two/a.jpg': 'out/two/a.jpg'}


def test_patterns_are_expanded():
    make('x/a.jpg', 'x/b.jpg', 'x/c.png', 'y/a.jpg', 'x/[1].jpg')
    assert planned('x/*.jpg') == {f'x/{name}.jpg': f'out/{name}.jpg' for name in ('a', 'b', '[1]')}
    assert planned('**/a.jpg') == {'x/a.jpg': 'out/x/a.jpg', 'y/a.jpg': 'out/y/a.jpg'}
    assert planned('x/[1].jpg') == {'x/[1].jpg': 'out/[1].jpg'}  # a file of that name comes first


def test_a_file_that_is_given_twice_is_restored_once():
    make('photos/a.jpg')
    assert planned('photos', 'photos/a.jpg', './photos/../photos') == {'photos/a.jpg': 'out/a.jpg'}


def test_results_of_earlier_runs_are_not_inputs():
    make('photos/a.jpg', 'photos/out/a.jpg', 'photos/output/b.jpg')
    assert planned('photos', output='photos/out') == {
        'photos/a.jpg': 'photos/out/a.jpg',
        'photos/output/b.jpg': 'photos/out/output/b.jpg',
    }
    assert planned('photos', output='photos')['photos/a.jpg'] == 'photos/a.jpg'


@pytest.mark.parametrize('pattern', ['photos/**/*.jpg', 'photos/*', 'photos/**'])
def test_results_of_earlier_runs_do_not_match_patterns(pattern):
    make('photos/a.jpg', 'photos/2024/b.jpg')
    first = planned(pattern, output='photos/out')
    assert first == {'photos/a.jpg': 'photos/out/a.jpg', 'photos/2024/b.jpg': 'photos/out/2024/b.jpg'}
    make(*first.values())
    assert planned(pattern, output='photos/out') == first
    assert planned('photos/out/a.jpg', output='photos/out') == {'photos/out/a.jpg': 'photos/out/a.jpg'}


def test_the_layout_does_not_depend_on_how_many_images_match():
    make('photos/2023/a.jpg', 'photos/2024/b.jpg')
    before = planned('photos/*/*.jpg')
    assert before == {'photos/2023/a.jpg': 'out/2023/a.jpg', 'photos/2024/b.jpg': 'out/2024/b.jpg'}
    make('photos/2024/a.jpg')
    assert before.items() < planned('photos/*/*.jpg').items()


def test_results_of_a_pattern_are_never_written_outside_of_the_folder():
    make('photos/2024/a.jpg')
    assert planned('photos/*/../../photos/2024/a.jpg') == {'photos/2024/../../photos/2024/a.jpg': 'out/a.jpg'}


def test_results_may_be_written_above_the_images():
    make('photos/a.jpg')
    assert planned('photos', output='.') == {'photos/a.jpg': 'a.jpg'}


@pytest.mark.parametrize(
    ('inputs', 'output'), [(['x/*.jpg', 'y/*.jpg'], '.'), (['x/a.jpg'], 'x'), (['x/a.jpg'], 'y/../x/a.jpg')]
)
def test_images_are_only_replaced_on_request(inputs, output):
    make('x/a.jpg', 'y/a.jpg')
    jobs = plan(inputs, output)
    for skip_existing in (False, True):
        with pytest.raises(UserError, match=r'x/a\.jpg is one of the images: use another folder'):
            select(jobs, overwrite=False, skip_existing=skip_existing)
    assert select(jobs, overwrite=True, skip_existing=False) == jobs


def test_formats_that_are_only_read_are_written_as_png():
    names = ('a.gif', 'b.psd', 'c.pfm', 'd.mpo')
    make(*(f'photos/{name}' for name in names))
    assert planned('photos') == {f'photos/{name}': f'out/{name}.png' for name in names}
    make('photos/a.gif.png')
    with pytest.raises(UserError, match=r'a\.gif and .*a\.gif\.png would both be written to out/a\.gif\.png'):
        plan(['photos'], 'out')


@pytest.mark.posix
def test_links_that_lead_to_themselves_are_followed_once():
    make('photos/a.jpg')
    os.symlink('.', 'photos/again')
    os.symlink('self.png', 'photos/self.png')
    with pytest.warns(DataWarning, match='skipped links to folders that are searched anyway: again'):
        found = planned('photos')
    assert found == {'photos/a.jpg': 'out/a.jpg', 'photos/self.png': 'out/self.png'}


@pytest.mark.posix
def test_folders_and_pipes_with_names_of_images_are_skipped():
    make('photos/a.jpg')
    os.mkdir('photos/b.png')
    os.mkfifo('photos/c.png')
    with pytest.warns(DataWarning) as caught:
        assert planned('photos') == {'photos/a.jpg': 'out/a.jpg'}
    text = ' '.join(str(each.message) for each in caught)
    assert 'folders with names of images: b.png' in text and 'pipes, sockets or devices' in text


@pytest.mark.parametrize(
    'inputs, output, message',
    [
        (['missing.jpg'], 'out', 'missing.jpg does not exist'),
        (['photos/*.webp'], 'out', r'photos/\*.webp matches nothing'),
        (['empty'], 'out', 'no images in empty'),
        (['photos'], 'out.jpg', '-o out.jpg is the name of an image, but there are several images or a folder'),
        (['a.jpg', 'photos'], 'out.png', '-o out.png is the name of an image'),
        (['a.jpg'], 'out.gif', 'out.gif: cannot write this format: use a name that ends in .png'),
        (['a.jpg'], 'out.jxl', 'out.jxl: cannot write this format: use a name that ends in .png'),
    ],
)
def test_unsuitable_arguments_are_errors(inputs, output, message):
    make('a.jpg', 'photos/b.jpg', 'empty/notes.txt')
    with pytest.raises(UserError, match=message):
        plan(inputs, output)


def test_existing_results_are_skipped_or_replaced_on_request():
    make('photos/a.jpg', 'photos/b.jpg', 'out/b.jpg')
    jobs = plan(['photos'], 'out')
    with pytest.raises(UserError, match='out/b.jpg exists .1 of 2 results do.: use --skip-existing'):
        select(jobs, overwrite=False, skip_existing=False)
    assert [job.source.name for job in select(jobs, False, True)] == ['a.jpg']
    assert [job.source.name for job in select(jobs, True, False)] == ['a.jpg', 'b.jpg']


def test_folders_that_cannot_be_created_or_written_to_are_errors_at_the_start():
    make('a.jpg', 'file')
    with pytest.raises(UserError, match='cannot write to the folder file/out'):
        select(plan(['a.jpg'], 'file/out'), False, False)


@pytest.mark.skipif(getattr(os, 'geteuid', lambda: 0)() == 0, reason='root writes anywhere')
def test_folders_without_permission_are_errors():
    make('a.jpg')
    os.mkdir('out', mode=0o555)
    with pytest.raises(
        UserError, match='cannot write to the folder out: Permission denied. Check the path and the perm'
    ):
        select(plan(['a.jpg'], 'out'), False, False)
