"""Whether the packages are there that a training is to be logged with."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from deeprftv2_plugin.preflight.findings import Finding, error, ok


def check_logs(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Looks for TensorBoard and wandb, where they are asked for."""
    settings = opt['logger']
    board, project = settings.get('use_tb_logger'), (settings.get('wandb') or {}).get('project')
    if 'debug' in opt['name']:  # BasicSR logs such runs to neither
        board = project = None
    if project is not None and not board:
        yield error('logger.wandb.project needs logger.use_tb_logger: true')
    wanted = {
        'use_tb_logger': 'tensorboard' if board else None,
        'wandb.project': 'wandb' if project is not None else None,
    }
    for key, package in wanted.items():
        if package and find_spec(package) is None:
            yield error(f'logger.{key} is set, but {package} is not installed: pip install {package}')
        elif package:
            yield ok(f'{package} is there')
