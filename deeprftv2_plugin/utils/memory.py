"""The memory of the machine."""

import re
from pathlib import Path

GROUP = Path('/sys/fs/cgroup')
"""The control group of a container, whose memory may be limited."""


def available_memory() -> int | None:
    """Return the memory that is available to programs in bytes, or None if the system does not report it."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    values = {name: int(value.split()[0]) for name, _, value in (line.partition(':') for line in lines)}
    if 'MemAvailable' not in values:
        return None
    available = values['MemAvailable'] * 1024
    try:
        limit, used = (int((GROUP / f'memory.{name}').read_text()) for name in ('max', 'current'))
        cache = re.search(r'^inactive_file (\d+)$', (GROUP / 'memory.stat').read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no container, or without limit ('max')
        return available
    freed = int(cache[1]) if cache else 0  # pages of files, which are freed when programs need memory
    return min(available, max(0, limit - used + freed))
