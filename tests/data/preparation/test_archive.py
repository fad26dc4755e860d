import os
from pathlib import Path

import numpy as np
import pytest

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.data import PairedDeblurDataset
from deeprftv2_plugin.data.layouts.known import recognize
from deeprftv2_plugin.data.preparation import archive, verify
from deeprftv2_plugin.data.preparation.crops import CropGrid, EncodedPair, Entry
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.lmdb_reader import read_value
from deeprftv2_plugin.utils.errors import DataWarning, UserError
from tests.data.archives import REALBLUR_J, REALBLUR_R, unpack
from tests.data.preparation.conftest import content_of

FLAT = {kinds: [f'{split}/{kind}/GOPR0384_11_00-{frame}.png' for split in ('train', 'test') for kind in kinds.split()
                for frame in ('000001', '000002')] for kinds in ('blur sharp', 'input target')}  # fmt: skip


@pytest.fixture
def unpacked(tmp_path, write_image):
    """Return a function that creates a small dataset of a layout and returns the folder to prepare."""

    def make(layout):
        root = tmp_path / 'download'
        if layout in FLAT:
            for name in FLAT[layout]:
                write_image(f'download/{name}')
        elif layout == 'RSBlur':
            names = '0001/000006/gt/gt_sharp.png', '0001/000006/real_blur/real_blur.png'
            for name in names:
                write_image(f'download/RSBlur/{name}')
            (root / 'RSBlur_train_list.txt').write_text(f'RSBlur/{names[0]} RSBlur/{names[1]}\n')
        elif layout == 'pairs':
            for name in ('lq/a b.1.png', 'gt/a b.1.png', 'lq/c.png', 'gt/c.png'):
                write_image(f'download/{name}')
        else:
            parent = {REALBLUR_J: 'RealBlur', REALBLUR_R: 'RealBlur'}.get(layout)
            return unpack(parent or layout, root) / (layout if parent else '.')
        return root

    return make


@pytest.fixture
def gopro(tmp_path):
    """A GoPro archive with frames of 40x24 pixels."""
    return unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3))


@pytest.mark.parametrize('folders', [False, True], ids=['LMDB', 'folders'])
@pytest.mark.parametrize(
    ('layout', 'count'),
    [
        ('GOPRO_Large', 6),
        ('blur sharp', 4),
        ('input target', 4),
        ('HIDE_dataset', 4),
        ('REDS', 20),
        ('dd_dp_dataset_canon', 6),
        (REALBLUR_J, 4),
        (REALBLUR_R, 4),
        ('RSBlur', 1),
        ('pairs', 2),
    ],
)
def test_pairs_are_stored_byte_for_byte(unpacked, prepare, layout, count, folders):
    source = unpacked(layout)
    written = content_of(prepare(source, folders=folders))
    expected = {}
    for split in recognize(source).splits:
        pairs = recognize(source).pairs(split)
        for side, images in (('blur', [p.lq for p in pairs]), ('sharp', [p.gt for p in pairs])):
            stored = {p.name: Path(image.path).read_bytes() for p, image in zip(pairs, images, strict=True)}
            if folders:
                expected |= {f'{split}_{side}/{name}.png': data for name, data in stored.items()}
            else:
                database = f'{split}_{side}.lmdb'
                height, width = StoredImage(images[0].path).read().shape[:2]
                lines = [f'{name}.png ({height},{width},3) 1\n' for name in stored]
                expected[f'{database}/data.mdb'] = {name.encode(): data for name, data in stored.items()}
                expected[f'{database}/meta_info.txt'] = ''.join(lines).encode()
    assert written == expected
    assert count == len({(p.lq, p.gt, s) for s in recognize(source).splits for p in recognize(source).pairs(s)})


@pytest.mark.parametrize('crops', [None, CropGrid(16, 12)], ids=['whole', 'crops'])
@pytest.mark.parametrize('folders', [False, True], ids=['LMDB', 'folders'])
@pytest.mark.parametrize('layout', ['GOPRO_Large', 'REDS'])
def test_basicsr_reads_the_same_pixels(tmp_path, prepare, layout, folders, crops):
    patches.apply()
    from basicsr.data.paired_image_dataset import PairedImageDataset

    split = {'GOPRO_Large': 'train', 'REDS': 'train_jpeg'}[layout]
    folder = prepare(unpack(layout, tmp_path / layout, (24, 40, 3)), [split], crops, folders)
    ends = ('', {'type': 'disk'}) if folders else ('.lmdb', {'type': 'lmdb'})
    roots = {
        f'dataroot_{kind}': f'{folder}/{split}_{side}{ends[0]}' for kind, side in (('lq', 'blur'), ('gt', 'sharp'))
    }
    theirs = PairedImageDataset({'phase': 'val', 'scale': 1, 'io_backend': ends[1], **roots})
    read = {Path(sample['lq_path']).stem: sample for sample in (theirs[index] for index in range(len(theirs)))}
    for environment in getattr(theirs.file_client.client, '_client', {}).values():
        environment.close()
    ours = PairedDeblurDataset({'phase': 'val', **roots})
    assert len(ours) == len(theirs) == len(recognize(tmp_path / layout).pairs(split)) * (6 if crops else 1)
    for index in range(len(ours)):
        sample = ours[index]
        for side in ('lq', 'gt'):
            assert np.array_equal(sample[side], read[Path(sample['lq_path']).stem][side])


