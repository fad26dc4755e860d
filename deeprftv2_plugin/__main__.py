"""Run the command line as a module, e.g. under torchrun: `python -m deeprftv2_plugin ...`."""

import sys

from deeprftv2_plugin.cli import main

if __name__ == '__main__':
    sys.exit(main())
