"""Which option keys a class or function understands: its arguments or, where it takes a dict, what it reads.

BasicSR's networks and losses get their options as keyword arguments; its models and datasets get a dict and
read it here and there. Both are found out, so any registered class can be checked without a list of its keys.
"""

import ast
import functools
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import NamedTuple

# packages whose classes read their options themselves, so that helpers in other modules need no looking into
TRANSPARENT = ('basicsr', 'deeprftv2_plugin')


class Arguments(NamedTuple):
    """Keyword arguments of a callable."""

    known: frozenset[str]
    required: frozenset[str]
    any: bool
    """Whether it hands unknown ones on to where they cannot be followed."""


def arguments(target: Callable, given: Iterable[str] = ()) -> Arguments:
    """The keyword arguments of a class or function, those in `given` left out.

    `**kwargs` that the body never uses only swallows misspelt names and admits none. Handed to
    `super().__init__`, it admits what the parent class takes.
    """
    chain = [target]
    if inspect.isclass(target):
        chain = [vars(cls)['__init__'] for cls in target.__mro__ if '__init__' in vars(cls)]
    known, required, hands_on = set(), set(), False
    for depth, function in enumerate(chain):
        if function is object.__init__:
            hands_on = False
            break
        parameters = list(inspect.signature(function).parameters.values())[inspect.isclass(target) :]
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        known.update(p.name for p in named)
        if depth == 0:
            required.update(p.name for p in named if p.default is p.empty)
        swallowing = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
        hands_on = bool(swallowing) and _uses(function, swallowing[0])
        if hands_on != 'parent':
            break
    return Arguments(frozenset(known.difference(given)), frozenset(required.difference(given)), bool(hands_on))


def _uses(function, name):
    """'parent' where the body hands `**name` to nothing but super().__init__, else whether it uses it."""
    tree = _parsed(function)
    if tree is None:
        return True
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    to_parent = [
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(').__init__')
        for keyword in call.keywords
        if keyword.arg is None
    ]
    return ('parent' if all(use in to_parent for use in uses) else True) if uses else False


def _parsed(code):
    """The syntax tree of a module, class or function; None where its source is not there."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return None


class Reads(NamedTuple):
    """What sources read from option dicts."""

    paths: frozenset[tuple[str, ...]]
    """Keys whose place is known, such as ('train', 'optim_g', 'type')."""
    words: frozenset[str]
    """All other string constants."""
    foreign: frozenset[str]
    """Those in other packages' sources: any of them may be a key, in a place that cannot be told."""
    complete: bool
    """False where a source is missing, so that any key may be read."""

    def of(self, *section: str) -> set[str]:
        """The keys known to be read from a section."""
        depth = len(section)
        return {path[depth] for path in self.paths if len(path) > depth and path[:depth] == section}

    def admit(self, key: str) -> bool:
        """Whether a key that is not known may be read all the same."""
        return key in self.foreign or not self.complete


@functools.cache
def reads(*targets: type | Callable, root: str = 'opt') -> Reads:
    """What classes (with all their parents) and functions read from the option dict that they call `root`."""
    paths, words, foreign, complete = set(), set(), set(), True
    for target in targets:
        for code in filter(_has_options, target.__mro__) if inspect.isclass(target) else [target]:
            tree = _parsed(code)
            if tree is None:
                complete = False
                continue
            places, others = _read(tree, root)
            paths |= places
            words |= others
            if code.__module__.partition('.')[0] not in TRANSPARENT:
                foreign |= others | _words_around(sys.modules[code.__module__], root)
    return Reads(frozenset(paths), frozenset(words), frozenset(foreign), complete)


def _has_options(cls):
    return cls.__module__.partition('.')[0] not in ('builtins', 'abc', 'typing', 'torch')


def _words_around(module, root):
    """The words of a module and of what it uses of its own package, where helpers may read options for it."""
    package = module.__name__.partition('.')[0]
    names = {module.__name__}
    for value in vars(module).values():
        name = value.__name__ if inspect.ismodule(value) else getattr(value, '__module__', None)
        if isinstance(name, str) and name.partition('.')[0] == package:
            names.add(name)
    trees = filter(None, (_parsed(importlib.import_module(name)) for name in names))
    return set().union(*(_read(tree, root)[1] for tree in trees))


def _read(tree, root):
    """The paths and the words of `Reads` in one syntax tree."""
    reader = _Reader(root)
    reader.visit(tree)
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in reader.placed]
    return reader.paths, {node.value for node in constants if isinstance(node.value, str) and node.value.isidentifier()}


class _Reader(ast.NodeVisitor):
    """Follows option dicts through subscripts, `get`, `pop`, `in` and plain assignments."""

    def __init__(self, root):
        self.places = {root: (), f'self.{root}': ()}
        self.loops, self.paths, self.placed = {}, set(), set()

    def place(self, node):
        """Where in the options an expression points; None for anything else."""
        if isinstance(node, ast.Name | ast.Attribute):
            return self.places.get(ast.unparse(node))
        if isinstance(node, ast.BoolOp):  # opt.get('x') or {}
            return self.place(node.values[0])
        container, keys = self.access(node)
        return (*container, keys[0].value) if container is not None and len(keys) == 1 else None

    def access(self, node):
        """The place that an expression looks into, and the constants it looks for."""
        if isinstance(node, ast.Subscript):
            return self.place(node.value), self.constants(node.slice)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.args
            and node.func.attr in ('get', 'pop')
        ):
            return self.place(node.func.value), self.constants(node.args[0])
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            return self.place(node.comparators[0]), self.constants(node.left)
        return None, []

    def constants(self, node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node]
        return self.loops.get(node.id, []) if isinstance(node, ast.Name) else []

    def visit(self, node):
        for loop in [node] if isinstance(node, ast.For) else getattr(node, 'generators', []):
            if isinstance(loop.target, ast.Name) and isinstance(loop.iter, ast.Tuple | ast.List):
                self.loops[loop.target.id] = [item for item in loop.iter.elts if isinstance(item, ast.Constant)]
        if isinstance(node, ast.Assign) and self.place(node.value) is not None:
            for target in node.targets:
                self.places[ast.unparse(target)] = self.place(node.value)
        container, keys = self.access(node)
        if container is not None:
            self.placed.update(keys)
            if not isinstance(getattr(node, 'ctx', None), ast.Store):
                self.paths.update((*container, key.value) for key in keys)
        self.generic_visit(node)
