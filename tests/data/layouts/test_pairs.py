import os

import pytest

from deeprftv2_plugin.data.layouts.pairs import find_images, find_pairs
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture
def touch(tmp_path):
    """Return a function that creates empty files and returns the path of their root."""

    def touch(root, *names):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).touch()
        return str(tmp_path / root)

    return touch


def summary(pairs, tmp_path):
    def short(image):
        return image and image.path.removeprefix(f'{tmp_path}/')

    return [(pair.name, short(pair.lq), short(pair.gt)) for pair in pairs]


def test_folders_are_paired_by_path_without_suffix(touch, tmp_path):
    lq = touch('val_blur_jpeg', '001/0.jpg', '000/0.jpg', '000/1.jpg')
    gt = touch('val_sharp', '000/0.png', '000/1.png', '001/0.png')
    assert summary(find_pairs(lq, gt), tmp_path) == [
        ('000_0.jpg', 'val_blur_jpeg/000/0.jpg', 'val_sharp/000/0.png'),
        ('000_1.jpg', 'val_blur_jpeg/000/1.jpg', 'val_sharp/000/1.png'),
        ('001_0.jpg', 'val_blur_jpeg/001/0.jpg', 'val_sharp/001/0.png'),
    ]


def test_pattern_separates_frames_of_different_sequences(touch, tmp_path):
    kinds = ('blur', 'blur_gamma', 'sharp')
    root = touch('train', *(f'GOPR0{i}_11_00/{kind}/000047.png' for i in (1, 2) for kind in kinds))
    pairs = find_pairs(f'{root}/*/blur', f'{root}/*/sharp/')
    assert summary(pairs, tmp_path) == [
        (
            f'GOPR0{i}_11_00_000047.png',
            f'train/GOPR0{i}_11_00/blur/000047.png',
            f'train/GOPR0{i}_11_00/sharp/000047.png',
        )
        for i in (1, 2)
    ]


def test_pattern_matches_files(touch, tmp_path):
    root = touch('set [1]', 'a_blur.png', 'a_sharp.png', 'b_blur.png', 'b_sharp.png', 'c_blur.txt')
    pairs = find_pairs(f'{root}/*_blur.*', f'{root}/*_sharp.*')
    assert summary(pairs, tmp_path) == [
        (f'{name}_png.png', f'set [1]/{name}_blur.png', f'set [1]/{name}_sharp.png') for name in 'ab'
    ]


def test_list_of_sharp_and_blurry_images(touch, tmp_path):
    folders = 'RealBlur/scene050', 'RealBlur/scene007'
    lines = [f'{folder}/gt/gt_1.png {folder}/blur/blur_1.png' for folder in folders]
    root = touch('.', *' '.join(lines).split())
    (tmp_path / 'list.txt').write_text('\n\n'.join(lines) + ' \n')
    pairs = find_pairs(root, root, str(tmp_path / 'list.txt'))
    assert summary(pairs, tmp_path) == [
        (
            f'scene{scene}_blur_blur_1.png',
            f'RealBlur/scene{scene}/blur/blur_1.png',
            f'RealBlur/scene{scene}/gt/gt_1.png',
        )
        for scene in ('007', '050')
    ]


def test_basicsr_list_with_shapes(touch, tmp_path):
    lq, gt = touch('lq', '0001.png'), touch('gt', '0001.png')
    (tmp_path / 'list.txt').write_text('0001.png (480,480,3)\n')
    assert summary(find_pairs(lq, gt, str(tmp_path / 'list.txt')), tmp_path) == [
        ('0001.png', 'lq/0001.png', 'gt/0001.png')
    ]


def test_databases_are_paired_by_key(write_lmdb, tmp_path):
    for name in ('blur.lmdb', 'sharp.lmdb'):
        write_lmdb(name, ['b_2', 'a_1'])
    pairs = find_pairs(f'{tmp_path}/blur.lmdb', f'{tmp_path}/sharp.lmdb')
    assert [(pair.name, pair.lq.path, pair.gt.path) for pair in pairs] == [('a_1',) * 3, ('b_2',) * 3]
    assert pairs[0].lq.database == f'{tmp_path}/blur.lmdb'


def test_sharp_images_are_optional(touch, tmp_path):
    root = touch('lq', 'a.png', 'b/c.png')
    expected = [('a.png', 'lq/a.png', None), ('b_c.png', 'lq/b/c.png', None)]
    assert summary(find_pairs(root), tmp_path) == expected
    assert list(find_images(root)) == ['a.png', 'b_c.png']
    (tmp_path / 'list.txt').write_text('sharp/a.png a.png')
    assert summary(find_pairs(root, None, f'{tmp_path}/list.txt'), tmp_path) == expected[:1]


