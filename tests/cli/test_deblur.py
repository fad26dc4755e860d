"""`basicsr deblur` on the command line."""

import functools
import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeprftv2_plugin import cli
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import load_network, write_checkpoint
from deeprftv2_plugin.inference import deblurring, load, restore
from deeprftv2_plugin.inference.deblurring import deblur_files
from deeprftv2_plugin.inference.outputs import Job
from deeprftv2_plugin.inference.restorer import Restorer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_image(path, size=(16, 16), seed=0):
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as file:
        Image.fromarray(array).save(file, 'PNG')
    return array


def deblur(weights, *arguments):
    return cli.main(['deblur', '--weights', weights, '--device', 'cpu', *arguments])


network = functools.cache(load_network)


def expected(weights, array):
    x = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    restored = restore(network(weights), x)[0].clamp(0, 1).permute(1, 2, 0)
    return np.rint(restored.numpy() * 255).astype(np.uint8)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_photograph_is_restored(weights, capsys):
    array = write_image('a.png', (17, 30))
    assert deblur(weights, 'a.png', '-o', 'new/b.png') == 0
    np.testing.assert_array_equal(read('new/b.png'), expected(weights, array))
    output = capsys.readouterr().out
    assert 'new/b.png: 30x17 pixels, ' in output and 'restored 1 of 1 images\n' in output


def test_before_and_after_are_written_side_by_side(weights):
    array = write_image('a.png')
    assert deblur(weights, 'a.png', '-o', 'out', '--compare') == 0
    np.testing.assert_array_equal(read('out/a.png'), np.hstack([array, expected(weights, array)]))


def test_results_that_are_too_wide_are_errors_before_the_restoration(weights, capsys, monkeypatch):
    monkeypatch.setattr(Restorer, 'photograph', lambda *_: pytest.fail('restored'))
    write_image('a.png', (2, 10_000))
    assert deblur(weights, 'a.png', '-o', 'a.webp', '--compare') == 1
    assert 'a.webp: WEBP cannot store 20000x2 pixels, its limit is 16383' in capsys.readouterr().err


def test_settings_reach_the_network(weights):
    array = write_image('a.png', (8, 24))
    assert deblur(weights, 'a.png', '-o', 'out', '--tile', '16', '--ensemble', '--bf16') == 0
    found = load(weights, device='cpu', tile=16, ensemble=True, bf16=True)(array)
    np.testing.assert_array_equal(read('out/a.png'), found)


def test_existing_results_are_not_overwritten(weights, capsys):
    arrays = [write_image(f'photos/{name}.png', seed=seed) for seed, name in enumerate('ab')]
    write_image('out/a.png', (8, 8))
    assert deblur(weights, 'photos', '-o', 'out') == 1
    assert 'error: out/a.png exists (1 of 2 results do)' in capsys.readouterr().err
    assert not Path('out/b.png').exists()
    assert deblur(weights, 'photos', '-o', 'out', '--skip-existing') == 0
    assert 'restored 1 of 1 images, skipped 1 whose results exist' in capsys.readouterr().out
    assert read('out/a.png').shape == (8, 8, 3)
    assert deblur(weights, 'photos', '-o', 'out', '--overwrite') == 0
    np.testing.assert_array_equal(read('out/a.png'), expected(weights, arrays[0]))


@pytest.mark.posix
@pytest.mark.filterwarnings('ignore::deeprftv2_plugin.utils.errors.DataWarning')
def test_images_that_fail_are_named_and_the_others_are_restored(weights, capsys):
    write_image('photos/first.png')
    write_image('photos/last.png')
    latin = 'photos/' + os.fsdecode(b'caf\xe9.png')
    write_image(latin, (5, 5))
    Path('photos/text.png').write_text('not an image')
    Path('photos/cut.jpg').write_bytes(b'\xff\xd8\xff\xe0')
    os.symlink('loop.png', 'photos/loop.png')
    os.mkdir('photos/x.png')
    os.mkfifo('photos/pipe.png')
    assert deblur(weights, 'photos', '-o', 'out') == 1
    output = capsys.readouterr()
    assert sorted(os.listdir('out')) == sorted(['first.png', 'last.png', os.path.basename(latin)])
    assert read(latin.replace('photos', 'out').encode(errors='surrogateescape')).shape == (5, 5, 3)
    assert 'restored 3 of 6 images' in output.out and 'out/caf\\udce9.png: 5x5 pixels' in output.out
    assert 'failed: photos/text.png is not an image' in output.out
    head, *listed = output.err.splitlines()
    assert head == 'error: 3 of 6 images could not be restored:'
    for line, name in zip(listed, ('cut.jpg', 'loop.png', 'text.png'), strict=True):
        assert line.count(f'photos/{name}') == 1


def test_a_full_disk_leaves_no_half_written_files(weights, monkeypatch, capsys):
    write_image('photos/a.png')
    write_image('photos/b.png')
    write = deblurring.write_whole

    def full(path, data):
        if path.name == 'a.png':
            raise OSError(28, 'No space left on device')
        write(path, data)

    monkeypatch.setattr(deblurring, 'write_whole', full)
    assert deblur(weights, 'photos', '-o', 'out') == 1
    assert 'photos/a.png: cannot write out/a.png: No space left on device. Free disk space' in capsys.readouterr().err
    assert os.listdir('out') == ['b.png']


