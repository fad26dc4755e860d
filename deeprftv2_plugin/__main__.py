"""Run the command line as a module, e.g. under torchrun: `python -m deeprftv2_plugin ...`."""

import os
import sys


def _leave_out_working_directory() -> None:
    """Remove the working directory from the search path, where `python -m` puts it first.

    Runs are started in folders with data, where a file `scipy.py` would be imported instead of SciPy.
    """
    if getattr(sys.flags, 'safe_path', False) or sys.path[0] not in ('', os.getcwd()):
        return
    folder = sys.path.pop(0)
    package_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if package_folder == os.getcwd():  # the package is not installed, and new processes must find it
        sys.path.append(folder)


if __name__ == '__main__':
    _leave_out_working_directory()

    from deeprftv2_plugin.cli import main

    sys.exit(main())
