"""`python -m deeprftv2_plugin ...`: the command under its module name, as torchrun wants it."""

import sys

from deeprftv2_plugin.cli import main

if __name__ == '__main__':
    sys.exit(main())
