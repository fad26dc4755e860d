"""Score networks on images with BasicSR's test pipeline."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeprftv2_plugin import config
from deeprftv2_plugin.basicsr_bridge import pipelines, registration
from deeprftv2_plugin.comparison.candidates import Candidate
from deeprftv2_plugin.config import validation
from deeprftv2_plugin.config.reading import EXTENSIONS
from deeprftv2_plugin.config.section import Section
from deeprftv2_plugin.preflight.findings import Mark
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError

METRICS = ('psnr', 'ssim')
SECTIONS = ('datasets', 'val', 'scale', 'dist_params', 'custom_imports')
"""Sections of an option file that a test of other networks takes over."""


def test_options(data: str, metrics: Sequence[str] | None, device: str) -> dict[str, Any]:
    """Return the options with which all networks are tested.

    Args:
        data: An option file, whose test or validation images are used; the folder of a dataset; or a folder with
            `test_blur.lmdb` and `test_sharp.lmdb` written by `basicsr prepare`.
        metrics: Names of registered metrics; by default those of the option file, or `METRICS` if it has none.
        device: 'cpu' or 'cuda'.

    Raises:
        UserError: The option file cannot be read, or a section is not one.
    """
    if data.endswith(EXTENSIONS):
        given = Section(config.load(data), f'--data {data}')
        sections = {key: given.child(key).values for key in ('datasets', 'val')}
        return as_test({**given.values, **sections}, metrics, device)
    root = Path(data)
    lmdbs = {'dataroot_lq': root / 'test_blur.lmdb', 'dataroot_gt': root / 'test_sharp.lmdb'}
    roots = lmdbs if all(map(os.path.lexists, lmdbs.values())) else {'dataroot': root}
    named = {'name': root.resolve().name, 'type': 'PairedDeblurDataset'}
    datasets = {'test': named | {key: str(path) for key, path in roots.items()}}
    return as_test({'scale': 1, 'datasets': datasets}, metrics, device)


def as_test(given: Mapping[str, Any], metrics: Sequence[str] | None, device: str) -> dict[str, Any]:
    """Convert the options of a training or a test to those of `test_options`, with the same images."""
    options = {key: given[key] for key in SECTIONS if given.get(key) is not None}
    options['datasets'] = {phase: each for phase, each in options['datasets'].items() if phase != 'train'}
    val = options['val'] = {key: value for key, value in options.get('val', {}).items() if key != 'val_freq'}
    if metrics or not val.get('metrics'):
        val['metrics'] = {name: {'type': name} for name in metrics or METRICS}
    val |= {'save_img': False, 'pbar': False}
    return options | {'model_type': 'DeepRFTv2Model', 'num_gpu': int(device == 'cuda'), 'manual_seed': 0}


def require_valid(options: Mapping[str, Any], data: str, metrics: Sequence[str] | None) -> None:
    """Check the images and the metrics, so that mistakes are found before networks are measured.

    Args:
        options: Options from `test_options`.
        data: As in `test_options`.
        metrics: As in `test_options`.

    Raises:
        UserError: The images cannot be read, a metric is unknown, or another option is wrong. The message names the
            option of the command line.
    """
    # These modules import BasicSR, which the new processes that unpickle `score` have not patched yet.
    from deeprftv2_plugin.basicsr_bridge.run_options import complete
    from deeprftv2_plugin.models import DeepRFTv2Model
    from deeprftv2_plugin.preflight.data import check_data

    registration.import_modules(registration.module_names(options.get('custom_imports')))
    root = validation.section_of(options, f'--data {data}')
    validation.check_datasets(root.child('datasets'), is_train=False)
    root.file = '--metrics' if metrics else root.file
    validation.check_val(root.child('val'), DeepRFTv2Model, is_train=False)
    for finding in check_data(complete({**options, 'name': 'compare'}, '', is_train=False)):
        if finding.mark is Mark.ERROR:
            raise UserError(f'--data {data}: {finding.text}')


def score(
    candidate: Candidate, name: str, options: Mapping[str, Any], folder: Path, html: bool = False
) -> dict[str, Any]:
    """Test a network with its weights.

    Args:
        candidate: The network.
        name: Name of the test. The report is written to results/NAME in the folder.
        options: Options from `test_options`.
        folder: Folder for options and results.
        html: Whether to write a page with all images next to the report.

    Returns:
        `metrics`, the mean of each metric by its name, or by 'SET metric' with several datasets; and `test`, the name.

    Raises:
        UserError: The test fails.
    """
    imports = [*candidate.imports, *registration.module_names(options.get('custom_imports'))]
    path = {'pretrain_network_g': candidate.weights, 'strict_load_g': True, **candidate.loading}
    own = {'name': name, 'network_g': candidate.network, 'path': path, 'custom_imports': imports}
    file = folder / 'options' / f'{name}.yml'
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, config.reading.dump({**options, **own}).encode(errors='backslashreplace'))
    pipelines.run_file(str(file), is_train=False, root=str(folder), html='' if html else None)
    sets = [each['name'] for each in options['datasets'].values()]
    found: dict[str, float] = {}
    for each in sets:
        overall = json.loads((folder / 'results' / name / f'{each}.json').read_text('utf-8'))['overall']
        found |= {metric if len(sets) == 1 else f'{each} {metric}': value for metric, value in overall.items()}
    return {'metrics': found, 'test': name}
