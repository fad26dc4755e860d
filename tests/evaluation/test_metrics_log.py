import json

from basicsr.utils import get_root_logger

from deeprftv2_plugin.evaluation.metrics_log import MetricsLog


def test_round_trip_stores_non_finite_numbers_as_null(tmp_path):
    log = MetricsLog(tmp_path)
    assert list(log) == []
    log.append(1, lr=0.5, loss=float('nan'))
    log.append(2, dataset='held-out', psnr=float('inf'))
    assert list(log) == [{'iter': 1, 'lr': 0.5, 'loss': None}, {'iter': 2, 'dataset': 'held-out', 'psnr': None}]
    assert [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == list(log)


def test_failed_writes_are_logged_and_not_raised(tmp_path, monkeypatch, caplog):
    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', fail)
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    MetricsLog(tmp_path).append(2, dataset='held-out', psnr=30.0)
    MetricsLog(tmp_path / 'missing').append(3, loss=1.0)
    assert 'iteration 2 could not be logged: No space left on device' in caplog.text
    assert 'iteration 3 could not be logged: No such file or directory' in caplog.text


def test_rewind_removes_partial_and_later_lines(tmp_path):
    log = MetricsLog(tmp_path)
    for iteration in (1, 2, 3):
        log.append(iteration, loss=1.0)
    with open(log.path, 'a') as file:
        file.write('{"iter": 4, "lo')
    log.rewind(2)
    log.append(3, loss=2.0)
    assert [line['loss'] for line in log] == [1.0, 1.0, 2.0]
