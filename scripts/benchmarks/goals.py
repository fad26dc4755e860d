"""The goals, and whether the rows of a run meet them."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cases import FRAME, NETWORK_SCANS, PHOTOGRAPH, SCAN, STORAGES
from deeprftv2_plugin.ops.backends import NAMES


class Missing(Exception):
    """The figures for a goal are missing. The message says why."""


@dataclass(frozen=True)
class Goal:
    """A line of the table. `reached` returns a text with the figure and whether the goal is met (None: no bound)."""

    what: str
    bound: str
    reached: Callable[[list[dict]], tuple[str, bool | None]]
    device: str | None = None

    def line(self, rows: list[dict], device: str) -> dict:
        try:
            if self.device not in (None, device):
                raise Missing('applies to the CPU' if self.device == 'cpu' else 'needs a GPU: --device cuda')
            reached, met = self.reached(rows)
            verdict = {True: 'met', False: 'not met', None: 'no bound'}[met]
        except Missing as reason:
            reached, verdict = str(reason), 'not measured here'
        return {'goal': self.what, 'bound': self.bound, 'reached': reached, 'verdict': verdict}


def find(rows: list[dict], benchmark: str, **key: object) -> dict:
    """Return the fastest row of the case with these values. A tuple lists alternatives.

    Raises:
        Missing: The case was not run, was skipped or failed.
    """

    def matches(case):
        return all(name in case and case[name] in (v if isinstance(v, tuple) else (v,)) for name, v in key.items())

    found = [row for row in rows if row['benchmark'] == benchmark and matches(row['case'])]
    measured = [row for row in found if 'error' not in row and 'skipped' not in row]
    if measured:
        return min(measured, key=lambda row: row.get('seconds', 0))
    reasons = [row.get('error') or row['skipped'] for row in found]
    raise Missing(reasons[0] if reasons else f'needs the sub-benchmark {benchmark}')


def at_most(bound: float, text: str, benchmark: str, figure: str, unit: float = 1, **key: object) -> Callable:
    """Return a function that compares one figure of one case with an upper bound."""

    def reached(rows):
        row = find(rows, benchmark, **key)
        value = row[figure] / unit
        return text.format(value, **row), value <= bound

    return reached


def scan_speed(rows):
    other, ours = find(rows, 'scan', implementation='mambapy', **SCAN), find(rows, 'scan', implementation=NAMES, **SCAN)
    ratio = other['seconds'] / ours['seconds']
    return f'{ratio:.1f} times ({ours["case"]["implementation"]}, {ours["seconds"] * 1e3:.1f} ms)', ratio >= 30


def memory_by_depth(rows):
    """Compare the memory of reversible stages with that of the second stage if it is not reversible."""

    def peak(stages, reversible):
        return find(rows, 'stages', **B, stages=stages, reversible=reversible)['peak_bytes']

    second = peak(2, False) - peak(1, False)
    shares = [(peak(n, True) - peak(n - 1, True)) / second for n in (3, 4)]
    return f'third {shares[0]:.1%}, fourth {shares[1]:.1%} of {second / 1e9:.2f} GB', max(shares) <= 0.15


def scan_on_gpu(rows):
    ratios = {}
    for channels, length in NETWORK_SCANS:
        row = find(rows, 'scan', implementation='triton', channels=channels, length=length)
        ratios[f'{channels}x{length}'] = row['seconds'] * row['bytes_per_second'] / row['moved_bytes']
    slowest = max(ratios, key=ratios.get)
    return f'at most {ratios[slowest]:.2f} times, at {slowest}', ratios[slowest] <= 2


def training_on_gpu(rows):
    eager, ours = (find(rows, 'precision', variant='B', **key) for key in ({'backend': 'pytorch'}, {'bf16': True}))
    ratio, waits = ours['images_per_second'] / eager['images_per_second'], ours['host_synchronizations']
    return f'{ratio:.2f} times, {waits} host synchronizations', ratio >= 2 and not waits


def held_out(rows):
    difference = find(rows, 'precision', images='quickstart')['difference_db']
    return f'{difference:+.4f} dB', abs(difference) <= 0.05


def loading(rows):
    loader = find(rows, 'data', storage=STORAGES[-1], workers=2)
    rate, size = loader['images_per_second'], loader['case']['size']
    ratios = {variant: rate / find(rows, 'data', variant=variant, size=size)['images_per_second'] for variant in 'BT'}
    text = ', '.join(f'{ratio:.3g} times {variant}' for variant, ratio in ratios.items())
    return f'{rate:.3g} images/s, {text}', ratios['B'] >= 1


def quickstart(rows):
    plain, ours = (find(rows, 'quickstart', fused=fused)['seconds'] for fused in (False, True))
    return f'{plain / ours:.2f} times', plain / ours >= 2


def compiled(rows):
    pair = [find(rows, 'compile', variant='T', training=training)['ratio'] for training in (False, True)]
    return 'evaluation {:.2f} times, training step {:.2f} times'.format(*pair), None


B, T = {'variant': 'B', 'size': 256}, {'variant': 'T', 'size': 256}
scan_memory = at_most(2, '{:.2f} times', 'scan', 'extra_ratio', memory=True)
evaluation_T = at_most(1.15, '{:.2f} yards', 'evaluation', 'yards', **T)
evaluation_B_128 = at_most(2.5, '{:.2f}', 'evaluation', 'floor_ratio', variant='B', size=128)
evaluation_B_256 = at_most(2.0, '{:.2f}', 'evaluation', 'floor_ratio', **B)
training_T = at_most(5, '{:.2f} yards', 'training', 'yards', **T, reversible=True)
training_B = at_most(50, '{:.1f} yards', 'training', 'yards', **B, reversible=True)
training_memory = at_most(3.5, '{:.2f} GB', 'training', 'peak_bytes', 1e9, **B, reversible=True)
tile_memory = at_most(1.15, 'peak {:.2f} times that of one tile', 'tiles', 'memory_ratio', **FRAME)
tile_time = at_most(1.15, '{:.2f} times', 'tiles', 'time_ratio', **FRAME)
deblur_time = at_most(30, '{:.1f} s, {seconds_per_megapixel:.2f} s per megapixel', 'deblur', 'seconds', **PHOTOGRAPH)
deblur_memory = at_most(6, '{:.2f} GB', 'deblur', 'peak_bytes', 1e9, **PHOTOGRAPH)
against_basicsr = "{:.1f} ms, {basicsr_ratio:.1f} times as fast as BasicSR's"
ssim = at_most(60, against_basicsr, 'metrics', 'seconds', 1e-3, metric='ssim', **FRAME)
ssim_3d = at_most(60, against_basicsr, 'metrics', 'seconds', 1e-3, metric='ssim_3d', **FRAME)

GOALS = (
    Goal('scan on the CPU against mambapy, L = 16384', 'at least 30 times faster', scan_speed, 'cpu'),
    Goal('scan on the CPU, extra memory', 'at most 2 times its inputs', scan_memory, 'cpu'),
    Goal('T evaluation, 256x256', 'at most 1.15 yards', evaluation_T, 'cpu'),
    Goal('T training step, reversible, 256x256', 'at most 5 yards', training_T, 'cpu'),
    Goal('B evaluation, 128x128', 'floor ratio at most 2.5', evaluation_B_128),
    Goal('B evaluation, 256x256', 'floor ratio at most 2.0', evaluation_B_256),
    Goal('B training step, reversible, 256x256', 'at most 50 yards', training_B, 'cpu'),
    Goal('B training step, reversible, 256x256', 'at most 3.5 GB', training_memory, 'cpu'),
    Goal('B 256x256, third and fourth stage', 'each adds at most 15 % of the second', memory_by_depth),
    Goal('1280x720 in tiles, memory', 'that of one tile, within 15 %', tile_memory),
    Goal('1280x720 in tiles, time', 'tiles x one, within 15 %', tile_time),
    Goal('deblur 12 megapixels, time', 'at most 30 s', deblur_time),
    Goal('deblur 12 megapixels, memory', 'at most 6 GB', deblur_memory, 'cpu'),
    Goal("scan on the GPU, the network's shapes", 'at most 2 times moving its data once', scan_on_gpu, 'cuda'),
    Goal('training step on the GPU against float32', 'at least twice the images/s', training_on_gpu, 'cuda'),
    Goal("bf16 on the quickstart's held-out images", 'within 0.05 dB of float32', held_out),
    Goal("loader, two workers, against B's step", 'at least its images/s', loading),
    Goal('ssim of 1280x720 on one core', 'at most 60 ms a frame', ssim),
    Goal('ssim_3d of 1280x720 on one core', 'at most 60 ms a frame', ssim_3d),
    Goal('step of the quickstart against plain PyTorch', 'at least twice as fast', quickstart),
    Goal('T 256x256, torch.compile against eager mode', 'reported', compiled),
)


def reached(rows: list[dict], device: str) -> list[dict]:
    """Return all goals with the results of a run."""
    return [goal.line(rows, device) for goal in GOALS]
