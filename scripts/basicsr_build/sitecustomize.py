"""Let BasicSR 1.4.2 be built on Python 3.13 and newer.

Its setup.py calls ``exec(code)`` in a function and then reads ``locals()['__version__']``. Since Python 3.13 (PEP 667),
such an ``exec`` writes to a copy of the function's variables, and the build fails with ``KeyError: '__version__'``.
Python imports this file at startup if its folder is on PYTHONPATH. scripts/environment.sh sets PYTHONPATH only for the
installation of BasicSR.
"""

import builtins
import sys

_exec = builtins.exec


def exec_in_frame(source, /, globals=None, locals=None, *, closure=None):
    """Behave like ``exec``, but let a call without namespaces write to the variables of its caller."""
    if globals is None and locals is None:
        caller = sys._getframe(1)
        globals, locals = caller.f_globals, caller.f_locals
    _exec(source, globals, locals, closure=closure)


if sys.version_info >= (3, 13):
    builtins.exec = exec_in_frame
