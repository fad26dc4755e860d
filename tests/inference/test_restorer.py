"""A restorer accepts several kinds of images and returns the same kind."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import deeprftv2_plugin
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import sources, write_checkpoint
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.inference import Restorer, load, restore, restorer
from deeprftv2_plugin.utils.errors import UserError

SIZES = {'width': 8, 'kernel_width': 4}


def network():
    torch.manual_seed(0)
    return DeepRFTv2('T', **SIZES).eval()


@pytest.fixture(scope='module')
def deblur():
    return Restorer(network(), 'cpu', settings={'variant': 'T', **SIZES})


def random_array(*shape, dtype=np.uint8):
    values = np.random.default_rng(0).random(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == 'f' else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_pixels_are_those_of_restore(deblur, dtype):
    array = random_array(19, 26, 3, dtype=dtype)
    expected = restore(deblur.net, to_tensor(array)[None])[0].clamp(0, 1).permute(1, 2, 0).numpy()
    expected = np.rint(expected * np.iinfo(dtype).max).astype(dtype)
    found = deblur(array)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, array)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize('shape', [(16, 24, 3), (16, 24), (1, 1), (5, 5, 3), (3, 40, 3), (16, 3)])
def test_arrays_keep_type_and_shape(deblur, dtype, shape):
    found = deblur(random_array(*shape, dtype=dtype))
    assert isinstance(found, np.ndarray) and found.dtype == dtype and found.shape == shape


@pytest.mark.parametrize('dtype', ['>u2', '>f4', '>f8'])
def test_arrays_can_have_any_byte_order(deblur, dtype):
    array = random_array(16, 24, 3, dtype=np.dtype(dtype).newbyteorder('='))
    found = deblur(array.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, deblur(array))


def test_subclasses_of_arrays_are_treated_like_arrays(deblur):
    """Of matrices, NumPy crashes if they get another dimension."""
    array = random_array(16, 24)
    found = deblur(np.ma.array(array, mask=array > 200))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, deblur(array))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('shape', [(3, 16, 24), (1, 16, 24), (2, 3, 16, 8), (2, 1, 5, 9)])
def test_tensors_keep_type_and_shape(deblur, dtype, shape):
    x = torch.rand(shape)
    found = deblur((x * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype))
    assert found.dtype == dtype and found.shape == shape


@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'LA', 'I;16', 'F', 'P', 'CMYK', '1'])
def test_pillow_images_keep_mode_size_and_transparency(deblur, mode):
    colors = random_array(16, 24, 3)
    if mode == 'I;16':
        image = Image.fromarray(random_array(16, 24, dtype=np.uint16))
    elif mode == 'F':
        image = Image.fromarray(random_array(16, 24, dtype=np.float32))
    else:
        image = Image.fromarray(colors).convert(mode)
    if mode in ('RGBA', 'LA'):
        image.putalpha(Image.fromarray(colors[..., 0]))
    image.info['dpi'] = (300, 300)
    found = deblur(image)
    assert found.size == (24, 16) and found.info['dpi'] == (300, 300)
    assert found.mode == {'P': 'RGB', 'CMYK': 'RGB', '1': 'L'}.get(mode, mode)
    if mode in ('RGBA', 'LA'):
        np.testing.assert_array_equal(np.asarray(found)[..., -1], colors[..., 0])


def test_an_unusable_profile_of_a_cmyk_image_is_dropped(deblur):
    image = Image.new('CMYK', (24, 16))
    image.info['icc_profile'] = b'no profile'
    assert 'icc_profile' not in deblur(image).info


def test_all_kinds_agree(deblur):
    array = random_array(16, 24, 3)
    found = deblur(array)
    np.testing.assert_array_equal(np.asarray(deblur(Image.fromarray(array))), found)
    np.testing.assert_array_equal(deblur(torch.from_numpy(array).permute(2, 0, 1)).permute(1, 2, 0), found)
    floats = deblur(array.astype(np.float32) / 255)
    np.testing.assert_array_equal(np.rint(floats * 255), found)


def test_grayscale_is_the_mean_of_three_equal_channels(deblur):
    x = torch.rand(1, 16, 24)
    expected = restore(deblur.net, x.expand(3, -1, -1)[None]).mean(1)
    torch.testing.assert_close(deblur(x), expected.clamp(0, 1))


def test_small_images_are_extended_by_their_border(deblur):
    x = torch.rand(1, 3, 5, 5)
    expected = restore(deblur.net, F.pad(x, (0, 3, 0, 3), mode='replicate'))[..., :5, :5]
    torch.testing.assert_close(deblur(x), expected.clamp(0, 1))


def test_tiles_and_ensemble_are_those_of_restore():
    x = torch.rand(1, 3, 16, 40)
    found = Restorer(network(), 'cpu', tile=32, ensemble=True)(x)
    torch.testing.assert_close(found, restore(network(), x, 32, 8, ensemble=True).clamp(0, 1))


def test_tiles_are_chosen_by_the_free_memory(deblur, monkeypatch):
    def largest(free, threads):
        monkeypatch.setattr(restorer, 'available_memory', lambda: free)
        monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
        return deblur.tiles(1, 10**6)[0][0]

    assert [largest(free, 1) for free in (10**8, 4 * 10**8, 10**9, 10**12, None)] == [256, 384, 640, 640, 256]
    assert [largest(free, 4) for free in (10**9, 2 * 10**9, 3 * 10**9, 10**12)] == [256, 384, 512, 640]


@pytest.mark.parametrize('free', [10**8, 10**9, 10**10])
def test_tiles_at_the_same_time_fit_into_the_memory(deblur, monkeypatch, free):
    monkeypatch.setattr(restorer, 'available_memory', lambda: free)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 64)
    height, width = deblur.tiles(1, 10**6)[0]
    needed = restorer.BYTES * deblur._width * max(height, width) ** 2
    assert deblur._workers == 1 or deblur._workers * needed <= restorer.SHARE * free


def test_chosen_tiles_divide_the_image_evenly(deblur, monkeypatch):
    monkeypatch.setattr(restorer, 'available_memory', lambda: 10**12)
    (height, width), overlap = deblur.tiles(720, 1280)
    assert height % deblur.net.size_multiple == width % deblur.net.size_multiple == 0
    assert deblur.passes(720, 1280) == 2 * 3
    assert 720 <= 2 * height - overlap < 720 + 2 * deblur.net.size_multiple
    assert 1280 <= 3 * width - 2 * overlap < 1280 + 3 * deblur.net.size_multiple


def test_an_image_smaller_than_a_tile_is_one_tile(deblur):
    assert deblur.passes(5, 61) == 1


def test_bfloat16_is_similar():
    x = torch.rand(1, 3, 16, 24)
    found, exact = Restorer(network(), 'cpu', bf16=True)(x), Restorer(network(), 'cpu')(x)
    assert 0 < (found - exact).abs().max() < 0.1


@pytest.mark.parametrize(
    'image, message',
    [
        (np.zeros((4, 8, 8, 3), np.uint8), r'shape \(4, 8, 8, 3\)'),
        (np.zeros((8, 8, 4), np.uint8), r'shape \(8, 8, 4\)'),
        (np.zeros((8, 8), np.int32), 'the image given as an array has type int32'),
        (np.full((8, 8), 255.0), r'values from 255\.0 to 255\.0'),
        (np.full((8, 8), np.nan), 'values from nan'),
        (
            np.array([[0, 1 + 2**-52]]),
            r'values from 0\.0 to 1\.0000000000000002, expected 0 to 1: rescale or clip them',
        ),
        (np.zeros((0, 8), np.uint8), 'at least one pixel'),
        (torch.zeros(8, 8), r'shape \(8, 8\)'),
        (torch.zeros(3, 8, 8, dtype=torch.int64), 'dtype torch.int64'),
        (torch.full((3, 8, 8), -1.0), r'values from -1\.0 to -1\.0'),
        ('photo.jpg', 'of type str'),
        (Image.new('LAB', (8, 8)), 'the image from Pillow has pixels of mode LAB'),
    ],
)
def test_unsuitable_images_are_errors(deblur, image, message):
    with pytest.raises(UserError, match=message):
        deblur(image)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'tile': 20}, 'multiples of 8'),
        ({'tile': 0}, 'tile size is 0, expected a positive number of pixels'),
        ({'tile': -8}, 'tile size is -8'),
        ({'tile': (64, 64)}, r'tile size is \(64, 64\)'),
        ({'tile': '64'}, "tile size is '64'"),
        ({'device': 'gpu'}, "device is 'gpu'"),
        ({'device': 'meta:x'}, "device is 'meta:x'"),
        ({'device': 'fpga'}, r"device is 'fpga', which cannot be used here \(.{200}\): use cpu or cuda"),
    ],
)
def test_unsuitable_settings_are_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        Restorer(network(), **arguments)


def test_cuda_means_all_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(restorer, '_device', lambda name: torch.device(name or 'cuda'))
    assert restorer.devices('cuda') == restorer.devices() == [torch.device('cuda:0'), torch.device('cuda:1')]
    assert restorer.devices('cuda:1') == [torch.device('cuda:1')]
    assert restorer.devices('cpu') == [torch.device('cpu')]


def test_networks_for_other_channels_are_refused():
    with pytest.raises(UserError, match='6 input channels, expected 3'):
        Restorer(DeepRFTv2('T', in_channels=6, out_channels=6, **SIZES))


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_networks_are_loaded_from_files_average_first(tmp_path, deblur, suffix):
    path, average = tmp_path / f'net.{suffix}', deblur.net.state_dict()
    other = {name: value + 1 if value.is_floating_point() else value for name, value in average.items()}
    sets = {'params_ema': average} if suffix == 'safetensors' else {'params': other, 'params_ema': average}
    write_checkpoint(sets, path)
    array = random_array(16, 24, 3)
    np.testing.assert_array_equal(deeprftv2_plugin.load(path)(array), deblur(array))


def test_saved_networks_are_loaded_with_their_windows(tmp_path):
    """The shapes of weights do not contain the sizes of windows."""
    settings = {'variant': 'T', **SIZES, 'kernel_window': [16, 16]}
    windows = Restorer(DeepRFTv2(**settings), 'cpu', settings=settings)
    assert windows.save_pretrained(tmp_path / 'new') == tmp_path / 'new' / 'model.safetensors'
    again = load(tmp_path / 'new', device='cpu')
    array = random_array(24, 24, 3)
    np.testing.assert_array_equal(again(array), windows(array))
    assert again.settings == settings


def test_networks_with_unknown_arguments_are_not_saved(tmp_path):
    with pytest.raises(UserError, match='arguments of the network are not known'):
        Restorer(network()).save_pretrained(tmp_path)


def test_shipped_weights_are_the_default(tmp_path, monkeypatch, deblur):
    monkeypatch.setattr(sources, '__file__', str(tmp_path / 'checkpoints/sources.py'))
    with pytest.raises(UserError, match='this installation has no weights; use the path of a checkpoint'):
        load()
    write_checkpoint({'params': deblur.net.state_dict()}, tmp_path / 'weights/deblur.safetensors')
    array = random_array(16, 24, 3)
    np.testing.assert_array_equal(load()(array), deblur(array))
    np.testing.assert_array_equal(load('deblur')(array), deblur(array))


def test_results_in_a_folder_named_like_the_shipped_weights_do_not_hide_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir('deblur')
    assert sources.find_weights('deblur') == sources.find_weights() == sources.shipped_weights()
    assert sources.find_weights('./deblur') == sources.find_weights(Path('deblur')) == Path('deblur/model.safetensors')


@pytest.mark.parametrize(
    'name, message',
    [
        ('missing.pth', 'checkpoint not found'),
        ('runs/net.safetensors', 'checkpoint not found'),
        ('sharp', 'no such weights; expected a .pth or .safetensors file, deblur for the bundled weights'),
        ('a/b/c', 'no such weights'),
    ],
)
def test_missing_weights_are_errors(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load(name)


def test_weights_of_other_networks_are_refused(tmp_path):
    write_checkpoint({'params': torch.nn.Linear(3, 3).state_dict()}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match='other.pth: not the weights of a DeepRFTv2'):
        load(tmp_path / 'other.pth')


def live():
    """Return the number of tensors and arrays in memory."""
    gc.collect()
    return sum(issubclass(type(each), (torch.Tensor, np.ndarray)) for each in gc.get_objects())


def test_no_memory_of_an_image_is_kept(deblur):
    deblur(random_array(8, 8, 3))
    before = live()
    for size in (8, 16, 24):
        deblur(random_array(size, 8, 3))
        deblur(Image.fromarray(random_array(size, 8, 3)))
    assert live() == before


def test_networks_are_downloaded_from_a_hub(tmp_path, deblur):
    pytest.importorskip('huggingface_hub')
    deblur.save_pretrained(tmp_path / 'files')
    from tests.inference.hub_server import load_from_hub

    array = random_array(16, 24, 3)
    np.save(tmp_path / 'in.npy', array)
    load_from_hub(tmp_path, 'owner/sharper')
    np.testing.assert_array_equal(np.load(tmp_path / 'out.npy'), deblur(array))
    assert 'neither a file nor a repository of the Hugging Face Hub' in load_from_hub(tmp_path, 'owner/missing')
