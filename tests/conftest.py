"""Settings for all tests."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')  # several threads wait for each other longer than so little work takes

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