@pytest.mark.parametrize('folders', [False, True], ids=['LMDB', 'folders'])
def test_crops_are_windows_of_the_images(gopro, prepare, folders):
    folder = prepare(gopro, crops=CropGrid(16, 12), folders=folders)
    for pair in recognize(gopro).pairs('train'):
        for side, whole in (('blur', pair.lq.read()), ('sharp', pair.gt.read())):
            windows = [(top, left) for top in (0, 8) for left in (0, 12, 24)]
            for number, (top, left) in enumerate(windows, start=1):
                key, root = f'{pair.name}_s{number:03d}', str(folder / f'train_{side}')
                crop = StoredImage(f'{root}/{key}.png') if folders else StoredImage(key, f'{root}.lmdb')
                assert np.array_equal(crop.read(), whole[top : top + 16, left : left + 16])
    test = recognize(gopro).pairs('test')[0]
    key, root = test.name, str(folder / 'test_blur')
    stored = StoredImage(f'{root}/{key}.png') if folders else StoredImage(key, f'{root}.lmdb')
    assert np.array_equal(stored.read(), test.lq.read())


def test_databases_and_folders_have_the_same_content(gopro, prepare):
    prepare(gopro, crops=CropGrid(16, 12))
    written = content_of(prepare(gopro, crops=CropGrid(16, 12), folders=True))
    for split in ('train_blur', 'train_sharp', 'test_blur', 'test_sharp'):
        database = written[f'{split}.lmdb/data.mdb']
        assert {key.decode(): data for key, data in database.items()} == {
            Path(name).stem: data for name, data in written.items() if name.startswith(f'{split}/')
        }


def test_16_bit_images_keep_their_depth(tmp_path, prepare):
    source = unpack('dd_dp_dataset_canon', tmp_path / 'DPDD', (20, 30, 3))
    folder = prepare(source, ['train'], CropGrid(16, 16))
    pair = recognize(source).pairs('train')[0]
    crop = StoredImage(f'{pair.name}_s004', f'{folder}/train_sharp.lmdb').read()
    assert crop.dtype == np.uint16 and np.array_equal(crop, pair.gt.read()[4:20, 14:30])


def test_recognized_dataset_and_written_paths_are_reported(gopro, prepare):
    messages = []
    folder = prepare(gopro, say=messages.append)
    assert messages[0] == f'{gopro} is recognized as GoPro: train 4 pairs, test 2 pairs'
    assert messages[1] == f'train: {folder}/train_blur.lmdb, {folder}/train_sharp.lmdb'


def test_splits_can_be_added_but_not_overwritten(gopro, prepare):
    prepare(gopro, ['test'])
    folder = prepare(gopro, ['train'], CropGrid(16, 16))
    before = content_of(folder)
    for splits in (['test'], ['train'], None):
        with pytest.raises(UserError, match=r't[a-z]+_blur\.lmdb exists and is not overwritten: remove'):
            prepare(gopro, splits)
    assert content_of(folder) == before and not (folder / '.partial').exists()


@pytest.mark.posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
@pytest.mark.parametrize('place', ['journal', 'train_blur.lmdb/data.mdb', 'train_blur.lmdb/lock.mdb'])
def test_unfinished_work_contains_only_files(gopro, prepare, tmp_path, plant, kind, place):
    path = tmp_path / 'prepared/.partial' / place
    path.parent.mkdir(parents=True)
    plant(path, kind)
    with pytest.raises(UserError, match=rf'{place} is neither a file nor a folder: remove \S*\.partial to start over'):
        prepare(gopro)
    assert os.path.lexists(path)


@pytest.mark.posix
@pytest.mark.parametrize('place', ['.partial', '.partial/train_blur'])
def test_linked_folders_are_not_emptied(gopro, prepare, tmp_path, place):
    (tmp_path / 'home').mkdir()
    (tmp_path / 'home/mine').touch()
    path = tmp_path / 'prepared' / place
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / 'home')
    with pytest.raises(UserError, match=f'{place} is neither a file nor a folder'):
        prepare(gopro, folders=True)
    assert os.listdir(tmp_path / 'home') == ['mine']


