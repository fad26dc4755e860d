"""Images that do not fit into memory are restored in tiles."""

import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from deeprftv2_plugin.inference import restore
from deeprftv2_plugin.inference.memory import halved, is_out_of_memory, restore_in_memory
from deeprftv2_plugin.utils.errors import UserError


class Pointwise(nn.Module):
    """A network of pointwise layers, whose result does not depend on tiles, with a wide map in between."""

    def __init__(self, width=64):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 1), nn.GELU(), nn.Conv2d(width, 3, 1))

    def forward(self, x):
        return x + self.body(x)


def network():
    torch.manual_seed(0)
    return Pointwise()


def image(height=768, width=700):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def restore_with(spare, connection, settings):
    """Restore in this process, whose address space may grow by `spare` bytes, and send the result."""
    import resource

    used = int(re.search(r'VmSize:\s+(\d+)', Path('/proc/self/status').read_text())[1]) * 1024
    net, x = network(), image()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
    try:
        found = restore_in_memory(net, x, **settings)
    except UserError as error:
        found = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    connection.send((found[0].numpy(), found[1]) if isinstance(found, tuple) else found)


def restored_with(spare, **settings):
    if not Path('/proc/self/status').exists():
        pytest.skip('no /proc on this system')
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # not forked: what earlier tests left behind and is released here would make room
    process = multiprocessing.get_context('spawn').Process(target=restore_with, args=(spare, sender, settings))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


@pytest.mark.posix
def test_the_tile_is_halved_until_it_fits_into_memory():
    """The wide maps take 138 MB each for the whole image, and 9 MB for a tile of 192x176."""
    output, tile = restored_with(100 << 20)
    assert tile in ((384, 350), (192, 176))
    expected = restore(network(), image())
    torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.posix
def test_an_image_that_never_fits_is_an_error_with_its_size():
    message = restored_with(100 << 20, tile=700, overlap=300)
    assert re.search(r'768x700 pixels .* do not fit into memory in tiles of 7\d\dx700: .*DefaultCPUAllocator', message)
    assert 'set a smaller tile with a smaller overlap' in message


def test_nothing_changes_if_there_is_enough_memory():
    net, x = network(), image(40, 50)
    output, tile = restore_in_memory(net, x, tile=32, overlap=8, ensemble=True)
    assert tile is None
    torch.testing.assert_close(output, restore(net, x, tile=32, overlap=8, ensemble=True), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('tile', 'overlap', 'multiple', 'expected'),
    [
        ((720, 1280), (48, 48), 8, (360, 640)),
        ((360, 640), (48, 48), 32, (192, 320)),
        ((100, 640), (48, 48), 2, (100, 320)),
        ((128, 128), (0, 0), 2, (64, 64)),
        ((126, 100), (0, 0), 2, (64, 100)),
        ((124, 100), (0, 0), 2, None),
        ((150, 150), (48, 48), 4, None),
    ],
)
def test_halved_tiles_suit_the_network_and_the_overlap(tile, overlap, multiple, expected):
    assert halved(tile, overlap, multiple) == expected


def test_errors_of_allocators_are_recognized():
    with pytest.raises(RuntimeError) as fault:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(fault.value)
    assert is_out_of_memory(torch.OutOfMemoryError('CUDA out of memory.')) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError('shapes differ')) and not is_out_of_memory(ValueError('out of memory'))


def test_other_errors_are_raised():
    with pytest.raises(RuntimeError, match='expected input'):
        restore_in_memory(network(), torch.rand(1, 5, 32, 32))
