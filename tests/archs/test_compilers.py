"""The network with compilers, exporters and hooks."""

import pytest
import torch

from deeprftv2_plugin import ops
from tests.archs.toys import network


def test_every_module_with_parameters_fires_its_hooks():
    net, fired = network(), set()
    expected = {name for name, module in net.named_modules() if list(module.parameters(recurse=False))}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda module, args, output, name=name: fired.add(name))
    net(torch.rand(1, 3, 16, 16))
    containers = {name for name in expected if isinstance(net.get_submodule(name), torch.nn.ParameterDict)}
    assert expected - fired == containers and all(name.endswith('alphas') for name in containers)


@pytest.mark.parametrize('reversible', [True, False])
def test_training_compiles_without_a_graph_break(reversible):
    torch._dynamo.reset()
    net, x = network(stages=1, reversible=reversible), torch.rand(1, 3, 16, 16)
    explained = torch._dynamo.explain(net)(x)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


def test_the_compiled_network_is_the_same_in_evaluation():
    torch._dynamo.reset()
    net, x = network().eval(), torch.rand(1, 3, 16, 16)
    compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-5)


def test_the_exported_network_runs_without_this_package():
    """After the decomposition, the program consists of PyTorch's own operators."""
    net, x = network(stages=1).eval(), torch.rand(1, 3, 16, 16)
    program = torch.export.export(net, (x,)).run_decompositions(ops.decompositions())
    targets = {node.target for node in program.graph.nodes if node.op == 'call_function'}
    assert {target.namespace for target in targets if hasattr(target, 'namespace')} == {'aten'}
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_of_a_large_image_is_finite(dtype):
    """The first value of the spectrum of 512x512 pixels is outside of the range of float16."""
    net = network(full_encoder=[['NAF', 1]] * 3, full_decoder=[['NAF', 1]] * 3).eval()
    with torch.no_grad(), torch.autocast('cpu', dtype):
        assert net(torch.ones(1, 3, 512, 512)).isfinite().all()
