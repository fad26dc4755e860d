import pytest

from deeprftv2_plugin.utils.errors import LONGEST_QUOTE, UserError, describe_error, shortened


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (UserError('two\nlines'), 'two\nlines'),
        (KeyError('type'), "the key 'type' is missing or unknown"),
        (RuntimeError('\nfirst\nsecond'), 'RuntimeError: first'),
        (RuntimeError(), 'RuntimeError'),
    ],
)
def test_errors_other_than_user_errors_are_described_by_type_and_first_line(error, expected):
    assert describe_error(error) == expected


def test_only_long_text_is_shortened():
    text = 'x' * LONGEST_QUOTE
    assert shortened(text) == text
    assert shortened(text + 'x') == text[:-3] + '...'
