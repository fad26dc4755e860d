"""Measurement of time."""

import gc
import timeit

import pytest

from deeprftv2_plugin.comparison.measurement import time_of


@pytest.mark.parametrize(('seconds', 'calls'), [(0, 1 + 1), (1e-9, 1 + 4)])
def test_the_median_excludes_the_warm_up(monkeypatch, seconds, calls):
    durations, now = iter([0.4, 0.1, 0.1, 0.2, 0.1]), [0.0]

    def run():
        now[0] += next(durations)

    monkeypatch.setattr(timeit, 'default_timer', lambda: now[0])
    found = time_of(run, seconds)
    assert found['runs'] == calls - 1 and len(list(durations)) == 5 - calls
    assert found['fastest'] == pytest.approx(0.1) and found['seconds'] == pytest.approx(0.1)


def test_garbage_is_collected_while_a_case_is_measured():
    enabled = []
    time_of(lambda: enabled.append(gc.isenabled()), 0)
    assert all(enabled)
