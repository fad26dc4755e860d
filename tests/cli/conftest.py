"""A working directory with a small dataset."""

import pytest

from tests.cli.runs import write_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
