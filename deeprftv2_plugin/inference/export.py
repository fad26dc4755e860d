"""Export a network to a file that runs without this package: ONNX, or a program of `torch.export`."""

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.nn.modules.module import register_module_forward_pre_hook

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.ops.export_forms import Exportable
from deeprftv2_plugin.utils.atomic_io import write_whole, writing
from deeprftv2_plugin.utils.errors import UserError, first_line

SUFFIXES = ('.onnx', '.pt2')
MIN_SIZE = 16
"""Smallest height and width of the images of an exported network without windows, in pixels."""
OPSET = 20
TOLERANCE = 1e-4
"""Largest accepted difference between the exported network and the network in any pixel."""
INPUT, OUTPUT = 'blurry', 'sharp'
_MAX_SIZE = 2**15
_SEED = 0

# ONNX nodes that pad the image by reflection at the right and at the bottom, and crop the result.
_PAD = """
    size = Shape <start = 2> ({input})
    opposite = Neg (size)
    multiple = Constant <value = int64[1] {{{multiple}}}> ()
    missing = Mod (opposite, multiple)
    origin = Constant <value = int64[2] {{0, 0}}> ()
    margins = Concat <axis = 0> (origin, missing)
    axes = Constant <value = int64[2] {{2, 3}}> ()
    {padded} = Pad <mode = "reflect"> ({input}, margins, , axes)
"""
_CROP = '{output} = Slice ({whole}, origin, size, axes)'


def export_network(net: DeepRFTv2, path: str | Path, size: Sequence[int] | None = None) -> list[str]:
    """Export a network, compare the file with the network, and write it.

    The exported network takes images (1, C, H, W) in [0, 1] and returns images of the same height and width, clamped
    to [0, 1]. A `.pt2` file for any size requires multiples of `net.size_multiple`; other files pad the image
    themselves, as `restore` does.

    Args:
        net: The network. It is set to evaluation mode and moved to the CPU.
        path: Output file, `.onnx` or `.pt2`.
        size: Height and width of the images; None for any size.

    Returns:
        Lines that describe the file for its user.

    Raises:
        UserError: The suffix or the size is not suitable, packages are missing, the network cannot be exported, the
            results of the exported network differ, or the file cannot be written. No file is written in these cases.
    """
    path = Path(path)
    check_target(path, size)
    net = net.cpu().eval()
    failed = f'{path}: the network cannot be exported for ' + (
        'this size' if size else 'any size; try a fixed size with --size HxW'
    )
    with _quiet():
        try:
            program = trace(net, size)
            data = _onnx_file(net, program, size) if path.suffix == '.onnx' else _program_file(net, program, size)
            checked = check_file(net, data, path, size)
        except UserError:
            raise
        except Exception as error:  # the exporters have no common exception class, and memory may not suffice
            raise UserError(f'{failed} ({first_line(error)})') from error
    with writing(path):
        write_whole(path, data)
    described = describe(net, path.suffix, size)
    return [
        f'{path}: {len(data) / 1e6:.1f} MB, {checked}',
        *(f'  {key}: {text}' for key, text in described.items()),
    ]


