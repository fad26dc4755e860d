"""Chains of blocks: directions, windows, and names."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.layers import BLOCKS, Blocks, NAFBlock, SelectiveScanMixer


def randomized(module):
    """Give every parameter a random value, since some branches are initialized to zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize('depth', [1, 2, 3, 4, 5])
def test_any_number_of_scan_blocks_keeps_the_orientation(depth):
    """If the blocks are identities, the chain is the identity, also on maps that are not square."""
    chain = Blocks('NAFScan', depth, 4)
    for index in range(depth):
        chain[index] = nn.Identity()
    x = torch.rand(1, 4, 6, 10)
    assert torch.equal(chain(x), x)


def test_four_blocks_scan_in_four_directions():
    chain = Blocks('NAFScan', 4, 4)
    seen = []
    for index in range(4):
        chain[index].register_forward_hook(lambda module, args, out: seen.append(args[0]))
    x = torch.arange(6.0).view(1, 1, 2, 3).expand(1, 4, 2, 3)
    chain(x)  # blocks are initialized as the identity
    order = [step[0, 0].flatten().int().tolist() for step in seen]
    assert order == [[0, 3, 1, 4, 2, 5], [5, 2, 4, 1, 3, 0], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize('name', BLOCKS)
def test_every_block_keeps_the_shape_and_passes_gradients(name):
    chain = randomized(Blocks(name, 2, 4, pool_window=(6, 6), scan_window=(4, 8)))
    x = torch.rand(2, 4, 8, 12, requires_grad=True)
    chain(x).sum().backward()
    assert x.grad.shape == x.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in chain.parameters())


@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_are_initialized_as_the_identity(name):
    x = torch.rand(1, 4, 8, 12)
    assert torch.equal(Blocks(name, 3, 4, pool_window=(6, 6), scan_window=(4, 8))(x), x)


def test_a_window_as_large_as_the_map_changes_nothing():
    x = torch.rand(1, 4, 8, 12)
    torch.testing.assert_close(randomized(NAFBlock(4, pool_window=(8, 12)))(x), randomized(NAFBlock(4))(x))
    torch.testing.assert_close(
        randomized(SelectiveScanMixer(4, window=(8, 12)))(x), randomized(SelectiveScanMixer(4))(x)
    )


def test_windows_are_transposed_with_the_map():
    """A window of 4x12 in a map of 8x12 covers whole rows. Transposed blocks see 12x8 and need 12x4."""
    chain = Blocks('LocalNAFScanWindow', 4, 4, pool_window=(4, 12), scan_window=(2, 12))
    assert [block.pool_window for block in chain] == [(12, 4), (12, 4), (4, 12), (4, 12)]
    assert [block.scan.window for block in chain] == [(12, 2), (12, 2), (2, 12), (2, 12)]


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('NAFScann', 'Did you mean NAFScan'),
        ('LocalNAF', 'local_pool_crop'),
        ('LocalNAFScanWindow', 'local_pool_crop|scan_window'),
    ],
)
def test_wrong_names_and_missing_windows(name, message):
    with pytest.raises(ValueError, match=message):
        Blocks(name, 1, 4)


def test_initial_steps_are_between_a_thousandth_and_a_tenth():
    torch.manual_seed(0)
    steps = nn.functional.softplus(SelectiveScanMixer(256).step_bias)
    assert 0.00099 < steps.min() < 0.0012 and 0.08 < steps.max() < 0.101
    assert (steps < 0.01).float().mean() == pytest.approx(0.5, abs=0.1)  # uniform on a logarithmic scale


def test_scan_runs_in_float32_under_autocast():
    mixer = randomized(SelectiveScanMixer(4))
    x = torch.rand(1, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        y = mixer(x)
    torch.testing.assert_close(y.float(), mixer(x), rtol=0.05, atol=0.05)
