"""Patch BasicSR, so that the tests can import it, and run every test in a temporary working directory."""

import pytest

import deeprftv2_plugin

deeprftv2_plugin.register()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
