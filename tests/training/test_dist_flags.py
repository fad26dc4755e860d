"""Flags and the loss of a step, shared by processes."""

import torch

from deeprftv2_plugin.training.dist_flags import SharedFlags


def share_steps(flags, iterations):
    """Share steps whose loss is their number. The second step requests a stop, and the third is not finite."""
    found = []
    for iteration in iterations:
        finite, loss = torch.tensor(iteration != 3), torch.tensor(float(iteration))
        all_finite, mean, result = flags.share(iteration, finite, loss, leave=iteration == 2)
        assert all_finite == (iteration != 3) and mean == iteration
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


def test_the_loss_is_the_mean_over_processes(monkeypatch):
    """The other of two processes has a loss of 5 and a gradient that is not finite, and was asked to stop."""
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda values: values.add_(torch.tensor([1.0, 1.0, 5.0])))
    flags = SharedFlags(torch.device('cpu'), processes=2)
    finite, mean, result = flags.share(7, torch.tensor(True), torch.tensor(3.0), leave=False)
    assert not finite and mean == 4
    assert result == (7, False, True, 4.0)
