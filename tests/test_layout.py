"""The package's floors: imports point down, without cycles, and the lower floors do not import BasicSR."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = 'deeprftv2_plugin'
ROOT = Path(__file__).parents[1] / PACKAGE

FLOORS = (
    ('utils', 'version'),
    ('data.storage', 'ops', 'metrics'),
    ('layers', 'losses', 'data.blur', 'data.layouts'),
    ('data.preparation',),
    ('data.datasets',),
    ('data.loading',),
    ('data',),
    ('archs',),
    ('checkpoints',),
    ('inference', 'training'),
    ('evaluation',),
    ('models',),
    ('config',),
    ('preflight',),
    ('basicsr_bridge',),
    ('comparison',),
    ('',),  # __init__.py of the package
    ('cli',),
    ('__main__',),
)
"""The folders from the ground up. Folders on one floor do not import each other."""

WITHOUT_BASICSR = ('ops', 'layers', 'archs', 'losses', 'metrics', 'inference', 'data.storage')


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob('*.py'))}


def imported(path):
    """Return the modules that a file's import statements name, including those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}: relative import'
            names = {f'{node.module}.{alias.name}' for alias in node.names}
            modules = names & FILES.keys()
            found |= modules
            if modules != names:
                found.add(node.module)
    return found


IMPORTS = {name: imported(path) for name, path in FILES.items()}
WITHIN = {name: targets & FILES.keys() for name, targets in IMPORTS.items()}


def folder(module):
    """Return the entry of FLOORS to which a module belongs."""
    inner = module.removeprefix(PACKAGE).removeprefix('.')
    if not inner:
        return ''
    known = [name for floor in FLOORS for name in floor if name and f'{inner}.'.startswith(f'{name}.')]
    assert known, f'{module} is in no folder of FLOORS'
    return max(known, key=len)


def floor(module):
    return next(number for number, folders in enumerate(FLOORS) if folder(module) in folders)


def uses_basicsr(module):
    return any(target.split('.')[0] == 'basicsr' for target in IMPORTS[module])


@pytest.mark.parametrize('name', [name for names in FLOORS for name in names if name])
def test_every_floor_exists(name):
    assert f'{PACKAGE}.{name}' in FILES


def test_imports_point_down():
    wrong = [
        f'{module} imports {target}'
        for module, targets in WITHIN.items()
        for target in targets
        if folder(target) != folder(module) and floor(target) >= floor(module)
    ]
    assert not wrong, '\n'.join(sorted(wrong))


def test_no_file_imports_itself_through_others():
    try:
        TopologicalSorter(WITHIN).prepare()
    except CycleError as error:
        pytest.fail(' -> '.join(error.args[1]))


@pytest.mark.parametrize('name', WITHOUT_BASICSR)
def test_no_basicsr_in(name):
    reached, waiting = set(), {module for module in FILES if folder(module) == name}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= WITHIN[module] - reached
    assert reached
    assert sorted(filter(uses_basicsr, reached)) == []


def test_mock_is_only_used_in_tests():
    wrong = [module for module, targets in IMPORTS.items() if any(each.startswith('unittest') for each in targets)]
    assert wrong == []
