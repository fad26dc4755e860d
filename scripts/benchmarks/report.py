"""The table on screen and the file of figures."""

import datetime
import json
import os
import platform
from pathlib import Path

import torch

import deeprftv2_plugin
from deeprftv2_plugin.ops import backends

COLUMNS = f'{"":74}{"time":>10}{"yards":>9}{"floor ratio":>13}{"peak":>10}{"increase":>10}'


def machine(device: str) -> dict:
    """What the figures were measured on and with."""
    import importlib.util

    triton = importlib.import_module('triton').__version__ if importlib.util.find_spec('triton') else None
    return {
        'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
        'device': device,
        'gpu': torch.cuda.get_device_name() if device == 'cuda' else None,
        'cpu': _processor(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'triton': triton,
        'deeprftv2_plugin': deeprftv2_plugin.__version__,
        'backends': backends.describe(),
    }


def heading(about: dict) -> str:
    """Two lines about the machine."""
    where = about['gpu'] or f'{about["cpu"]}, {about["cores"]} cores, {about["threads"]} threads'
    versions = ', '.join(f'{name} {about[name]}' for name in ('python', 'torch', 'triton', 'deeprftv2_plugin'))
    return f'{where}; {versions}\nbackends: {about["backends"]}'


def line(row: dict) -> str:
    """A row of the table under COLUMNS."""
    start = f'{row["benchmark"]:12}{row["label"]:62}'
    for key, word in (('error', 'failed'), ('skipped', 'skipped')):
        if key in row:
            return f'{start} {word}: {row[key]}'
    cells = (
        ('seconds', 10, duration),
        ('yards', 9, '{:.2f}'.format),
        ('floor_ratio', 13, '{:.2f}'.format),
        ('peak_bytes', 10, size),
        ('increase_bytes', 10, size),
    )
    figures = ''.join(f'{"" if row.get(key) is None else show(row[key]):>{width}}' for key, width, show in cells)
    return f'{start}{figures}  {row.get("note", "")}'.rstrip()


def goal_table(goals: list[dict]) -> str:
    """The goals, their bounds and what was reached."""
    lines = [f'{g["goal"]:46}{g["bound"]:38}{g["verdict"]:19}{g["reached"]}' for g in goals]
    return '\n'.join([f'{"goal":46}{"bound":38}{"verdict":19}reached', *lines])


def write(folder: Path, about: dict, rows: list[dict], goals: list[dict]) -> Path:
    """Write all figures to a file named after the device and the time."""
    moment = datetime.datetime.fromisoformat(about['date'])
    path = folder / f'{about["device"]}-{moment:%Y-%m-%d-%H%M%S}.json'
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, 'goals': goals, 'rows': rows}, indent=1) + '\n', 'utf-8')
    return path


def duration(seconds: float) -> str:
    return f'{seconds:.2f} s' if seconds >= 1 else f'{seconds * 1e3:.1f} ms'


def size(count: int) -> str:
    return f'{count / 1e9:.2f} GB' if count >= 1e9 else f'{count / 1e6:.0f} MB'


def _processor():
    try:
        lines = Path('/proc/cpuinfo').read_text('utf-8').splitlines()
    except OSError:
        lines = []
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, '') or platform.processor() or platform.machine()
