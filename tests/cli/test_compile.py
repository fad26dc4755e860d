"""A training with torch.compile, which really compiles."""

import json
from pathlib import Path

import pytest
import torch

from deeprftv2_plugin import cli
from tests.cli.runs import options, write

BLOCKS = [['NAF', 1]] * 3
NETWORK = {'type': 'DeepRFTv2', 'variant': 'T', 'width': 2, 'kernel_width': 2, 'stages': 1, 'reversible': False}
NETWORK |= {f'{scale}_{part}': BLOCKS for scale in ('full', 'half') for part in ('encoder', 'decoder')}


@pytest.mark.slow
def test_a_compiled_training_takes_the_steps_of_an_eager_one(folder):
    losses = {}
    for compiled in (False, True):
        opt = options() | {'name': f'compiled_{compiled}', 'model_type': 'DeepRFTv2Model', 'network_g': NETWORK}
        opt['train'] |= {'compile': compiled, 'total_iter': 2}
        del opt['val'], opt['datasets']['val']
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        assert cli.main(['train', '-opt', write(folder, opt)]) == 0
        lines = Path('experiments', opt['name'], 'metrics.jsonl').read_text().splitlines()
        losses[compiled] = [record['l_total'] for record in map(json.loads, lines) if 'l_total' in record]
        assert bool(torch._dynamo.utils.counters['frames']['ok']) == compiled
        assert not torch._dynamo.utils.counters['graph_break']
    assert len(losses[True]) == 2
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