@pytest.mark.posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_an_image_is_written_to_a_new_file(tmp_path, plant, kind):
    store = archive.FolderPair([tmp_path / 'blur', tmp_path / 'sharp'])
    plant(tmp_path / 'blur/a.png', kind)
    store.put([EncodedPair(Entry('a', '.png', (1, 1, 3)), b'blurry', b'sharp')])
    assert (tmp_path / 'blur/a.png').read_bytes() == b'blurry' and not (tmp_path / 'blur/a.png').is_symlink()


@pytest.fixture
def interrupted(gopro, prepare, monkeypatch):
    """Interrupt a preparation at a damaged image, GOPR0374_11_00_000047, and return a function that repairs it."""
    damaged = gopro / 'train/GOPR0374_11_00/sharp/000047.png'
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-20])
    monkeypatch.setattr(archive, 'BATCH', 1)
    with pytest.raises(UserError, match=r'sharp/000047\.png is damaged: .* Completed work is kept: repair the data'):
        prepare(gopro, crops=CropGrid(16, 12))
    return lambda: damaged.write_bytes(data)


def test_preparation_resumes_after_a_damaged_image_is_repaired(interrupted, gopro, prepare, monkeypatch, tmp_path):
    assert [path.name for path in (tmp_path / 'prepared').iterdir()] == ['.partial']
    interrupted()
    done = []
    original = archive.LmdbPair.put
    monkeypatch.setattr(archive.LmdbPair, 'put', lambda store, pairs: (done.extend(pairs), original(store, pairs)))
    folder = prepare(gopro, crops=CropGrid(16, 12))
    assert {pair.entry.key[:21] for pair in done if 'GOPR037' in pair.entry.key} == {
        'GOPR0374_11_00_000047',
        'GOPR0374_11_00_000048',
    }
    assert not (folder / '.partial').exists()
    resumed = content_of(folder)
    archive.prepare_archive(gopro, tmp_path / 'uninterrupted', crops=CropGrid(16, 12), progress=False)
    assert resumed == content_of(tmp_path / 'uninterrupted')


@pytest.mark.parametrize(
    ('settings', 'change'),
    [
        ({'crops': CropGrid(16, 8)}, 'step was 12, is 8'),
        ({'crops': None}, 'crop was 16, is None; step was 12, is None'),
        ({'crops': CropGrid(16, 12), 'folders': True}, 'format was LMDB, is folders'),
        ({'crops': CropGrid(16, 12), 'splits': ['train']}, r"splits was \['train', 'test'\], is \['train'\]"),
    ],
)
def test_resuming_with_other_settings_is_rejected(interrupted, gopro, prepare, settings, change):
    with pytest.raises(
        UserError, match=rf'\.partial contains the work of an interrupted run .* \({change}\): rerun that command'
    ):
        prepare(gopro, **settings)


def test_resuming_from_another_source_is_rejected(interrupted, gopro, prepare, tmp_path):
    other = unpack('GOPRO_Large', tmp_path / 'other')
    with pytest.raises(UserError, match=r'source was .*GOPRO_Large, is .*other'):
        prepare(other, crops=CropGrid(16, 12))


def test_stored_pairs_must_remain_in_the_source(interrupted, gopro, prepare):
    for kind in ('blur', 'sharp'):
        (gopro / f'train/GOPR0372_07_00/{kind}/000048.png').unlink()
    with pytest.raises(UserError, match='has GOPR0372_07_00_000048 from the interrupted run, which is no longer'):
        prepare(gopro, crops=CropGrid(16, 12))


def test_damaged_pair_can_be_removed_from_the_source(interrupted, gopro, prepare):
    for kind in ('blur', 'sharp'):
        (gopro / f'train/GOPR0374_11_00/{kind}/000047.png').unlink()
    lines = (prepare(gopro, crops=CropGrid(16, 12)) / 'train_sharp.lmdb/meta_info.txt').read_text().splitlines()
    assert len(lines) == 3 * 6 and not any('GOPR0374_11_00_000047' in line for line in lines)


def test_pairs_of_different_size_are_rejected(gopro, prepare, write_image, tmp_path):
    write_image(gopro.relative_to(tmp_path) / 'train/GOPR0372_07_00/blur/000048.png', (24, 20, 3))
    with pytest.raises(UserError, match=r'blur/000048\.png has 20x24 pixels, .*sharp/000048\.png has 40x24'):
        prepare(gopro)


