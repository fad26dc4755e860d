"""A working directory with a small dataset, and its options as returned by BasicSR's parser."""

import pytest

from deeprftv2_plugin.basicsr_bridge.run_options import complete
from tests.cli.runs import options, test_options, write_images


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    return tmp_path


@pytest.fixture
def opt(folder):
    return complete(options(), str(folder), is_train=True)


@pytest.fixture
def test_opt(folder):
    return complete(test_options(), str(folder), is_train=False)
