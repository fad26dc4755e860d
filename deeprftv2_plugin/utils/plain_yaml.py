"""A restricted YAML parser for option files: plain values only, with limits on size and depth."""

import re
from typing import Any

import yaml

from deeprftv2_plugin.utils.errors import UserError

LARGEST_FILE = 1_000_000
"""Maximum number of bytes of an option file."""
LARGEST_CONTENT = 100_000
"""Maximum number of keys and values of an option file, including those that aliases repeat."""
DEEPEST = 50
"""Maximum depth of nested sections and lists."""
LARGEST_NUMBER = 2**63
"""Integers from this number on are read as floating-point numbers."""

_TAG = 'tag:yaml.org,2002:'


class TextLoader(yaml.SafeLoader):
    """Load text, true and false, `~`, lists and sections. Numbers remain text, exactly as written.

    Keys must be text. Duplicate keys and content beyond the limits are errors.
    """

    yaml_implicit_resolvers: dict = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.depth += 1
        if self.depth > DEEPEST:
            raise _error(f'more than {DEEPEST} nested sections and lists', event)
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            items = node.value if isinstance(node, yaml.CollectionNode) else []
            node.size = 1 + sum(part.size for item in items for part in (item if isinstance(item, tuple) else [item]))
        elif not hasattr(node, 'size'):  # an alias inside the section or list that it refers to
            raise _error('a section or list that contains itself', event)
        if node.size > LARGEST_CONTENT:
            raise _error(f'more than {LARGEST_CONTENT:,} keys and values, including those that aliases repeat', event)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        written = [key for key, _ in node.value if key.tag != f'{_TAG}merge']
        seen = set()
        for key in written:
            if not isinstance(key, yaml.ScalarNode):
                raise _error('a key that is not text', key)
            if key.value in seen:
                raise _error(f'duplicate key {key.value!r}', key)
            seen.add(key.value)
        self.flatten_mapping(node)
        for key, _ in node.value:
            key.tag = f'{_TAG}str'
        return super().construct_mapping(node, deep)


class Loader(TextLoader):
    """Load plain values. Only decimal numbers such as `1e-3` are numbers; dates and `007` are text."""

    def construct_number(self, node: Any) -> int | float:
        value = super().construct_yaml_int(node)
        return value if abs(value) < LARGEST_NUMBER else float(value)


class Dumper(yaml.SafeDumper):
    """Write YAML for `Loader`: keys in their order, lists of plain values on one line, no anchors."""

    def ignore_aliases(self, data):
        return True


def _error(problem: str, found: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, found.start_mark)


_EXPONENT = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$')
_FLOAT = re.compile(
    r'[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$'
)
_INT = re.compile(r'[-+]?(0|[1-9][\d_]*)$')
_LEADING_ZERO = re.compile(r'[-+]?0[\d_]+$')
# BasicSR's option files write no value as `None`
_NULL, _NULL_STARTS = re.compile(r'(~|null|Null|NULL|None|)$'), ['~', 'n', 'N', '']
TextLoader.add_implicit_resolver(f'{_TAG}null', _NULL, _NULL_STARTS)
TextLoader.add_implicit_resolver(
    f'{_TAG}bool', re.compile(r'(yes|no|true|false|on|off)$', re.IGNORECASE), list('yYnNtTfFoO')
)
TextLoader.add_implicit_resolver(f'{_TAG}merge', re.compile(r'<<$'), ['<'])
for _tag in ('binary', 'timestamp', 'omap', 'pairs', 'set'):
    TextLoader.add_constructor(f'{_TAG}{_tag}', TextLoader.construct_undefined)
Loader.add_implicit_resolver(f'{_TAG}str', _LEADING_ZERO, list('-+0'))
Loader.add_implicit_resolver(f'{_TAG}int', _INT, list('-+0123456789'))
Loader.add_implicit_resolver(f'{_TAG}float', _FLOAT, list('-+.0123456789'))
Loader.add_constructor(f'{_TAG}int', Loader.construct_number)
# PyYAML follows YAML 1.1, which requires a dot and a sign in a float with an exponent
Dumper.add_implicit_resolver(f'{_TAG}float', _EXPONENT, list('-+.0123456789'))
Dumper.add_implicit_resolver(f'{_TAG}null', _NULL, _NULL_STARTS)
Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(f'{_TAG}null', '~'))
Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        f'{_TAG}seq', items, flow_style=not any(isinstance(item, dict | list) for item in items)
    ),
)


def parse(text: str, where: str, loader: type[TextLoader] = Loader) -> Any:
    """Parse YAML of plain values.

    Args:
        text: The YAML.
        where: Name of the source, for error messages.
        loader: `Loader`, or `TextLoader` to get numbers as text.

    Raises:
        UserError: The text is not YAML or exceeds a limit. The message has the line and the column.
    """
    try:
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number with thousands of digits
        mark = getattr(error, 'problem_mark', None)
        place = f', line {mark.line + 1}, column {mark.column + 1}' if mark else ''
        problem = getattr(error, 'problem', None) or str(error).splitlines()[0]
        raise UserError(f'{where}{place}: not YAML: {problem}') from None


def dump(options: dict) -> str:
    """Return options as YAML that `Loader` and BasicSR's loader read identically."""
    return yaml.dump(options, Dumper=Dumper, sort_keys=False, width=110)
