from pathlib import Path

import pytest

from deeprftv2_plugin.data.layouts.known import LAYOUTS, recognise
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import ARCHIVES, REALBLUR_J, REALBLUR_R, unpack, write_list


@pytest.fixture
def touch(tmp_path):
    """Makes empty files and returns the folder around them."""

    def touch(*names, root='set'):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).touch()
        return tmp_path / root

    return touch


def summary(root, split):
    """Name, blurry and sharp picture of each pair, relative to the root."""
    pairs = recognise(root).pairs(split)
    return [(pair.name, *(str(Path(image.path).relative_to(root)) for image in (pair.lq, pair.gt))) for pair in pairs]


EXPECTED = [
    (
        ('GOPRO_Large', '.', 'GoPro', 'train', 4),
        ('GOPR0374_11_00_000047', 'train/GOPR0374_11_00/blur/000047.png', 'train/GOPR0374_11_00/sharp/000047.png'),
    ),
    (
        ('GOPRO_Large', '.', 'GoPro', 'test', 2),
        ('GOPR0384_11_00_000048', 'test/GOPR0384_11_00/blur/000048.png', 'test/GOPR0384_11_00/sharp/000048.png'),
    ),
    (
        ('HIDE_dataset', '.', 'HIDE', 'train', 2),
        ('100fromGOPR1033-MP4', 'train/100fromGOPR1033.MP4.png', 'GT/100fromGOPR1033.MP4.png'),
    ),
    (
        ('HIDE_dataset', '.', 'HIDE', 'test', 2),
        ('test-long-shot_98fromGOPR0950', 'test/test-long-shot/98fromGOPR0950.png', 'GT/98fromGOPR0950.png'),
    ),
    (
        ('REDS', '.', 'REDS', 'train', 4),
        ('001_00000008', 'train/train_blur/001/00000008.png', 'train/train_sharp/001/00000008.png'),
    ),
    (
        ('REDS', '.', 'REDS', 'train_jpeg', 4),
        ('001_00000008', 'train/train_blur_jpeg/001/00000008.jpg', 'train/train_sharp/001/00000008.png'),
    ),
    (
        ('REDS', '.', 'REDS', 'val_300', 2),
        ('001_00000009', 'val/val_blur/001/00000009.png', 'val/val_sharp/001/00000009.png'),
    ),
    (
        ('REDS', '.', 'REDS', 'val_300_jpeg', 2),
        ('000_00000009', 'val/val_blur_jpeg/000/00000009.jpg', 'val/val_sharp/000/00000009.png'),
    ),
    (
        ('dd_dp_dataset_canon', '.', 'DPDD', 'val', 2),
        ('1P0A0939', 'val_c/source/1P0A0939.png', 'val_c/target/1P0A0938.png'),
    ),
    (
        ('RealBlur', REALBLUR_J, 'RealBlur-J', 'train', 2),
        ('RealBlur-J_scene001_1', 'scene001/blur/blur_1.png', 'scene001/gt/gt_1.png'),
    ),
    (
        ('RealBlur', REALBLUR_R, 'RealBlur-R', 'test', 2),
        ('RealBlur-R_scene050_2', 'scene050/blur/blur_2.png', 'scene050/gt/gt_2.png'),
    ),
]


@pytest.mark.parametrize(('given', 'expected'), EXPECTED, ids=lambda value: '-'.join(map(str, value[:1] + value[2:4])))
def test_archives_are_recognised_and_paired(tmp_path, given, expected):
    archive, place, name, split, count = given
    root = unpack(archive, tmp_path) / place
    layout, pairs = recognise(root), summary(root, split)
    assert layout.name == name and split in layout.splits
    assert expected in pairs and len({pair[0] for pair in pairs}) == len(pairs) == count


@pytest.mark.parametrize('archive', ['GOPRO_Large', 'HIDE_dataset', 'REDS', 'dd_dp_dataset_canon'])
def test_the_folder_around_an_archive_and_a_link_to_it_will_do(tmp_path, archive):
    inner = unpack(archive, tmp_path / 'download' / archive)
    (tmp_path / 'datasets').mkdir()
    (tmp_path / 'datasets/link').symlink_to(inner)
    expected = recognise(inner)
    around, linked = recognise(tmp_path / 'download'), recognise(str(tmp_path / 'datasets/link'))
    assert around.root == inner and around.name == linked.name == expected.name
    assert around.splits == linked.splits == expected.splits
    for split in expected.splits:
        names = [pair.name for pair in expected.pairs(split)]
        assert names == [pair.name for pair in linked.pairs(split)] == sorted(names)


