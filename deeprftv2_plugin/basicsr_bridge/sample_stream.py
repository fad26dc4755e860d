"""The sample stream of a run: its plan from the options, and its position in a training state."""

from collections.abc import Iterator, Mapping
from typing import Any

from deeprftv2_plugin.data.loading.plan import Plan, Step
from deeprftv2_plugin.training.stages import accumulation_of, gpus_of, stages_of


def make_plan(opt: Mapping[str, Any], length: int) -> Plan:
    """Return the plan that assigns the samples of a dataset of this length to iterations."""
    gpus, stages = gpus_of(opt), stages_of(opt)
    step = gpus * accumulation_of(opt, gpus)
    return Plan(
        length,
        [Step(stage.first, stage.batch * step, stage.gt_size) for stage in stages],
        int(opt['train']['total_iter']),
        opt['world_size'] if opt['dist'] else 1,
        opt['rank'],
        opt['manual_seed'],
        opt['datasets']['train'].get('dataset_enlarge_ratio', 1),
    )


def position(plan: Plan, iteration: int) -> dict[str, Any]:
    """Return the position after an iteration, and the settings on which the order of the following samples depends."""
    following = plan.step_of(min(iteration + 1, plan.total))
    return {
        'samples': plan.samples_until(iteration),
        'seed': plan.seed,
        'number of processes': plan.processes,
        'effective batch': following.batch,
        'number of samples in the data set': plan.length,
        'dataset_enlarge_ratio': plan.ratio,
    }


def resume(plan: Plan, state: Mapping[str, Any]) -> None:
    """Advance a plan to the iteration of a state."""
    done, stream = state['iter'], state.get('stream')
    plan.resume_after(done, plan.samples_until(done) if stream is None else stream['samples'])


def differences(plan: Plan, state: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each difference between a resumed plan and the run that saved the state."""
    stream = state.get('stream')
    if stream is None:
        yield 'The state does not store which samples were used: unchanged settings are assumed.'
        return
    for key, value in position(plan, state['iter']).items():
        before = stream.get(key, value)  # older states have no dataset_enlarge_ratio
        if before != value:
            yield f'Resumed with another {key}: {value}, it was {before}.'
