from pathlib import Path

import pytest

from deeprftv2_plugin.data.layouts.known import LAYOUTS, recognize
from deeprftv2_plugin.utils.errors import DataWarning, UserError
from tests.data.archives import ARCHIVES, REALBLUR_J, REALBLUR_R, unpack, write_list


@pytest.fixture
def touch(tmp_path):
    """Return a function that creates empty files and returns their root folder."""

    def touch(*names, root='set'):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).touch()
        return tmp_path / root

    return touch


def summary(root, split):
    """Return the name and the relative paths of the blurry and the sharp image of each pair."""
    pairs = recognize(root).pairs(split)
    return [(pair.name, *(str(Path(image.path).relative_to(root)) for image in (pair.lq, pair.gt))) for pair in pairs]


# fmt: off
EXPECTED = [
    (('GOPRO_Large', '.', 'GoPro', 'train', 4),
     ('GOPR0374_11_00_000047', 'train/GOPR0374_11_00/blur/000047.png', 'train/GOPR0374_11_00/sharp/000047.png')),
    (('GOPRO_Large', '.', 'GoPro', 'test', 2),
     ('GOPR0384_11_00_000048', 'test/GOPR0384_11_00/blur/000048.png', 'test/GOPR0384_11_00/sharp/000048.png')),
    (('HIDE_dataset', '.', 'HIDE', 'train', 2),
     ('100fromGOPR1033-MP4', 'train/100fromGOPR1033.MP4.png', 'GT/100fromGOPR1033.MP4.png')),
    (('HIDE_dataset', '.', 'HIDE', 'test', 2),
     ('test-long-shot_98fromGOPR0950', 'test/test-long-shot/98fromGOPR0950.png', 'GT/98fromGOPR0950.png')),
    (('REDS', '.', 'REDS', 'train', 4),
     ('001_00000008', 'train/train_blur/001/00000008.png', 'train/train_sharp/001/00000008.png')),
    (('REDS', '.', 'REDS', 'train_jpeg', 4),
     ('001_00000008', 'train/train_blur_jpeg/001/00000008.jpg', 'train/train_sharp/001/00000008.png')),
    (('REDS', '.', 'REDS', 'val_300', 2),
     ('001_00000009', 'val/val_blur/001/00000009.png', 'val/val_sharp/001/00000009.png')),
    (('REDS', '.', 'REDS', 'val_300_jpeg', 2),
     ('000_00000009', 'val/val_blur_jpeg/000/00000009.jpg', 'val/val_sharp/000/00000009.png')),
    (('dd_dp_dataset_canon', '.', 'DPDD', 'val', 2),
     ('1P0A0939', 'val_c/source/1P0A0939.png', 'val_c/target/1P0A0938.png')),
    (('RealBlur', REALBLUR_J, 'RealBlur-J', 'train', 2),
     ('RealBlur-J_scene001_1', 'scene001/blur/blur_1.png', 'scene001/gt/gt_1.png')),
    (('RealBlur', REALBLUR_R, 'RealBlur-R', 'test', 2),
     ('RealBlur-R_scene050_2', 'scene050/blur/blur_2.png', 'scene050/gt/gt_2.png')),
    (('Koehler', '.', 'Koehler', 'all', 2),
     ('Blurry2_12', 'Blurry2_12.png', 'Image2/Kernel12/GroundTruth2_12_2.png')),
    (('Lai', '.', 'Lai', 'uniform', 4),
     ('text_01_kernel_02', 'synthetic_dataset/uniform/text_01_kernel_02.png',
      'synthetic_dataset/ground_truth/text_01.png')),
    (('Lai', 'synthetic_dataset', 'Lai', 'nonuniform', 2),
     ('natural_01_gyro_02', 'nonuniform/natural_01_gyro_02.png', 'ground_truth/natural_01.png')),
]
# fmt: on


@pytest.mark.parametrize(('given', 'expected'), EXPECTED, ids=lambda value: '-'.join(map(str, value[:1] + value[2:4])))
def test_archives_are_recognized_and_paired(tmp_path, given, expected):
    archive, subfolder, name, split, count = given
    root = unpack(archive, tmp_path) / subfolder
    layout, pairs = recognize(root), summary(root, split)
    assert layout.layout == name and split in layout.splits
    assert expected in pairs and len({pair[0] for pair in pairs}) == len(pairs) == count


@pytest.mark.parametrize('archive', ['GOPRO_Large', 'HIDE_dataset', 'REDS', 'dd_dp_dataset_canon'])
def test_parent_folder_and_link_are_recognized(tmp_path, archive):
    inner = unpack(archive, tmp_path / 'download' / archive)
    (tmp_path / 'datasets').mkdir()
    (tmp_path / 'datasets/link').symlink_to(inner)
    expected = recognize(inner)
    around, linked = recognize(tmp_path / 'download'), recognize(str(tmp_path / 'datasets/link'))
    assert around.root == inner and around.layout == linked.layout == expected.layout
    assert around.splits == linked.splits == expected.splits
    for split in expected.splits:
        names = [pair.name for pair in expected.pairs(split)]
        assert names == [pair.name for pair in linked.pairs(split)] == sorted(names)


