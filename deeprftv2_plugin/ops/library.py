"""Register operators with `torch.library`, so that compiled programs can use them.

An operator `deeprftv2::NAME` has a schema, one kernel that runs the backend chosen by `backends.choose`, a fake
implementation with the shapes for compilers, autograd, and a FLOP formula for `torch.utils.flop_counter`. The modules
of this package register operators next to the functions that call them. `decompositions` maps every operator to plain
PyTorch for export.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from deeprftv2_plugin.ops import backends

NAMESPACE = 'deeprftv2'
_library = torch.library.Library(NAMESPACE, 'DEF')
_references: dict[torch._ops.OpOverload, Callable | None] = {}


def operator(
    schema: str,
    fake: Callable,
    backward: Callable | None = None,
    save: Callable | None = None,
    flops: Callable[..., int] | None = None,
    reference: Callable | None = None,
) -> torch._ops.OpOverload:
    """Register an operator that is implemented by the backends' functions of the same name.

    Args:
        schema: Name, arguments and results in the syntax of `torch.library`; the first argument is a tensor.
        fake: Returns empty outputs with the shapes, types and strides of the kernel's.
        backward: `backward(ctx, *grads)`, which returns the gradients of all arguments. An operator without it is not
            differentiable, such as one that computes gradients.
        save: `save(ctx, inputs, output)`, which stores on ctx what `backward` needs.
        flops: Number of operations, from the shapes of tensors and the values of other arguments.
        reference: The decomposition, free of in-place operations; by default the function of the same name in the
            backend `pytorch`.

    Returns:
        The operator, a callable.
    """
    name = schema.partition('(')[0]
    qualified = f'{NAMESPACE}::{name}'

    def kernel(first: Tensor, *rest):
        with torch.autocast(first.device.type, enabled=False):
            return backends.choose(name, first)(first, *rest)

    _library.define(schema)
    _library.impl(name, kernel, 'CompositeExplicitAutograd')
    torch.library.register_fake(qualified, fake, lib=_library)
    torch.library.register_autograd(
        qualified, backward or _not_differentiable, setup_context=save or _save_nothing, lib=_library
    )
    packet = getattr(torch.ops.deeprftv2, name)
    if flops is not None:
        register_flop_formula(packet)(lambda *shapes, out_shape=None, **kwargs: flops(*shapes))
    if backward is not None:
        _references[packet.default] = reference
    return packet.default


def decompositions() -> dict[torch._ops.OpOverload, Callable]:
    """Return the differentiable operators with their references in plain PyTorch.

    Pass the table to `torch.export.ExportedProgram.run_decompositions` to get a program that runs without this package.
    """
    pytorch = backends.load('pytorch')
    return {each: reference or getattr(pytorch, _name(each)) for each, reference in _references.items()}


def _name(overload):
    return overload.name().partition('::')[2].partition('.')[0]


def empty_map(x: Tensor, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty map like x in channels_last, optionally with other channels or another type."""
    batch, own, height, width = x.shape
    return x.new_empty((batch, height, width, own if channels is None else channels), dtype=dtype).permute(0, 3, 1, 2)


def empty_like_all(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return empty contiguous tensors of the same shapes and types, for example for gradients of parameters."""
    return tuple(t.new_empty(t.shape) for t in tensors)


def _save_nothing(ctx, inputs, output):
    pass


def _not_differentiable(ctx, *grads):
    raise RuntimeError('the operators of deeprftv2_plugin are differentiable once, not twice')
