import pytest

from deeprftv2_plugin.ops import backends


@pytest.fixture(autouse=True)
def forced_backend(request, monkeypatch):
    """A test with an argument `backend` runs on that one, its backward passes included."""
    if 'backend' in request.fixturenames:
        monkeypatch.setenv(backends.VARIABLE, request.getfixturevalue('backend').name)
