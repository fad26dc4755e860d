"""Configuration of Sphinx. To build the site: python -m sphinx -W docs docs/_build."""

import importlib
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import deeprftv2_plugin

HERE = Path(__file__).parent

project = 'DeepRFTv2 for BasicSR'
author = 'The DeepRFTv2 plugin developers'
copyright = author
version = release = deeprftv2_plugin.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
html_theme = 'furo'
html_math_renderer = 'mathml'  # needs no script, unlike MathJax
html_title = project
html_static_path = []

myst_enable_extensions = ['colon_fence', 'dollarmath']
myst_heading_anchors = 3
default_role = 'code'  # single backticks in docstrings

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_inherit_docstrings = False  # otherwise every forward has the docstring of nn.Module
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100


def public_packages():
    """Return the package and those subpackages that have an ``__all__``, by name."""
    names = [each.name for each in pkgutil.walk_packages(deeprftv2_plugin.__path__, 'deeprftv2_plugin.') if each.ispkg]
    packages = map(importlib.import_module, [deeprftv2_plugin.__name__, *names])
    return {package.__name__: package for package in packages if hasattr(package, '__all__')}


def write_api_pages(app):
    """Write a page for each public package to api/, from its docstring and those of the names in its ``__all__``."""
    folder = HERE / 'api'
    folder.mkdir(exist_ok=True)
    pages = {}
    for name, package in public_packages().items():
        title = f'`{name.removeprefix("deeprftv2_plugin.")}`'
        text = f'{title}\n{"=" * len(title)}\n\n.. automodule:: {name}\n'
        for each in package.__all__:
            if isinstance(table := getattr(package, each), Mapping):  # automodule omits it
                text += f'\n.. py:data:: {each}\n\n   Keys: {", ".join(f"``{key}``" for key in table)}.\n'
        pages[f'{name}.rst'] = text
    for old in folder.glob('*.rst'):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text() != text:  # Sphinx rebuilds pages whose files are newer
            page.write_text(text)


def format_docstring(app, what, name, obj, options, lines):
    """Convert conventions of our docstrings into reStructuredText before napoleon reads them.

    Text in single backticks is code, an indented block before the first section is a formula, and indented lines
    ``key: text`` below an argument are a list.
    """
    code = re.compile(r'(:\w+:`[^`]*`|``[^`]*``)|`([^`]+)`')
    lines[:] = [code.sub(lambda found: found[1] or f'``{found[2]}``', line) for line in lines]
    found, section, listed, last = [], None, False, ''
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if re.fullmatch(r'[A-Z][a-z]+:', line):
            section = line
        if section is None and indent and not found[-1] and last and not last.startswith(('..', ' ')):
            found += ['::', '']
        if section == 'Args:' and indent == 8 and re.match(r'\w+(, \w+)*: ', line.lstrip()):
            found += [] if listed else ['']
            listed, line = True, f'{line[:8]}- {line[8:]}'
        elif line.strip() and indent < 8:
            listed = False
        elif listed and line.strip():
            line = ' ' * 10 + line.lstrip()
        if last == 'Returns:':  # a sentence; napoleon would interpret the text before a colon as a type
            line = f'    : {line.lstrip()}'
        found.append(line)
        last = line or last
    lines[:] = found


def render_math(translator, node):
    """Write a formula as MathML."""
    # docutils would write a subscript of an accented letter below the letter
    tex = re.sub(r'(\\(?:hat|bar) ?\w)(?=_)', r'{\1{}}', node.astext())
    is_block = isinstance(node, nodes.math_block)
    name = 'div' if is_block else 'span'
    style = {'style': 'margin: 1em 0; overflow-x: auto'} if is_block else {}
    start = translator.starttag(node, name, suffix='', CLASS='math notranslate nohighlight', **style)
    translator.body += [start, tex2mathml(tex, as_block=is_block), f'</{name}>']
    raise nodes.SkipNode


def setup(app):
    deeprftv2_plugin.register()  # patches BasicSR, which some modules import
    app.add_html_math_renderer('mathml', (render_math, None), (render_math, None))
    app.connect('builder-inited', write_api_pages)
    app.connect('autodoc-process-docstring', format_docstring, priority=400)  # napoleon has priority 500
