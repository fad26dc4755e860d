from collections import Counter

import pytest

from deeprftv2_plugin.data.loading.plan import Plan, Step


def plan(processes=1, rank=0, batch=4, total=12, length=10, steps=None, **settings):
    return Plan(length, steps or [Step(1, batch, 16)], total, processes, rank, seed=3, **settings)


def batches(plan, first_epoch=None):
    """Return all batches of a plan, epoch by epoch as in BasicSR's training loop."""
    found = []
    for epoch in range(plan.epoch_of(plan.done + 1) if first_epoch is None else first_epoch, 100):
        plan.set_epoch(epoch)
        assert len(plan) == len(plan.iterations)
        found += list(plan)
    return found


def test_epoch_is_one_pass_over_the_dataset():
    draws = [draw for batch in batches(plan(total=10)) for draw in batch]
    assert [draw.position for draw in draws] == list(range(40))
    for epoch in range(4):
        assert Counter(draw.sample for draw in draws[10 * epoch : 10 * epoch + 10]) == Counter(range(10))
    assert draws[:10] != draws[10:20]


def test_iteration_belongs_to_the_epoch_in_which_it_begins():
    made = plan(total=5)
    assert [made.epoch_of(iteration) for iteration in range(1, 6)] == [0, 0, 0, 1, 1]
    made.set_epoch(1)
    assert list(made.iterations) == [4, 5]


def test_enlarged_dataset_is_shuffled_as_a_whole():
    made = plan(total=5, ratio=2)
    assert [made.epoch_of(iteration) for iteration in range(1, 6)] == [0] * 5
    assert Counter(draw.sample for batch in batches(made) for draw in batch) == Counter({i: 2 for i in range(10)})


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_split_the_batches_of_a_single_process(processes):
    together = zip(*(batches(plan(processes, rank)) for rank in range(processes)), strict=True)
    assert [sum(parts, []) for parts in together] == batches(plan())


@pytest.mark.parametrize('done', [1, 3, 7, 11])
@pytest.mark.parametrize('processes', [1, 2])
def test_resumed_plan_matches_an_uninterrupted_one(done, processes):
    steps = [Step(1, 4, 16), Step(6, 2, [8, 24])]
    whole = batches(plan(steps=steps))
    parts = []
    for rank in range(processes):
        rest = plan(processes, rank, steps=steps)
        rest.resume_after(done, plan(steps=steps).samples_until(done))
        parts.append(batches(rest))
    assert [sum(each, []) for each in zip(*parts, strict=True)] == whole[done:]


def test_batch_size_can_change_when_resuming():
    first, rest = plan(batch=4), plan(batch=6)
    rest.resume_after(5, first.samples_until(5))
    draws = [draw for batch in batches(rest) for draw in batch]
    assert [draw.position for draw in draws] == list(range(20, 20 + 7 * 6))
    assert draws[0].sample == batches(first)[5][0].sample


def test_stages_change_crop_and_batch():
    found = batches(plan(steps=[Step(1, 4, 16), Step(6, 2, [8, 24]), Step(9, 8, 32)]))
    assert [(len(batch), batch[0].gt_size) for batch in found] == [(4, 16)] * 5 + [(2, [8, 24])] * 3 + [(8, 32)] * 4


def test_finished_plan_is_empty():
    made = plan()
    made.resume_after(12, 48)
    assert batches(made, made.epoch_of(12)) == []
