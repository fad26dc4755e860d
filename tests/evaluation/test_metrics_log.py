import json

import pytest
import torch

from deeprftv2_plugin.evaluation.metrics_log import MetricsLog


def test_round_trip_stores_non_finite_numbers_as_null(tmp_path):
    log = MetricsLog(tmp_path)
    assert list(log) == []
    log.append(1, lr=0.5, loss=float('nan'))
    log.append(2, dataset='held-out', psnr=float('inf'))
    assert list(log) == [{'iter': 1, 'lr': 0.5, 'loss': None}, {'iter': 2, 'dataset': 'held-out', 'psnr': None}]
    assert [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == list(log)


def test_failed_writes_are_logged_and_not_raised(tmp_path, monkeypatch, log):
    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', fail)
    MetricsLog(tmp_path).append(2, dataset='held-out', psnr=30.0)
    MetricsLog(tmp_path / 'missing').append(3, loss=1.0)
    MetricsLog(tmp_path).append(4, loss=object())
    assert 'iteration 2 could not be logged: No space left on device' in log.text
    assert 'iteration 4 could not be logged: float() argument' in log.text
    assert 'iteration 3 could not be logged: No such file or directory' in log.text
    MetricsLog(tmp_path).rewind(1)
    assert 'could not be truncated to iteration 1, from which training resumes: No space left on device' in log.text


def test_a_file_that_cannot_be_read_is_logged(tmp_path, monkeypatch, log):
    def fail(*args, **settings):
        raise PermissionError(13, 'Permission denied')

    metrics = MetricsLog(tmp_path)
    metrics.append(1, loss=1.0)
    monkeypatch.setattr('builtins.open', fail)
    assert list(metrics) == []
    assert 'metrics.jsonl cannot be read: Permission denied' in log.text


@pytest.mark.posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_only_regular_files_are_written(tmp_path, log, plant, kind):
    metrics = MetricsLog(tmp_path)
    plant(metrics.path, kind)
    metrics.append(1, loss=1.0)
    assert 'metrics.jsonl: iteration 1 could not be logged: it is a' in log.text


def test_values_of_other_models_are_written_as_numbers(tmp_path):
    log = MetricsLog(tmp_path)
    log.append(1, loss=torch.tensor(0.5))
    assert list(log) == [{'iter': 1, 'loss': 0.5}]


@pytest.mark.parametrize(
    'tail',
    [
        b'{"iter": 4, "lo',
        b'[1, 2]\n',
        b'4\n',
        b'{"loss": 1.0}\n',
        b'{"iter": "4", "loss": 1.0}\n',
        b'{"iter": true}\n',
        b'{"iter": 4, "loss": "\xff\xfe"}\n',
        b'{"iter": 4, "loss": "low"}\n',
        b'{"iter": 4, "dataset": ["a"], "psnr": 30.0}\n',
        b'\x00' * 512,
        b'[' * 100_000,
    ],
    ids=lambda tail: repr(tail[:20]),
)
def test_rewind_removes_damaged_and_later_lines(tmp_path, log, tail):
    metrics = MetricsLog(tmp_path)
    for iteration in (1, 2, 3):
        metrics.append(iteration, loss=1.0)
    with open(metrics.path, 'ab') as file:
        file.write(tail)
    assert [line['iter'] for line in metrics] == [1, 2, 3]
    metrics.rewind(2)
    assert 'metrics.jsonl: removed damaged lines: 1.' in log.text
    metrics.append(3, loss=2.0)
    assert [line['loss'] for line in metrics] == [1.0, 1.0, 2.0]


def test_rewind_of_an_undamaged_file_does_not_warn(tmp_path, log):
    metrics = MetricsLog(tmp_path)
    metrics.append(1, dataset='held-out', psnr=30)
    metrics.rewind(2)
    assert list(metrics) == [{'iter': 1, 'dataset': 'held-out', 'psnr': 30}]
    assert not log.text
