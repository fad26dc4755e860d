"""The memory that is available to programs."""

import sys

import pytest

from deeprftv2_plugin.utils import memory


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, 'GROUP', tmp_path)
    whole = memory.available_memory()
    assert whole > 10**8
    (tmp_path / 'memory.current').write_text('3000\n')
    (tmp_path / 'memory.stat').write_text('anon 3000\ninactive_file 0\n')
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.available_memory() > 10**8
    (tmp_path / 'memory.max').write_text('10000\n')
    assert memory.available_memory() == 7000
    (tmp_path / 'memory.stat').write_text('anon 500\ninactive_file 2500\nactive_file 9\n')
    assert memory.available_memory() == 9500
    (tmp_path / 'memory.max').write_text('1000\n')
    assert memory.available_memory() == 500
    (tmp_path / 'memory.max').write_text('100\n')
    assert memory.available_memory() == 0