@pytest.mark.parametrize(
    ('dest', 'settings', 'message'),
    [
        ('GOPRO_Large/lmdb', {}, r'GOPRO_Large/lmdb is inside the dataset .*GOPRO_Large'),
        ('GOPRO_Large/train/GOPR0372_07_00/blur/000047.png', {}, 'is inside the dataset'),
        ('file', {}, 'file is not a folder'),
        ('file/below', {}, 'cannot write to .*: Not a directory'),
        ('loop', {}, 'loop is not a folder'),
        ('dangling', {}, 'dangling is not a folder'),
        ('x' * 300, {}, 'cannot write to .*: File name too long'),
        ('new', {'splits': ['val']}, "has no split 'val'. It has train, test"),
        ('new', {'splits': ['test'], 'crops': CropGrid(8, 8)}, 'crops apply only to training splits, got test'),
    ],
)
def test_errors_explain_invalid_arguments(gopro, tmp_path, dest, settings, message):
    (tmp_path / 'file').touch()
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'dangling').symlink_to('nowhere')
    with pytest.raises(UserError, match=message):
        archive.prepare_archive(gopro, tmp_path / dest, **settings, progress=False)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(('length', 'folders', 'longest'), [(255, False, 511), (120, True, 240)])
def test_names_that_cannot_be_stored_are_rejected_first(prepare, write_image, tmp_path, length, folders, longest):
    for kind in ('blur', 'sharp'):
        write_image(f'mine/{kind}/{"a" * length}/{"b" * length}/c.png')
    words = rf'c\.png would be stored as a+_b+_c, but a key is 1 to {longest} .*: rename it'
    with pytest.raises(UserError, match=words):
        prepare(tmp_path / 'mine', folders=folders)


@pytest.mark.posix
@pytest.mark.parametrize('folders', [False, True])
def test_names_do_not_have_to_be_ascii_or_utf_8(prepare, write_image, tmp_path, folders):
    names = {os.fsdecode(b'caf\xe9'): 'caf-xe9', 'straße': 'stra-xc3-x9fe', 'a\\b': 'a-b'}
    images = {}
    for kind in ('blur', 'sharp'):
        for name in names:
            write_image('image.png')
            (tmp_path / 'mine' / kind).mkdir(parents=True, exist_ok=True)
            images[names[name]] = (tmp_path / 'image.png').rename(tmp_path / 'mine' / kind / f'{name}.png').read_bytes()
    prepared = prepare(tmp_path / 'mine', folders=folders)
    if folders:
        found = {path.stem: path.read_bytes() for path in (prepared / 'all_sharp').iterdir()}
    else:
        found = {key: read_value(str(prepared / 'all_sharp.lmdb'), key) for key in names.values()}
    assert found == images
    assert verify(prepared, progress=False) == verify(tmp_path / 'mine', progress=False) == 3


def test_unknown_layout_is_rejected(prepare, tmp_path):
    (tmp_path / 'photos').mkdir()
    with pytest.raises(UserError, match='photos has no known dataset layout'):
        prepare(tmp_path / 'photos')


@pytest.mark.parametrize(('folders', 'limit'), [(False, 30000), (True, 500)], ids=['in the database', 'in the folder'])
def test_preparation_resumes_after_the_disk_was_full(gopro, prepare, tmp_path, monkeypatch, folders, limit):
    resource = pytest.importorskip('resource')
    monkeypatch.setattr(archive, 'BATCH', 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(UserError, match=r'(cannot write to|cannot complete).* Completed work is kept'):
            prepare(gopro, crops=CropGrid(16, 12), folders=folders)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resumed = content_of(prepare(gopro, crops=CropGrid(16, 12), folders=folders))
    archive.prepare_archive(gopro, tmp_path / 'uninterrupted', crops=CropGrid(16, 12), folders=folders, progress=False)
    assert resumed == content_of(tmp_path / 'uninterrupted')


@pytest.mark.parametrize('folders', [False, True], ids=['LMDB', 'folders'])
def test_partly_stored_pair_is_removed_if_it_leaves_the_source(gopro, prepare, tmp_path, monkeypatch, folders):
    monkeypatch.setattr(archive, 'BATCH', 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        original = archive.Journal.add
        patch.setattr(archive.Journal, 'add', lambda *args: interrupt() if '74' in min(args[2]) else original(*args))
        prepare(gopro, folders=folders)
    for kind in ('blur', 'sharp'):
        (gopro / f'train/GOPR0374_11_00/{kind}/000047.png').unlink()
    resumed = content_of(prepare(gopro, folders=folders))
    archive.prepare_archive(gopro, tmp_path / 'uninterrupted', folders=folders, progress=False)
    assert resumed == content_of(tmp_path / 'uninterrupted')


def interrupt():
    raise KeyboardInterrupt


def test_transparency_that_crops_lose_is_a_warning(prepare, write_image, tmp_path):
    for kind in ('blur', 'sharp'):
        write_image(f'mine/{kind}/a.png', (20, 24, 4))
    with pytest.warns(DataWarning, match=r'the transparency of images such as .*mine/blur/a\.png is ignored'):
        prepare(tmp_path / 'mine', crops=CropGrid(8, 8))
