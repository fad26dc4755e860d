"""The memory of the machine."""

from pathlib import Path


def available_memory() -> int | None:
    """Return the memory that is available to programs in bytes, or None if the system does not report it."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    values = {name: int(value.split()[0]) for name, _, value in (line.partition(':') for line in lines)}
    return values['MemAvailable'] * 1024 if 'MemAvailable' in values else None
