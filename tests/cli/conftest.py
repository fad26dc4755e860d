"""A working directory with a small data set."""

import pytest

from tests.cli.runs import write_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