def test_pairs_match_by_content(tmp_path):
    root = tmp_path / 'GoPro'
    for name in ARCHIVES['GOPRO_Large']:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for split in ('train', 'test'):
        for pair in recognize(root).pairs(split):
            blurry, sharp = (Path(image.path).read_text() for image in (pair.lq, pair.gt))
            assert blurry.replace('/blur/', '/sharp/') == sharp and sharp.startswith(f'{split}/')


@pytest.mark.parametrize('names', [('blur', 'sharp'), ('input', 'target'), ('lq', 'gt'), ('source', 'target')])
def test_pair_folders(touch, names):
    root = touch(*(f'{split}/{name}/a b.1.png' for split in ('train', 'test') for name in names))
    layout = recognize(root)
    assert (layout.layout, layout.splits, layout.default_split('test')) == ('pairs', ('train', 'test'), 'test')
    assert summary(root, 'test') == [('a-b-1', *(f'test/{name}/a b.1.png' for name in names))]
    undivided = recognize(root / 'train')
    assert (undivided.layout, undivided.splits, undivided.default_split('val')) == ('pairs', ('all',), 'all')


@pytest.mark.parametrize('names', [('blur', 'sharp'), ('input', 'target')])
def test_flat_gopro_is_recognized_by_its_frame_names(touch, names):
    frames = 'GOPR0384_11_00-000001', 'GOPR0385_11_01-000001'
    root = touch(*(f'test/{name}/{frame}.png' for frame in frames for name in names))
    assert recognize(root).layout == 'GoPro-flat'
    assert [pair.name for pair in recognize(root).pairs('test')] == list(frames)


@pytest.mark.parametrize('place', ['beside', 'inside'])
@pytest.mark.parametrize('folder', [REALBLUR_J, 'RealBlur-J', 'realblur_j'])
def test_realblur_finds_its_lists_when_renamed(touch, place, folder):
    images = [f'{kind}/{kind}_{number}.png' for kind in ('gt', 'blur') for number in (1, 2)]
    root = touch(*(f'scene007/{image}' for image in images), root=f'download/{folder}')
    write_list(
        (root if place == 'inside' else root.parent) / 'RealBlur_J_test_list.txt', f'{REALBLUR_J}/scene007', (2, 1)
    )
    assert recognize(root).splits == ('test',)
    assert summary(root, 'test') == [
        (f'RealBlur-J_scene007_{number}', f'scene007/blur/blur_{number}.png', f'scene007/gt/gt_{number}.png')
        for number in (1, 2)
    ]
    assert [pair.name for pair in recognize(root.parent).pairs('test')] == [
        'RealBlur-J_scene007_1',
        'RealBlur-J_scene007_2',
    ]


def test_rsblur_is_paired_by_lists(touch):
    root = touch('0001/000006/gt/gt_sharp.png', '0001/000006/real_blur/real_blur.png', root='RSBlur')
    line = 'RSBlur/0001/000006/gt/gt_sharp.png RSBlur/0001/000006/real_blur/real_blur.png 1.0\n'
    (root.parent / 'RSBlur_train_list.txt').write_text(line)
    assert recognize(root).layout == 'RSBlur'
    expected = 'RSBlur_0001_000006', '0001/000006/real_blur/real_blur.png', '0001/000006/gt/gt_sharp.png'
    assert summary(root, 'train') == [expected]
    (root / 'RSBlur_syn_train_list.txt').write_text(line)
    with pytest.raises(
        UserError, match=r'RSBlur_syn_train_list\.txt and .*RSBlur_train_list\.txt are lists of the same'
    ):
        recognize(root).pairs('train')


def test_layouts_have_unique_names_and_descriptions():
    assert len({known.name for known in LAYOUTS}) == len(LAYOUTS) and all(known.description for known in LAYOUTS)


def test_error_names_both_realblur_datasets(tmp_path):
    root = unpack('RealBlur', tmp_path / 'RealBlur')
    with pytest.raises(UserError, match=rf'several datasets: .*{REALBLUR_J} \(RealBlur-J\), .*\(RealBlur-R\)\. Choose'):
        recognize(root)


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ([], r'set has no known dataset layout\. It contains nothing\. Known layouts:\n +GoPro '),
        (['photos/1.png', 'photos/2.png', 'notes.txt'], r'It contains notes\.txt, photos\. Known'),
        ([f'{name}/1.png' for name in 'abcdefgh'], r'It contains a, b, c, d, e, f, \.\.\.\. Known'),
        (
            ['GoPro/train/s/blur/1.png', 'GoPro/train/s/sharp/1.png', 'x/lq/1.png', 'x/gt/1.png'],
            r'several datasets: .*GoPro',
        ),
    ],
)
def test_unknown_layouts(touch, tmp_path, files, message):
    touch(*files)
    (tmp_path / 'set').mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        recognize(tmp_path / 'set')


