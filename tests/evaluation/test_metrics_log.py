import json

from deeprftv2_plugin.evaluation.metrics_log import Journal


def test_lines_come_back_and_what_is_not_finite_is_null(tmp_path):
    journal = Journal(tmp_path)
    assert list(journal) == []
    journal.append(1, lr=0.5, loss=float('nan'))
    journal.append(2, dataset='held-out', psnr=float('inf'))
    assert list(journal) == [{'iter': 1, 'lr': 0.5, 'loss': None}, {'iter': 2, 'dataset': 'held-out', 'psnr': None}]
    assert [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == list(journal)


def test_a_full_disk_is_logged_and_does_no_harm(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', fail)
    Journal(tmp_path).append(2, dataset='held-out', psnr=30.0)
    Journal(tmp_path / 'missing').append(3, loss=1.0)


def test_half_a_line_and_what_is_measured_again_go(tmp_path):
    journal = Journal(tmp_path)
    for iteration in (1, 2, 3):
        journal.append(iteration, loss=1.0)
    with open(journal.path, 'a') as file:
        file.write('{"iter": 4, "lo')
    journal.rewind(2)
    journal.append(3, loss=2.0)
    assert [line['loss'] for line in journal] == [1.0, 1.0, 2.0]