def test_files_of_a_pair_belong_together_by_what_is_in_them(tmp_path):
    root = tmp_path / 'GoPro'
    for name in ARCHIVES['GOPRO_Large']:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for split in ('train', 'test'):
        for pair in recognise(root).pairs(split):
            blurry, sharp = (Path(image.path).read_text() for image in (pair.lq, pair.gt))
            assert blurry.replace('/blur/', '/sharp/') == sharp and sharp.startswith(f'{split}/')


@pytest.mark.parametrize('names', [('blur', 'sharp'), ('input', 'target'), ('lq', 'gt'), ('source', 'target')])
def test_folders_of_pairs(touch, names):
    root = touch(*(f'{split}/{name}/a b.1.png' for split in ('train', 'test') for name in names))
    layout = recognise(root)
    assert (layout.name, layout.splits, layout.default_split('test')) == ('pairs', ('train', 'test'), 'test')
    assert summary(root, 'test') == [('a-b-1', *(f'test/{name}/a b.1.png' for name in names))]
    undivided = recognise(root / 'train')
    assert (undivided.name, undivided.splits, undivided.default_split('val')) == ('pairs', ('all',), 'all')


@pytest.mark.parametrize('names', [('blur', 'sharp'), ('input', 'target')])
def test_flat_gopro_is_known_by_its_frames(touch, names):
    frames = 'GOPR0384_11_00-000001', 'GOPR0385_11_01-000001'
    root = touch(*(f'test/{name}/{frame}.png' for frame in frames for name in names))
    assert recognise(root).name == 'GoPro-flat'
    assert [pair.name for pair in recognise(root).pairs('test')] == list(frames)


@pytest.mark.parametrize('place', ['beside', 'inside'])
@pytest.mark.parametrize('folder', [REALBLUR_J, 'RealBlur-J', 'realblur_j'])
def test_realblur_finds_its_lists_even_when_renamed(touch, place, folder):
    pictures = [f'{kind}/{kind}_{number}.png' for kind in ('gt', 'blur') for number in (1, 2)]
    root = touch(*(f'scene007/{picture}' for picture in pictures), root=f'download/{folder}')
    write_list(
        (root if place == 'inside' else root.parent) / 'RealBlur_J_test_list.txt', f'{REALBLUR_J}/scene007', (2, 1)
    )
    assert recognise(root).splits == ('test',)
    assert summary(root, 'test') == [
        (f'RealBlur-J_scene007_{number}', f'scene007/blur/blur_{number}.png', f'scene007/gt/gt_{number}.png')
        for number in (1, 2)
    ]
    assert [pair.name for pair in recognise(root.parent).pairs('test')] == [
        'RealBlur-J_scene007_1',
        'RealBlur-J_scene007_2',
    ]


def test_rsblur_pairs_by_lists_whatever_the_names_below(touch):
    root = touch('0001/000006/gt/gt_sharp.png', '0001/000006/real_blur/real_blur.png', root='RSBlur')
    line = 'RSBlur/0001/000006/gt/gt_sharp.png RSBlur/0001/000006/real_blur/real_blur.png 1.0\n'
    (root.parent / 'RSBlur_train_list.txt').write_text(line)
    assert recognise(root).name == 'RSBlur'
    expected = 'RSBlur_0001_000006', '0001/000006/real_blur/real_blur.png', '0001/000006/gt/gt_sharp.png'
    assert summary(root, 'train') == [expected]
    (root / 'RSBlur_syn_train_list.txt').write_text(line)
    with pytest.raises(
        UserError, match=r'RSBlur_syn_train_list\.txt and .*RSBlur_train_list\.txt are lists of the same'
    ):
        recognise(root).pairs('train')


def test_layouts_are_listed_with_a_description():
    assert len({known.name for known in LAYOUTS}) == len(LAYOUTS) and all(known.description for known in LAYOUTS)


def test_both_sets_of_realblur_are_named_so_that_one_can_be(tmp_path):
    root = unpack('RealBlur', tmp_path / 'RealBlur')
    with pytest.raises(UserError, match=rf'several data sets: .*{REALBLUR_J} \(RealBlur-J\), .*\(RealBlur-R\)\. Name'):
        recognise(root)


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ([], r'set is laid out like no data set that is known here\. It holds nothing\. Known are\n +GoPro '),
        (['photos/1.png', 'photos/2.png', 'notes.txt'], r'It holds notes\.txt, photos\. Known'),
        ([f'{name}/1.png' for name in 'abcdefgh'], r'It holds a, b, c, d, e, f, \.\.\.\. Known'),
        (
            ['GoPro/train/s/blur/1.png', 'GoPro/train/s/sharp/1.png', 'x/lq/1.png', 'x/gt/1.png'],
            r'several data sets: .*GoPro',
        ),
    ],
)
def test_trees_that_are_none(touch, tmp_path, files, message):
    touch(*files)
    (tmp_path / 'set').mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        recognise(tmp_path / 'set')