def least_size(net: DeepRFTv2) -> int:
    """Return the smallest height and width of the images if a network is exported for any size.

    With kernel, scan or pooling windows, it is two multiples of `net.size_multiple` larger than the largest window:
    a map that one window covers would require another program.
    """
    found, side = [], 4 * MIN_SIZE

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for name in ('window', 'pool_window'):
            if window := getattr(module, name, None):
                found.append(max(window) * side // inputs[0].shape[-2])

    with torch.no_grad(), register_module_forward_pre_hook(measure):
        net(torch.zeros(1, _channels(net), side, side))
    multiple = net.size_multiple
    return multiple * (math.ceil(max(found) / multiple) + 2) if found else MIN_SIZE


def check_target(path: Path, size: Sequence[int] | None = None) -> None:
    """Check the arguments of an export and the required packages.

    Raises:
        UserError: The suffix or the size is not suitable, or packages are missing.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f'-o {path}: expected a file name that ends in {" or ".join(SUFFIXES)}')
    if size is not None and min(size) < MIN_SIZE:
        raise UserError(
            f'the size is {"x".join(map(str, size))} pixels (height x width), expected at least {MIN_SIZE}x{MIN_SIZE}'
        )
    if path.suffix == '.onnx':
        for name in ('onnx', 'onnxruntime', 'onnxscript'):
            _package(name)


def describe(net: DeepRFTv2, suffix: str, size: Sequence[int] | None = None) -> dict[str, str]:
    """Describe the input and the output of an exported network. The files contain this as metadata."""
    channels, multiple = _channels(net), net.size_multiple
    if size is not None:
        sizes = '{}x{} pixels (height x width)'.format(*size)
    else:
        least = least_size(net)
        sizes = f'any, at least {least}x{least} pixels'
        if suffix == '.pt2':
            sizes = f'multiples of {multiple}, at least {least}x{least} pixels; pad other images and crop the result'
    return {
        'input': f'{INPUT}, float32 (1, {channels}, height, width), values from 0 to 1',
        'output': f'{OUTPUT}, of the same height, width and range',
        'channel_order': 'RGB' if channels == 3 else 'as in training',
        'size': sizes,
        'size_multiple': str(multiple if suffix == '.pt2' and size is None else 1),
        'scale': '1',
    }


class _Image(nn.Module):
    """The module that is exported: a network with clamping of the result.

    Args:
        net: The network.
        pads: Whether to pad images to a multiple of `net.size_multiple`.
    """

    def __init__(self, net: DeepRFTv2, pads: bool):
        super().__init__()
        self.net, self.pads = net, pads

    def forward(self, image: Tensor) -> Tensor:
        with Exportable():
            return (restore(self.net, image) if self.pads else self.net(image)).clamp(0, 1)


def trace(net: DeepRFTv2, size: Sequence[int] | None = None) -> ExportedProgram:
    """Export a network with `torch.export`, using PyTorch's operators only.

    Args:
        net: The network, on the CPU and in evaluation mode.
        size: Height and width of the images; None for any multiples of `net.size_multiple`.
    """
    sizes = None
    if size is None:
        multiple, least = net.size_multiple, least_size(net)
        bounds = {'min': least // multiple, 'max': _MAX_SIZE // multiple}
        sizes = ({2: multiple * Dim('rows', **bounds), 3: multiple * Dim('columns', **bounds)},)
        size = least + 4 * multiple, least + 3 * multiple
    image = torch.zeros(1, _channels(net), *size)
    with torch.no_grad():
        program = torch.export.export(_Image(net, sizes is None), (image,), dynamic_shapes=sizes)
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            _clean(module)
    return program


def _clean(module: GraphModule) -> None:
    """Remove parts of a graph that have no effect on its results."""
    permute = torch.ops.aten.permute.default
    for node in module.graph.nodes:
        # stack traces are slow to copy and contain paths of this machine
        node.meta = {key: value for key, value in node.meta.items() if key in ('val', 'tensor_meta')}
        if node.target is permute and node.args[0].target is permute:
            first, second = node.args[0].args[1], node.args[1]
            if [first[axis] for axis in second] == list(range(len(first))):
                node.replace_all_uses_with(node.args[0].args[0])
    for node in reversed(module.graph.nodes):
        if node.target in (torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast):
            module.graph.erase_node(node)  # only disables autocast, which is not enabled
    module.graph.eliminate_dead_code()
    module.recompile()


def check_file(net: DeepRFTv2, data: bytes, path: Path, size: Sequence[int] | None = None) -> str:
    """Compare an exported network with the network, at two sizes or with two images of the fixed size.

    Args:
        net: The network, on the CPU and in evaluation mode.
        data: Content of the exported file.
        path: Path of the exported file, whose suffix determines the format.
        size: Height and width of the images; None for any size.

    Returns:
        A sentence with the largest difference.

    Raises:
        UserError: The results differ by more than `TOLERANCE`.
    """
    run = _session(data) if path.suffix == '.onnx' else torch.export.load(io.BytesIO(data)).module()
    generator = torch.Generator().manual_seed(_SEED)
    sizes = [size, size] if size else _checked_sizes(net, path.suffix)
    largest = 0.0
    for height, width in sizes:
        image = torch.rand(1, _channels(net), height, width, generator=generator)
        with torch.no_grad():
            difference = (run(image) - restore(net, image).clamp(0, 1)).abs().max().item()
        if not difference <= TOLERANCE:
            raise UserError(
                f'{path}: not written, since the exported network differs from the network by {difference:.2g} at '
                f'{height}x{width} pixels, more than {TOLERANCE:g}. Try other versions of the '
                'packages, or the other format'
            )
        largest = max(largest, difference)
    compared = ' and '.join(dict.fromkeys(f'{height}x{width}' for height, width in sizes))
    return f'differs from the network by at most {largest:.1e} at {compared} pixels'


def _checked_sizes(net: DeepRFTv2, suffix: str) -> list[tuple[int, int]]:
    """Return two sizes of images for a network that was exported for any size."""
    least, multiple = least_size(net), net.size_multiple
    odd = 3 if suffix == '.onnx' else 0
    return [(least + 5 * multiple - odd, least), (least, least + 9 * multiple - odd)]


def _onnx_file(net: DeepRFTv2, program: ExportedProgram, size: Sequence[int] | None) -> bytes:
    # The pattern rewriter of the default optimization takes a fifth of the time and does not make the result faster.
    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        optimize=False,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
    )
    assert exported is not None  # None is returned only for modules that are not exported programs
    optimizer = _package('onnxscript.optimizer').optimizer
    optimizer.fold_constants(exported.model)
    optimizer.remove_unused_nodes(exported.model)
    model = exported.model_proto
    model.graph.name = type(net).__name__
    if size is None:
        # With the shapes of the traced size, the runtime would reuse buffers that are too small for other sizes.
        del model.graph.value_info[:]
        _pad_and_crop(model.graph, net.size_multiple)
    onnx = _package('onnx')
    onnx.helper.set_model_props(model, describe(net, '.onnx', size))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _pad_and_crop(graph: Any, multiple: int) -> None:
    """Extend an ONNX graph for multiples of a size to images of any size, in place."""
    parse = _package('onnx').parser.parse_node
    padded, whole = f'padded_{INPUT}', f'whole_{OUTPUT}'
    for node in graph.node:
        node.input[:] = [padded if name == INPUT else name for name in node.input]
        node.output[:] = [whole if name == OUTPUT else name for name in node.output]
    lines = _PAD.format(input=INPUT, padded=padded, multiple=multiple).strip().splitlines()
    nodes = [*map(parse, lines), *graph.node, parse(_CROP.format(output=OUTPUT, whole=whole))]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (graph.input[0], graph.output[0]):
        for dimension, name in zip(value.type.tensor_type.shape.dim[2:], ('height', 'width'), strict=True):
            dimension.dim_param = name


def _program_file(net: DeepRFTv2, program: ExportedProgram, size: Sequence[int] | None) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={'metadata.json': json.dumps(describe(net, '.pt2', size))})
    return buffer.getvalue()


def _session(data: bytes) -> Any:
    session = _package('onnxruntime').InferenceSession(data, providers=['CPUExecutionProvider'])
    return lambda image: torch.from_numpy(session.run(None, {INPUT: image.numpy()})[0])


def _channels(net: DeepRFTv2) -> int:
    return next(weight for name, weight in net.named_parameters() if name.endswith('before.first.weight')).shape[1]


def _package(name: str) -> ModuleType:
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(
            f"{name} is not installed. To export to ONNX, install it: pip install 'deeprftv2-plugin[export]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages and warnings of PyTorch and the exporters, which are not meant for users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)