def test_tilde_is_the_home_folder(touch, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    touch('lq', 'a.png')
    assert len(find_pairs('~/lq', '~/lq')) == 1


@pytest.mark.parametrize(
    ('lq', 'gt', 'message'),
    [
        (['a.png', 'b.png'], ['a.png'], r'1 of 2 images have no partner in .*/gt: .*/lq/b\.png$'),
        (['a.png'], [f'{name}.png' for name in 'abcde'], r'4 of 5 .*/lq: .*b\.png, .*c\.png, .*d\.png, \.\.\.'),
        (['a.png'], ['a.txt'], r'no images in .*/gt'),
        (['a.png', 'a.jpg'], ['a.png'], r'lq/a\.jpg and .*lq/a\.png differ only in their suffix'),
        (['a_b/c.png', 'a/b_c.png'], ['a_b/c.png', 'a/b_c.png'], r'would both be saved as a_b_c\.png'),
    ],
)
def test_unmatched_folders(touch, lq, gt, message):
    lq, gt = touch('lq', *lq), touch('gt', *gt)
    with pytest.raises(UserError, match=message):
        find_pairs(lq, gt)


def test_missing_roots(touch, tmp_path):
    with pytest.raises(UserError, match=r'gone does not exist'):
        find_pairs(f'{tmp_path}/gone')
    with pytest.raises(UserError, match=r'1\.png is not a folder'):
        find_pairs(touch('.', '1.png') + '/1.png')
    with pytest.raises(UserError, match=r'nothing matches .*\*/blur'):
        find_pairs(f'{tmp_path}/*/blur')


def test_unmatched_databases(write_lmdb, tmp_path):
    write_lmdb('blur.lmdb', ['a', 'b'])
    write_lmdb('sharp.lmdb', ['a'])
    with pytest.raises(UserError, match=r'1 of 2 .* in .*sharp\.lmdb: b in .*blur\.lmdb'):
        find_pairs(f'{tmp_path}/blur.lmdb', f'{tmp_path}/sharp.lmdb')


@pytest.mark.parametrize(
    ('root', 'text', 'message'),
    [
        ('lq', 'gone.png', r'lq/gone\.png, listed in .*list\.txt, does not exist'),
        ('lq', '\n', r'list\.txt is empty'),
        ('lq', None, r'cannot read the list of pairs .*list\.txt: No such file'),
        ('blur.lmdb', 'a.png', r'needs a plain folder as root, got .*blur\.lmdb'),
        ('*/lq', 'a.png', r'needs a plain folder as root, got .*\*/lq'),
    ],
)
def test_invalid_lists(touch, tmp_path, root, text, message):
    touch('lq', 'a.png')
    if text is not None:
        (tmp_path / 'list.txt').write_text(text)
    with pytest.raises(UserError, match=message):
        find_pairs(f'{tmp_path}/{root}', f'{tmp_path}/{root}', f'{tmp_path}/list.txt')


def test_names_in_lists_may_contain_spaces(touch, tmp_path):
    root = touch('.', 'my sharp/a 1.PNG', 'my blur/a 1.jpg', 'b.png')
    (tmp_path / 'list.txt').write_bytes(
        b'\xef\xbb\xbfmy sharp/a 1.PNG\tmy blur/a 1.jpg more\r\n  b.png (480,480,3) 1\r\n'
    )
    assert summary(find_pairs(root, root, f'{tmp_path}/list.txt'), tmp_path) == [
        ('b.png', 'b.png', 'b.png'),
        ('my blur_a 1.jpg', 'my blur/a 1.jpg', 'my sharp/a 1.PNG'),
    ]


def test_line_without_an_image_is_an_error(touch, tmp_path):
    (tmp_path / 'list.txt').write_text('a.png\na,b\n')
    with pytest.raises(UserError, match=r"list\.txt has the line 'a,b', expected the names .* end in \.png, \.jpg"):
        find_pairs(touch('lq', 'a.png'), None, f'{tmp_path}/list.txt')


@pytest.mark.posix
def test_list_must_be_a_regular_file(touch, tmp_path):
    os.mkfifo(tmp_path / 'list.txt')
    with pytest.raises(UserError, match=r'list\.txt is a named pipe, expected a regular file'):
        find_pairs(touch('lq', 'a.png'), None, f'{tmp_path}/list.txt')