def test_roots_that_are_none(touch, tmp_path):
    with pytest.raises(UserError, match='the data set .*gone does not exist'):
        recognise(tmp_path / 'gone')
    with pytest.raises(UserError, match=r'the data set .*a\.png is no folder'):
        recognise(touch('a.png') / 'a.png')


GOPRO = 'train/s/blur/1.png', 'train/s/sharp/1.png'
SCENE = 'scene001/gt/gt_1.png', 'scene001/blur/blur_1.png'


@pytest.mark.parametrize(
    ('files', 'split', 'message'),
    [
        (GOPRO, 'test', r"set, laid out like GoPro, has no split 'test': it has train$"),
        ((*GOPRO, 'train/s/blur/2.png'), 'train', r'1 of 2 pictures have no partner in .*sharp: .*s/blur/2\.png'),
        ((*GOPRO, 'train/s/sharp/2.png'), 'train', r'1 of 2 pictures have no partner in .*blur: .*s/sharp/2\.png'),
        (('train/blur/1.txt', 'train/sharp/1.txt'), 'train', r'no pictures in .*train/blur'),
        (
            ('train/blur/a.1.png', 'train/blur/a-1.png', 'train/sharp/a.1.png', 'train/sharp/a-1.png'),
            'train',
            r'a-1: rename one',
        ),
        (
            ('test/test-close-ups/a.png', 'test/test-long-shot/b.png', 'GT/a.png'),
            'test',
            r'1 of 2 .* in .*GT: .*shot/b\.png',
        ),
        (('train/a.txt', 'GT/a.png'), 'train', r'no pictures in .*train'),
        (('train/a.png', 'GT/1/a.png', 'GT/2/a.png'), 'train', r'1/a\.png and 2/a\.png in .*GT have one name'),
        (('val/val_blur/000/1.png', 'val/val_sharp/000/2.png'), 'val', r'no partner in .*val_sharp: .*000/1\.png'),
        (('val/val_blur/000/1.png',), 'val', r'val_sharp does not exist'),
        (('val/val_blur/000/1.png', 'val/val_sharp/000/1.png'), 'val_300', r'none of the 1 frames .* ends in 9'),
        (
            ('val_c/source/2.png', 'val_c/source/4.png', 'val_c/target/1.png'),
            'val',
            r'source holds 2 \(2\.png to 4\.png\) but .*target holds 1 \(1\.png to 1\.png\)',
        ),
        (('val_c/source/a.txt',), 'val', r'source holds 0 but .*target holds 0'),
    ],
)
def test_splits_that_do_not_pair(touch, files, split, message):
    root = touch(*files)
    with pytest.raises(UserError, match=message):
        recognise(root).pairs(split)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, r'RealBlur-J pairs by lists, but RealBlur_J_train_list\.txt lies neither in .* nor beside it'),
        ('\n', r'RealBlur_J_train_list\.txt is empty'),
        (
            'RealBlur-J/s/gt/gt_1.png RealBlur-J/s/blur/blur_1.png',
            r's/gt/gt_1\.png, which .*list\.txt names, is neither',
        ),
        (
            f'RealBlur-J/{SCENE[0]} RealBlur-J/{SCENE[1]}\nRealBlur-J/{SCENE[0]} RealBlur-J/scene001/blur/blur_2.png',
            r'blur_2\.png, which .*RealBlur_J_train_list\.txt names, does not exist',
        ),
        (f'RealBlur-J/{SCENE[0]}', r'list\.txt names RealBlur-J/scene001/gt/gt_1\.png alone in its line'),
        (f'RealBlur-J/{SCENE[0]} RealBlur-J/{SCENE[1]}\n' * 2, r'would both be saved as RealBlur-J_scene001_1'),
    ],
)
def test_lists_that_do_not_fit(touch, text, message):
    root = touch(*SCENE, root='RealBlur-J')
    if text is not None:
        (root / 'RealBlur_J_train_list.txt').write_text(text)
    with pytest.raises(UserError, match=message):
        recognise(root).pairs('train')
