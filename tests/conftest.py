"""Settings for all tests."""

import os
import shutil

os.environ.setdefault('OMP_NUM_THREADS', '1')  # several threads are slower for such small computations

import pytest  # noqa: E402
import torch  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes more than half a minute; -m "not slow" leaves it out')
    config.addinivalue_line('markers', 'gpu: needs a CUDA device; skipped where there is none')
    config.addinivalue_line('markers', 'cluster: changes the network as root, takes minutes; only with -m cluster')
    config.addinivalue_line('markers', 'posix: needs fork and signals that Windows lacks; skipped there')


def pytest_collection_modifyitems(config, items):
    missing = {}
    if config.option.markexpr != 'cluster':
        missing['cluster'] = 'runs only with -m cluster'
    if not torch.cuda.is_available():
        missing['gpu'] = 'no CUDA device'
    if not hasattr(os, 'fork'):
        missing['posix'] = 'no fork on this system'
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def log(caplog, monkeypatch):
    """Capture BasicSR's log."""
    from basicsr.utils import get_root_logger

    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    caplog.set_level('INFO', 'basicsr')
    return caplog


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """Return the path of the weights of a small network. The file must not be changed."""
    from deeprftv2_plugin.archs import DeepRFTv2
    from deeprftv2_plugin.checkpoints import write_checkpoint

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'net.pth'
    write_checkpoint({'params': DeepRFTv2('T', width=8, kernel_width=4).state_dict()}, path)
    return str(path)


@pytest.fixture
def make_pipe():
    """Return a function that creates a named pipe. It is kept open, so that opening it elsewhere does not wait."""
    opened = []

    def make(path):
        os.mkfifo(path)
        opened.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    yield make
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def plant(tmp_path, make_pipe):
    """Return a function that replaces a file by a link or a pipe. The target of a link must not change."""
    victim = tmp_path / 'victim'
    victim.write_text('precious')

    def plant(path, kind):
        path.unlink(missing_ok=True)
        {
            'link': lambda: path.symlink_to(victim),
            'dangling': lambda: path.symlink_to(tmp_path / 'nowhere'),
            'pipe': lambda: make_pipe(path),
        }[kind]()

    yield plant
    assert victim.read_text() == 'precious'
    assert not os.path.lexists(tmp_path / 'nowhere')


@pytest.fixture(scope='module')
def browser():
    """A headless Chromium, driven by Playwright. Skip if one of them is not installed."""
    api = pytest.importorskip('playwright.sync_api')
    found = list(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))))
    if not found:
        pytest.skip('Chromium is not installed')
    with api.sync_playwright() as playwright:
        root = hasattr(os, 'geteuid') and os.geteuid() == 0  # for whom its sandbox does not work
        arguments = ['--no-proxy-server', *(['--no-sandbox'] if root else [])]
        browser = playwright.chromium.launch(executable_path=found[0], args=arguments, timeout=180_000)
        yield browser
        browser.close()
