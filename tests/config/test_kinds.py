"""Checks of option values against annotations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional

import pytest
from torch import Tensor, nn

from deeprftv2_plugin.config.kinds import REQUIRED, Count, Crop, Option, Range, describe, matches


@pytest.mark.parametrize(
    ('kind', 'right', 'wrong'),
    [
        (int, [1, -1], [1.0, True, '1', None]),
        (float, [1, 1.5], [True, '1.5', None, float('nan')]),
        (bool, [True, False], [0, 1, 'true']),
        (str, ['', 'x'], [1, None]),
        (Count, [1, 7], [0, -1, 1.5, True]),
        (Annotated[float, Range(0, below=1)], [0, 0.9], [1, -0.1, 'x']),
        (Annotated[float, Range(above=0, most=1)], [0.1, 1], [0, 2]),
        (Literal['a', 1], ['a', 1], ['b', True, 2]),
        (int | None, [None, 1], ['x']),
        (Optional[list[int]], [None, [], [1]], [[1.5], 1]),  # noqa: UP045
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], 1, ['a', 'b']]),
        (tuple[int, ...], [[], [1, 2, 3]], [['a']]),
        (Sequence[tuple[str, int]], [[['x', 1], ['y', 2]]], [['x', 1], [['x', 'y']], 'x']),
        (Crop, [64, [64, 48]], [[64], [0, 1], '64']),
        (dict[str, Any], [{}, {'a': 1}], [[], 'x']),
        (Mapping[str, bool | Sequence[bool]], [{'a': True, 'b': [True]}], [{'a': 1}, True]),
        (Any, [None, 'x', 1, []], []),
        (float | Tensor, [1.0], ['x', True]),
        (Callable[[int], float] | Tensor, ['anything', 1], []),
        (Sequence[Mapping[str, Any] | nn.Module], [[{'type': 'x'}]], [['x']]),
    ],
)
def test_matches(kind, right, wrong):
    assert [value for value in right if not matches(value, kind)] == []
    assert [value for value in wrong if matches(value, kind)] == []


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        (Count, 'an integer >= 1'),
        (Crop, 'an integer >= 1 or a list of 2 integers >= 1'),
        (list[Count], 'a list of integers >= 1'),
        (tuple[str, int], 'a list [text, an integer]'),
        (Literal['a', 'b', 'c'], 'a, b or c'),
        (bool | None, 'true or false or ~'),
        (list[dict[str, Any]], 'a list of sections of keys'),
        (float | Tensor, 'a number'),
    ],
)
def test_describe(kind, words):
    assert describe(kind) == words


def test_none_is_accepted_where_it_is_the_default():
    assert Option(int, default=None).accepts(None)
    assert not Option(int, default=3).accepts(None)
    assert not Option(int, default=REQUIRED).accepts(None)
