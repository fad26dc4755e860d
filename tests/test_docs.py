"""The documentation: it builds without warnings, its commands and examples work, and it describes every public name."""

import doctest
import importlib
import inspect
import json
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import deeprftv2_plugin
from deeprftv2_plugin import cli, config
from deeprftv2_plugin.basicsr_bridge import registration

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(DOCS.glob('*.md'))]
BLOCK = re.compile(r'^( *)```(\w+)\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
RUNNERS = ('basicsr', 'deeprftv2', 'python', 'bash', 'sbatch', 'torchrun')
EXAMPLES = (
    'archs.AblatedDeepRFTv2',
    'archs.DeepRFTv2',
    'archs.KernelHead',
    'inference.Restorer',
    'inference.restore',
    'layers.FourierKernelEstimator',
    'losses.FFTL1Loss',
    'losses.FocalFrequencyLoss',
    'losses.FourierLoss',
    'losses.MultiScaleLoss',
    'losses.PSNRLoss',
    'metrics.mae',
    'metrics.psnr',
    'metrics.psnr_gain',
    'metrics.ssim',
    'metrics.ssim_3d',
    'ops.irfft2',
    'ops.psf_from_otf',
    'ops.selective_scan',
)


def public_names():
    registration.register()  # patches BasicSR, which some packages import
    found = pkgutil.walk_packages(deeprftv2_plugin.__path__, 'deeprftv2_plugin.')
    packages = [deeprftv2_plugin, *(importlib.import_module(each.name) for each in found if each.ispkg)]
    return [
        f'{package.__name__}.{name}'
        for package in packages
        for name in getattr(package, '__all__', ())
        if name[0] != '_'
    ]


def blocks(page, language):
    return [
        '\n'.join(line.removeprefix(indent) for line in text.splitlines())
        for indent, found, text in BLOCK.findall(page.read_text('utf-8'))
        if found == language
    ]


def commands(page):
    """Return the command lines of a page, without leading variables and comments."""
    for block in blocks(page, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
                words.pop(0)
            if words and words[0] in RUNNERS:
                yield words


def subcommand(words):
    """Return the arguments of `basicsr` in a command line, or None if it runs another command."""
    if words[0] in ('basicsr', 'deeprftv2'):
        return words[1:]
    if words[0] in ('torchrun', 'python') and 'deeprftv2_plugin' in words:
        return words[words.index('deeprftv2_plugin') + 1 :]
    if words[0] in ('bash', 'sbatch') and any('scripts/train_' in word for word in words):
        script = next(index for index, word in enumerate(words) if 'scripts/train_' in word)
        return ['train', *words[script + 1 :]]
    return None


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('sphinx')
    folder = tmp_path_factory.mktemp('site')
    arguments = ['-q', '-W', '--keep-going', '-d', folder / 'trees', DOCS, folder / 'html']
    process = subprocess.run([sys.executable, '-m', 'sphinx', *arguments], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return folder / 'html'


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A working directory with this checkout's option files and scripts, to which pages can add files."""
    for name in ('options', 'scripts'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_site_builds_without_warnings_and_has_every_public_name(site):
    from sphinx.util.inventory import InventoryFile

    with open(site / 'objects.inv', 'rb') as file:
        inventory = InventoryFile.load(file, '', lambda base, path: path)
    entries = {name for kind, found in inventory.items() if kind.startswith('py:') for name in found}
    missing = [name for name in public_names() if name not in entries]
    assert not missing


def test_every_page_is_in_the_navigation_and_every_image_exists(site):
    front = (site / 'index.html').read_text('utf-8')
    for page in DOCS.glob('*.md'):
        assert f'{page.stem}.html' in front or page.stem == 'index'
        for image in re.findall(r'!\[[^]]*\]\(([^)]+)\)', page.read_text('utf-8')):
            assert (DOCS / image).is_file()


def test_pages_load_nothing_from_other_sites(site):
    loading = re.compile(r'<(?!a\b)[^>]*\b(?:src|href)="(?:\w+:)?//[^>]*>|@import|url\(["\']?https?:')
    for page in [*site.rglob('*.html'), *site.rglob('*.css')]:
        assert not (found := loading.search(page.read_text('utf-8'))), f'{page}: {found[0]}'
    assert '<math xmlns' in (site / 'model.html').read_text('utf-8')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_commands_name_files_subcommands_and_options_that_exist(page, checkout):
    from deeprftv2_plugin.config import validation

    registration.register()
    for text in blocks(page, 'yaml'):
        if name := re.match(r'# (options/\S+\.yml)\n', text):
            (checkout / name[1]).write_text(text)
    for words in commands(page):
        for word in words:
            if word.startswith(('scripts/', 'options/')):
                assert (checkout / word).is_file(), word
        if words[0] == 'python' and words[1].startswith('scripts/'):
            script = '\n'.join(path.read_text('utf-8') for path in (ROOT / 'scripts').rglob('*.py'))
            for flag in (word for word in words if word.startswith('--')):
                assert f"'{flag}'" in script, flag
        arguments = subcommand(words)
        if arguments is None or arguments == ['--version']:
            continue
        args = cli.make_parser().parse_args(arguments)
        if getattr(args, 'opt', None):
            opt = config.load(args.opt, args.force_yml)
            validation.validate(opt, args.opt, 'train' in opt, args.force_yml)


def test_the_pages_have_commands():
    assert sum(1 for page in PAGES for _ in commands(page)) > 20


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_linked_files_and_option_files_exist(page):
    text = page.read_text('utf-8')
    for target in re.findall(r'\]\(([^)#\s]+)', text):
        if '://' not in target:
            assert (page.parent / target).exists(), target
    for name in re.findall(r'\b(?:options|scripts|docs)/[\w/]+\.(?:yml|sh|py|md|png|svg)\b', text):
        assert (ROOT / name).is_file() or f'# {name}\n' in text, name


def test_the_tables_of_the_evidence_are_those_of_its_files():
    registration.register()  # patches BasicSR, which these modules import
    from deeprftv2_plugin.comparison import pairing
    from deeprftv2_plugin.evaluation import kernel_evidence

    page = (DOCS / 'evidence.md').read_text('utf-8').splitlines()
    for path in DOCS.glob('evidence/*.json'):
        result = json.loads(path.read_text('utf-8'))
        if path.stem == 'kernels':
            lines = kernel_evidence.tables(result).splitlines()
        elif 'reference' in result and not path.stem.endswith('_tiles'):
            runs = [
                {'candidate': name, 'seed': seed, 'metrics': {metric: each['scores'][seed]}}
                for name, metrics in result['networks'].items()
                for metric, each in metrics.items()
                for seed in each['scores']
            ]
            found = pairing.differences(runs, result['reference'])
            lines = pairing.lines_of(found, result['reference'])
        else:
            continue
        assert not {*lines} - {*page}, path


def test_the_architecture_page_names_existing_files_once_each():
    text = (DOCS / 'architecture.md').read_text('utf-8')
    paths = re.findall(r'`((?:\w+/)+(?:\w+\.py)?)`', text.partition('## Floors')[0].partition('## The path')[2])
    assert len(paths) > 20 and len(set(paths)) == len(paths)
    assert all((ROOT / 'deeprftv2_plugin' / path).exists() for path in paths)


@pytest.mark.parametrize('name', EXAMPLES)
def test_examples_in_docstrings_work(name):
    torch.manual_seed(0)
    package, _, attribute = name.rpartition('.')
    subject = getattr(importlib.import_module(f'deeprftv2_plugin.{package}'), attribute)
    subject = inspect.unwrap(subject)
    (example,) = doctest.DocTestFinder(recurse=False).find(subject, attribute, globs={})
    assert example.examples
    results = doctest.DocTestRunner().run(example)
    assert results.failed == 0
