"""Amounts of memory as text."""

import pytest

from deeprftv2_plugin.preflight.findings import amount


@pytest.mark.parametrize(
    ('count', 'text'), [(0, '0 kB'), (1520, '1.52 kB'), (2.5e6, '2.5 MB'), (80e9, '80 GB'), (1.5e12, '1.5 TB')]
)
def test_amounts_have_a_suitable_unit(count, text):
    assert amount(count) == text
