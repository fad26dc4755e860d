import pytest

from deeprftv2_plugin.ops import backends


@pytest.fixture(autouse=True)
def forced_backend(request, monkeypatch):
    """Force the backend given by the argument `backend` of a test, also in backward passes."""
    if 'backend' in request.fixturenames:
        monkeypatch.setenv(backends.VARIABLE, request.getfixturevalue('backend').name)
