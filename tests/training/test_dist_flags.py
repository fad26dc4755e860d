"""Flags and the loss of a step, shared by processes."""

import torch

from deeprftv2_plugin.training.dist_flags import SharedFlags


def share_steps(flags, iterations):
    """Share steps whose loss is their number. The second step requests a stop, and the third is not finite."""
    found = []
    for iteration in iterations:
        finite, loss = torch.tensor(iteration != 3), torch.tensor(float(iteration))
        all_finite, result = flags.share(iteration, finite, loss, leave=iteration == 2)
        assert all_finite == (iteration != 3)
        found.append(result)
    return found


def test_late_results_are_the_same_one_step_later():
    cpu = torch.device('cpu')
    prompt, late = SharedFlags(cpu), SharedFlags(cpu)
    late.late = True  # as on a GPU
    expected = share_steps(prompt, range(1, 5))
    assert [each.loss for each in expected] == [1, 2, 3, 4]
    assert [each.finite for each in expected] == [True, True, False, True]
    assert [each.leave for each in expected] == [False, True, False, False]
    assert share_steps(late, range(1, 5)) == [None, *expected[:3]]
    assert late.settle() == expected[3]
    assert late.settle() is None and prompt.settle() is None
