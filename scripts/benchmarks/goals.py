"""What is to be reached, and whether the rows of a run reach it."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.data import GOAL as LOADER
from benchmarks.metrics import FRAME
from benchmarks.scan import GOAL as SCAN
from benchmarks.scan import NETWORK


class Missing(Exception):
    """The figures for a goal are not there; the message says why."""


class Rows:
    """The rows of a run on a device."""

    def __init__(self, rows: list[dict], device: str):
        self.rows, self.device = rows, device

    def find(self, benchmark: str, **key) -> dict:
        """The row whose case has these values.

        Raises:
            Missing: It was not run, was skipped or has failed.
        """
        for row in self.rows:
            if row['benchmark'] == benchmark and row['case'] == row['case'] | key:
                if reason := row.get('error') or row.get('skipped'):
                    raise Missing(reason)
                return row
        raise Missing(f'needs the sub-benchmark {benchmark}')

    def need(self, device: str) -> None:
        if self.device != device:
            raise Missing('this is for a CPU' if device == 'cpu' else 'needs a GPU: --device cuda')


@dataclass(frozen=True)
class Goal:
    """A line of the table.

    Args:
        what: What is measured.
        bound: What is to be reached, in words.
        reached: The figure, in words, and whether the goal is met.
    """

    what: str
    bound: str
    reached: Callable[[Rows], tuple[str, bool]]

    def line(self, rows: Rows) -> dict:
        try:
            reached, met = self.reached(rows)
        except Missing as reason:
            return {'goal': self.what, 'bound': self.bound, 'reached': str(reason), 'verdict': 'not measured here'}
        return {'goal': self.what, 'bound': self.bound, 'reached': reached, 'verdict': 'met' if met else 'not met'}


def scan_speed(rows):
    rows.need('cpu')
    other = rows.find('scan', implementation='mambapy', **SCAN)
    ours = _ours(rows, **SCAN)
    ratio = other['seconds'] / ours['seconds']
    return f'{ratio:.1f} times ({ours["case"]["implementation"]}, {ours["seconds"] * 1e3:.1f} ms)', ratio >= 30


def scan_memory(rows):
    rows.need('cpu')
    row = rows.find('scan', memory=True)
    return f'{row["extra_ratio"]:.2f} times ({row["case"]["implementation"]})', row['extra_ratio'] <= 2


def evaluation_ratio(variant, size, bound):
    def reached(rows):
        ratio = rows.find('evaluation', variant=variant, size=size)['floor_ratio']
        return f'{ratio:.2f}', ratio <= bound

    return reached


def yards(benchmark, variant, bound, **key):
    def reached(rows):
        rows.need('cpu')
        found = rows.find(benchmark, variant=variant, size=256, **key)['yards']
        return f'{found:.{1 if found >= 10 else 2}f} yards', found <= bound

    return reached


def training_memory(rows):
    rows.need('cpu')
    peak = rows.find('training', variant='B', size=256, reversible=True)['peak_bytes']
    return f'{peak / 1e9:.2f} GB', peak <= 3.5e9


def memory_by_depth(rows):
    def peak(stages, reversible):
        return rows.find('stages', variant='B', size=256, stages=stages, reversible=reversible)['peak_bytes']

    second = peak(2, False) - peak(1, False)
    shares = [(peak(n, True) - peak(n - 1, True)) / second for n in (3, 4)]
    return f'third {shares[0]:.1%}, fourth {shares[1]:.1%} of {second / 1e9:.2f} GB', max(shares) <= 0.15


def tile_memory(rows):
    ratio = rows.find('tiles', width=1280, height=720)['memory_ratio']
    return f'peak {ratio:.2f} times that of one tile', ratio <= 1.15


def tile_time(rows):
    ratio = rows.find('tiles', width=1280, height=720)['time_ratio']
    return f'{ratio:.2f} times', ratio <= 1.15


def scan_on_gpu(rows):
    rows.need('cuda')
    ratios = {}
    for channels, length in NETWORK:
        row = rows.find('scan', implementation='triton', channels=channels, length=length)
        ratios[f'{channels}x{length}'] = row['seconds'] * row['bytes_per_second'] / row['moved_bytes']
    slowest = max(ratios, key=ratios.get)
    return f'at most {ratios[slowest]:.2f} times, at {slowest}', ratios[slowest] <= 2


def training_on_gpu(rows):
    rows.need('cuda')
    eager, ours = (rows.find('precision', variant='B', **key) for key in ({'backend': 'pytorch'}, {'bf16': True}))
    ratio, waits = ours['images_per_second'] / eager['images_per_second'], ours['host_synchronisations']
    return f'{ratio:.2f} times, {waits} host synchronisations', ratio >= 2 and not waits


def held_out(rows):
    row = rows.find('precision', pictures='quickstart')
    return f'{row["difference_db"]:+.4f} dB', abs(row['difference_db']) <= 0.05


def quickstart(rows):
    before, ours = rows.find('quickstart', backend='pytorch'), _ours_at_quickstart(rows)
    ratio = before['seconds'] / ours['seconds']
    return f'{ratio:.2f} times', ratio >= 2


def loading(rows):
    storage, workers = LOADER
    loader = rows.find('data', storage=storage, workers=workers)
    rate, size = loader['images_per_second'], loader['case']['size']
    ratios = {variant: rate / rows.find('data', variant=variant, size=size)['images_per_second'] for variant in 'BT'}
    text = ', '.join(f'{ratio:.3g} times {variant}' for variant, ratio in ratios.items())
    return f'{rate:.3g} images/s, {text}', ratios['B'] >= 1


def similarity(metric):
    def reached(rows):
        row = rows.find('metrics', metric=metric, **FRAME)
        text = f"{row['seconds'] * 1e3:.1f} ms, BasicSR's {row['basicsr_seconds'] * 1e3:.0f} ms"
        return text, row['seconds'] <= 0.06

    return reached


GOALS = (
    Goal('scan on the CPU against mambapy, L = 16384', 'at least 30 times faster', scan_speed),
    Goal('scan on the CPU, extra memory', 'at most 2 times its inputs', scan_memory),
    Goal('T evaluation, 256x256', 'at most 1.15 yards', yards('evaluation', 'T', 1.15)),
    Goal('T training step, reversible, 256x256', 'at most 5 yards', yards('training', 'T', 5, reversible=True)),
    Goal('B evaluation, 128x128', 'floor ratio at most 2.5', evaluation_ratio('B', 128, 2.5)),
    Goal('B evaluation, 256x256', 'floor ratio at most 2.0', evaluation_ratio('B', 256, 2.0)),
    Goal('B training step, reversible, 256x256', 'at most 50 yards', yards('training', 'B', 50, reversible=True)),
    Goal('B training step, reversible, 256x256', 'at most 3.5 GB', training_memory),
    Goal('B 256x256, third and fourth stage', 'each adds at most 15 % of the second', memory_by_depth),
    Goal('1280x720 in tiles, memory', 'that of one tile, within 15 %', tile_memory),
    Goal('1280x720 in tiles, time', 'tiles x one, within 15 %', tile_time),
    Goal("scan on the GPU, the network's shapes", 'at most 2 times moving its inputs and outputs once', scan_on_gpu),
    Goal('training step on the GPU against float32', 'at least twice the images/s', training_on_gpu),
    Goal("bf16 on the quickstart's held-out pictures", 'within 0.05 dB of float32', held_out),
    Goal("loader, two workers, against B's step", 'at least its images/s', loading),
    Goal('ssim of 1280x720 on one core', 'at most 60 ms a frame', similarity('ssim')),
    Goal('ssim_3d of 1280x720 on one core', 'at most 60 ms a frame', similarity('ssim_3d')),
    Goal('step of the quickstart against plain PyTorch', 'at least twice as fast', quickstart),
)
"""The second stage's memory is taken without reversing, that of the third and fourth with."""


def reached(rows: list[dict], device: str) -> list[dict]:
    """All goals with what a run reached."""
    return [goal.line(Rows(rows, device)) for goal in GOALS]


def _ours(rows, **key):
    others = ('mambapy', 'sequential')
    found = [row for row in rows.rows if row['benchmark'] == 'scan' and row['case'] == row['case'] | key]
    found = [row for row in found if row['case']['implementation'] not in others and 'seconds' in row]
    if not found:
        raise Missing('needs the sub-benchmark scan')
    return min(found, key=lambda row: row['seconds'])


def _ours_at_quickstart(rows):
    for row in rows.rows:
        if row['benchmark'] == 'quickstart' and 'backend' not in row['case'] and 'seconds' in row:
            return row
    raise Missing('needs the sub-benchmark quickstart')
