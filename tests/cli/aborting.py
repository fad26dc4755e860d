"""A module for `custom_imports` that aborts the process when Python shuts down."""

import atexit
import os
import sys


class Aborting:
    """Aborts the process when it is deleted."""

    def __del__(self):
        os.abort()


held = Aborting()

atexit.register(print, 'exit handlers ran', file=sys.stderr)
