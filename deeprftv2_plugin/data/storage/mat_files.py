"""Read MATLAB files up to version 7 with SciPy."""

from pathlib import Path

import numpy as np

from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import reading

MAX_BYTES = 2**30
"""Maximum size of a file, in bytes."""


def read_mat(path: str | Path, variable: str | None = None) -> np.ndarray:
    """Return a variable of a MATLAB file.

    Args:
        path: The file.
        variable: Name of the variable. By default, the only variable of the file.

    Raises:
        UserError: SciPy is missing, the file cannot be read, or it does not have the variable.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f'reading {path} needs SciPy, which is not installed: pip install scipy') from error
    with reading(path, MAX_BYTES, 'the MATLAB file') as stream:
        try:
            content = loadmat(stream)
        except NotImplementedError as error:
            raise UserError(f"{path} is a MATLAB file of version 7.3: save it with save(..., '-v7')") from error
        except Exception as error:  # SciPy raises many types of errors for damaged files
            raise UserError(f'SciPy cannot read the MATLAB file {path}: {error}') from error
    names = [name for name in content if not name.startswith('__')]
    if variable is None and len(names) != 1:
        raise UserError(
            f'{path} has the variables {", ".join(names) or "none"}, expected one: choose it with the option variable'
        )
    if variable is not None and variable not in names:
        raise UserError(f'{path} has no variable {variable}. It has {", ".join(names)}')
    return content[variable or names[0]]
