"""The selective scan in Triton: the partition of the sequence, and the launches of the kernels."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from deeprftv2_plugin.ops.backends import pytorch
from deeprftv2_plugin.ops.backends.triton_kernels import scan_backward, scan_forward

# A program is one warp and holds all states of up to 32 channels, but at most 256 numbers: the backward pass needs
# eight matrices of this size, and more than 255 registers per lane spill.
CHANNELS = 32
STATES = 256

# With more states, a program would have fewer than 8 channels, the smallest row that memory transfers at once.
MOST_STATES = 32

# Maximum and minimum number of positions per program. It is halved while there are too few programs to keep a large GPU
# busy. Both are multiples of CHUNK.
LONGEST = 128
SHORTEST = 32
PROGRAMS = 4096

# The state before every chunk is kept for the backward pass, which recomputes the states in between. A multiple of 4.
CHUNK = 16

# Number of segments and states that a program of the kernel `carry` processes at a time.
CARRIED = 128
CARRIED_STATES = 16


def scan_entries_shape(batch: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    """Return the shape of what `selective_scan` keeps for the backward pass: the state before every chunk."""
    if states > MOST_STATES:
        return pytorch.scan_entries_shape(batch, length, channels, states)
    return batch, -(-length // CHUNK), states, channels


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    """Return y and, with `keep`, the states before every chunk.

    A long sequence with few channels would leave a GPU idle, so programs also run in parallel along the sequence. The
    first kernel computes the state at the end of every segment as if it started from zero. The second one computes from
    these the state before every segment, and the third one the output of every segment. Sequences are read in memory
    order: the lanes of a program are channels.
    """
    if A.shape[1] > MOST_STATES:
        return pytorch.selective_scan(u, delta, A, B, C, D, delta_bias, keep)
    u, delta, B, C = (t.contiguous() for t in (u, delta, B, C))
    A, D, delta_bias = (t.float().contiguous() for t in (A.t(), D, delta_bias))
    plan = _Plan.of(u, B.shape[2])
    y = torch.empty_like(u, dtype=torch.float32)
    batch, length, channels = u.shape
    entries = y.new_empty(scan_entries_shape(batch, length, channels, plan.states) if keep else 0)
    starts = plan.carry(u, delta, B, A, delta_bias, reverse=False)
    plan.launch(scan_forward.outputs, u, delta, B, C, A, D, delta_bias, starts, y, entries, CHUNK=CHUNK, KEEP=keep)
    return y, entries


def selective_scan_backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    entries: Tensor,
) -> tuple[Tensor, ...]:
    """Return the gradients with respect to u, delta, A, B, C, D and delta_bias.

    Gradients with respect to states are computed in the same three steps, from the last segment to the first.
    """
    if A.shape[1] > MOST_STATES:
        return pytorch.selective_scan_backward(dy, u, delta, A, B, C, D, delta_bias, entries)
    types = [t.dtype for t in (A, B, C, D, delta_bias)]
    dy, u, delta, B, C = (t.contiguous() for t in (dy, u, delta, B, C))
    A, D, delta_bias = (t.float().contiguous() for t in (A.t(), D, delta_bias))
    plan = _Plan.of(u, B.shape[2])
    wanted = plan.carry(dy, delta, C, A, delta_bias, reverse=True)
    du, ddelta = torch.empty_like(u), torch.empty_like(delta)
    # Every program writes its part of these, and the parts are summed here. With atomic additions instead, results
    # would depend on the order in which programs finish.
    dB, dC = (A.new_empty(plan.groups, *B.shape) for _ in range(2))
    dA, dD, dbias = plan.new_states(), plan.new_sums(), plan.new_sums()
    inputs = (u, delta, B, C, dy, A, D, delta_bias, entries, wanted)
    plan.launch(scan_backward.gradients, *inputs, du, ddelta, dB, dC, dA, dD, dbias, plan.batch, CHUNK=CHUNK)
    sums = (dA.sum((0, 1)).t(), dB.sum(0), dC.sum(0), dD.sum((0, 1)), dbias.sum((0, 1)))
    dA, dB, dC, dD, dbias = (t.to(dtype).contiguous() for t, dtype in zip(sums, types, strict=True))
    return du, ddelta, dA, dB, dC, dD, dbias


class _Plan(NamedTuple):
    """The partition of a scan into segments of `size` positions and blocks of channels."""

    batch: int
    length: int
    channels: int
    states: int
    block_n: int
    block_d: int
    size: int
    device: torch.device

    @classmethod
    def of(cls, u, states):
        batch, length, channels = u.shape
        # at least 2, since the interpreter of Triton 3.2 ignores masks of one element
        block_n = max(2, triton.next_power_of_2(states))
        block_d = min(CHANNELS, STATES // block_n)
        size = LONGEST
        while size > SHORTEST and batch * triton.cdiv(channels, block_d) * triton.cdiv(length, size) < PROGRAMS:
            size //= 2
        return cls(batch, length, channels, states, block_n, block_d, size, u.device)

    @property
    def segments(self):
        return triton.cdiv(self.length, self.size)

    @property
    def groups(self):
        """The number of blocks of channels."""
        return triton.cdiv(self.channels, self.block_d)

    def new_states(self):
        """Return an uninitialized tensor with a number for every state of every segment."""
        shape = (self.batch, self.segments, self.states, self.channels)
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def new_sums(self):
        """Return an uninitialized tensor with a number for every channel of every segment."""
        return torch.empty(self.batch, self.segments, self.channels, dtype=torch.float32, device=self.device)

    def launch(self, kernel, *arguments, **constants):
        """Run a program for each segment and block of channels."""
        kernel[(self.batch * self.segments, self.groups)](
            *arguments,
            self.length,
            self.channels,
            self.segments,
            self.size,
            N=self.states,
            BLOCK_N=self.block_n,
            BLOCK_D=self.block_d,
            num_warps=1,
            **constants,
        )

    def carry(self, x, delta, weights, A, delta_bias, reverse):
        """Return the state before every segment or, in reverse, the gradient with respect to the state after it."""
        if self.segments == 1:
            return self.new_states().zero_()
        ends, sums, starts = self.new_states(), self.new_sums(), self.new_states()
        self.launch(scan_forward.segment_ends, x, delta, weights, A, delta_bias, ends, sums, REVERSE=reverse)
        grid = (self.batch, triton.cdiv(self.states * self.channels, CARRIED_STATES))
        scan_forward.carry[grid](
            ends,
            sums,
            A,
            starts,
            self.channels,
            self.segments,
            N=self.states,
            BLOCK_S=min(CARRIED, triton.next_power_of_2(self.segments)),
            BLOCK=CARRIED_STATES,
            REVERSE=reverse,
            num_warps=4,
        )
        return starts