@pytest.mark.posix
def test_results_are_written_even_if_the_reader_of_the_output_has_ended(weights):
    for name in 'ab':
        write_image(f'photos/{name}.png')
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'wb', buffering=0) as closed, redirect_stdout(io.TextIOWrapper(closed, write_through=True)):
        assert deblur(weights, 'photos', '-o', 'out') == 0
    assert sorted(os.listdir('out')) == ['a.png', 'b.png']


@pytest.mark.parametrize('names', [['stdout'], ['stderr'], ['stdout', 'stderr']])
def test_results_are_written_if_the_output_is_closed(weights, monkeypatch, names):
    write_image('a.png')
    for name in names:
        monkeypatch.setattr(sys, name, None)
    assert deblur(weights, 'a.png', '-o', 'out') == 0
    assert deblur(weights, 'a.png', '-o', 'out') == 1
    assert os.listdir('out') == ['a.png']


def test_tiles_that_do_not_fit_into_memory_are_halved(weights, monkeypatch):
    sizes = []
    forward = DeepRFTv2.forward

    def limited(net, x, **half):
        sizes.append(tuple(x.shape[-2:]))
        if x.shape[-1] > 128:
            raise RuntimeError('[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: cannot allocate memory')
        return forward(net, x, **half)

    monkeypatch.setattr(DeepRFTv2, 'forward', limited)
    array = write_image('a.png', (48, 240))
    assert deblur(weights, 'a.png', '-o', 'b.png', '--tile', '256') == 0
    assert sizes[0] == (48, 240) and sizes[-1] == (48, 128)
    x = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    restored = restore(network(weights), x, 128, 32)[0].clamp(0, 1).permute(1, 2, 0)
    np.testing.assert_allclose(read('b.png'), restored.numpy() * 255, atol=0.51)


def test_an_image_that_never_fits_is_named_and_the_others_are_restored(weights, monkeypatch, capsys):
    forward = DeepRFTv2.forward

    def limited(net, x, **half):
        if x.amax() > 0.5:
            raise MemoryError
        return forward(net, x, **half)

    monkeypatch.setattr(DeepRFTv2, 'forward', limited)
    write_image('bright.png')
    Image.new('RGB', (16, 16)).save('dark.png')
    assert deblur(weights, 'bright.png', 'dark.png', '-o', 'out') == 1
    assert 'bright.png: 16x16 pixels (height x width) do not fit into memory' in capsys.readouterr().err
    assert Path('out/dark.png').exists() and not Path('out/bright.png').exists()


def test_long_and_narrow_images(weights):
    array = write_image('a.png', (400, 6))
    assert deblur(weights, 'a.png', '-o', 'out', '--tile', '128') == 0
    assert read('out/a.png').shape == array.shape


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['empty', '-o', 'out'], 'no images in empty'),
        (['a.png', '-o', 'out', '--tile', '12'], 'tile is (12, 12): both sides must be multiples of 8'),
        (['a.png', '-o', 'out', '--device', 'gpu'], "the device is 'gpu', which cannot be used here"),
        (['a.png', '-o', 'out', '--weights', 'none.pth'], 'none.pth: checkpoint not found'),
        (['a.png', '-o', 'out', '--weights', 'other.pth'], 'other.pth: not the weights of a DeepRFTv2'),
        (['a.png', '-o', 'a.png'], 'a.png is one of the images: use another folder for the results, or --overwrite'),
        (['a.png', '-o', 'a.png/out'], 'cannot write to the folder a.png/out'),
    ],
)
def test_unsuitable_arguments_are_errors(weights, capsys, arguments, message):
    os.mkdir('empty')
    write_image('a.png')
    write_checkpoint({'params': torch.nn.Linear(3, 3).state_dict()}, 'other.pth')
    assert deblur(weights, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not Path('out').exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['a.png'], 'the following arguments are required: -o'),
        (['-o', 'out'], 'the following arguments are required: INPUT'),
        (['a.png', '-o', 'out', '--tile', 'large'], "argument --tile: invalid int value: 'large'"),
        (['a.png', '-o', 'out', '--overwrite', '--skip-existing'], 'not allowed with argument'),
    ],
)
def test_command_lines_that_are_wrong_exit_with_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        cli.main(['deblur', *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_devices_share_the_images(weights, capsys):
    arrays = {f'{number}.png': write_image(f'{number}.png', seed=number) for number in range(4)}
    os.mkdir('out')
    jobs = [Job(Path(name), Path('out', name)) for name in arrays]
    restorers = [load(weights, device='cpu') for _ in range(2)]
    used = set()
    for number, each in enumerate(restorers):
        each.net.register_forward_hook(lambda *_, number=number: used.add(number))
    assert deblur_files(restorers, jobs) == []
    assert used == {0, 1}
    for name, array in arrays.items():
        np.testing.assert_array_equal(read(f'out/{name}'), expected(weights, array))


def test_progress_counts_tiles_as_parts_of_images(weights, monkeypatch):
    steps = []
    monkeypatch.setattr(deblurring.Progress, '_advance', lambda self, part: steps.append(part))
    write_image('a.png', (16, 40))
    os.mkdir('out')
    restorer: Restorer = load(weights, device='cpu', tile=16)
    deblur_files([restorer], [Job(Path('a.png'), Path('out/a.png'))])
    assert len(steps) == restorer.passes(16, 40) + 1 > 3
    assert sum(steps) == pytest.approx(1) and steps[-1] == pytest.approx(0)
