"""The memory of the machine."""

from pathlib import Path


def available_memory() -> int | None:
    """Return the bytes of memory that are available to programs; None if the system does not say."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    values = {name: int(value.split()[0]) for name, _, value in (line.partition(':') for line in lines)}
    return values['MemAvailable'] * 1024 if 'MemAvailable' in values else None