def test_invalid_roots(touch, tmp_path):
    with pytest.raises(UserError, match='the dataset x+ does not exist'):
        recognize('x' * 300)
    with pytest.raises(UserError, match='the dataset .*gone does not exist'):
        recognize(tmp_path / 'gone')
    with pytest.raises(UserError, match=r'the dataset .*a\.png is not a folder'):
        recognize(touch('a.png') / 'a.png')


GOPRO = 'train/s/blur/1.png', 'train/s/sharp/1.png'
SCENE = 'scene001/gt/gt_1.png', 'scene001/blur/blur_1.png'


@pytest.mark.parametrize(
    ('files', 'split', 'message'),
    [
        (GOPRO, 'test', r"set, recognized as GoPro, has no split 'test'\. It has train$"),
        ((*GOPRO, 'train/s/blur/2.png'), 'train', r'1 of 2 images have no partner in .*sharp: .*s/blur/2\.png'),
        ((*GOPRO, 'train/s/sharp/2.png'), 'train', r'1 of 2 images have no partner in .*blur: .*s/sharp/2\.png'),
        (('train/blur/1.txt', 'train/sharp/1.txt'), 'train', r'no images in .*train/blur'),
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
        (('train/a.txt', 'GT/a.png'), 'train', r'no images in .*train'),
        (('train/a.png', 'GT/1/a.png', 'GT/2/a.png'), 'train', r'1/a\.png and 2/a\.png in .*GT have the same name'),
        (('val/val_blur/000/1.png', 'val/val_sharp/000/2.png'), 'val', r'no partner in .*val_sharp: .*000/1\.png'),
        (('val/val_blur/000/1.png',), 'val', r'val_sharp does not exist'),
        (('val/val_blur/000/1.png', 'val/val_sharp/000/1.png'), 'val_300', r'none of the 1 frames .* ends in 9'),
        (
            ('val_c/source/2.png', 'val_c/source/4.png', 'val_c/target/1.png'),
            'val',
            r'source has 2 \(2\.png to 4\.png\) but .*target has 1 \(1\.png to 1\.png\)',
        ),
        (('val_c/source/a.txt', 'val_c/target/a.txt'), 'val', r'source has 0 but .*target has 0'),
        (('val_c/source/a.png',), 'val', r'cannot list the folder .*target: No such file'),
    ],
)
def test_invalid_splits(touch, files, split, message):
    root = touch(*files)
    with pytest.raises(UserError, match=message):
        recognize(root).pairs(split)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, r'RealBlur-J needs a list of pairs, but RealBlur_J_train_list\.txt is neither in .* nor next to it'),
        ('\n', r'RealBlur_J_train_list\.txt is empty'),
        (
            'RealBlur-J/s/gt/gt_1.png RealBlur-J/s/blur/blur_1.png',
            r's/gt/gt_1\.png, listed in .*list\.txt, is neither',
        ),
        (
            f'RealBlur-J/{SCENE[0]} RealBlur-J/{SCENE[1]}\nRealBlur-J/{SCENE[0]} RealBlur-J/scene001/blur/blur_2.png',
            r'blur_2\.png, listed in .*RealBlur_J_train_list\.txt, does not exist',
        ),
        (f'RealBlur-J/{SCENE[0]}', r'list\.txt has a line with only RealBlur-J/scene001/gt/gt_1\.png, expected'),
        (f'RealBlur-J/{SCENE[0]} RealBlur-J/{SCENE[1]}\n' * 2, r'would both be saved as RealBlur-J_scene001_1'),
    ],
)
def test_invalid_lists(touch, text, message):
    root = touch(*SCENE, root='RealBlur-J')
    if text is not None:
        (root / 'RealBlur_J_train_list.txt').write_text(text)
    with pytest.raises(UserError, match=message):
        recognize(root).pairs('train')


def test_folder_that_cannot_be_listed_is_skipped_with_a_warning(touch, monkeypatch):
    root = touch('GoPro/train/s/blur/1.png', 'GoPro/train/s/sharp/1.png', 'lost+found/1.png')
    is_dir = Path.is_dir

    def refuse(path):  # tests may run as root, to whom permissions do not apply
        if path.parent.name == 'lost+found':
            raise PermissionError(13, 'Permission denied')
        return is_dir(path)

    monkeypatch.setattr(Path, 'is_dir', refuse)
    with pytest.warns(DataWarning, match=r'skipped .*lost\+found, which cannot be listed: Permission denied'):
        assert recognize(root).layout == 'GoPro'
