"""How many pictures a step of the optimiser sees, on one GPU and on several."""

from collections.abc import Iterator, Mapping
from typing import Any

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.preflight.devices import gpus_here
from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.training.stages import accumulation_of, stages_of


def check_batch(opt: Mapping[str, Any], multiple: int = 1) -> Iterator[Finding]:
    """The stages, and the effective batch of each by the number of GPUs, compared with that of the recipe.

    Args:
        opt: The options.
        multiple: Height and width of what the network takes are multiples of this.
    """
    stages, here = stages_of(opt), gpus_here(opt)
    recipe = opt['train'].get('recipe_gpus')
    for number, stage in enumerate(stages, 1):
        sides = crop_size(stage.gt_size or multiple)
        fits = all(side // opt.get('scale', 1) % multiple == 0 for side in sides)
        text = f'stage {number}: {stage}'
        yield ok(text) if fits else error(f'{text}, but the network takes multiples of {multiple}')
    factor = here * accumulation_of(opt, here)
    text = f'effective batch = batch x GPUs x accumulation{f", by a recipe for {recipe} GPUs" if recipe else ""}\n'
    text += table(opt, sorted({1, 2, 4, 8, here, recipe or 1}), here)
    if recipe in (None, factor):
        yield ok(text)
        return
    seen, meant = (' and '.join(str(stage.batch * times) for stage in stages) for times in (factor, recipe))
    yield warning(f'a step sees {seen} pictures here, but {meant} by the recipe\n{text}')


def table(opt: Mapping[str, Any], counts: list[int], here: int) -> str:
    """A line for each number of GPUs, with an arrow at the number that there is."""
    stages = stages_of(opt)
    columns = ['GPUs', 'accumulation'] + [f'stage {number}' for number in range(1, len(stages) + 1)]
    lines = ['  '.join(columns)]
    for count in counts:
        accumulation = accumulation_of(opt, count)
        values = [count, accumulation, *(stage.batch * count * accumulation for stage in stages)]
        line = '  '.join(f'{value:>{len(column)}}' for column, value in zip(columns, values, strict=True))
        lines.append(f'{line}{"  <- here" if count == here else ""}')
    return '\n'.join(lines)
