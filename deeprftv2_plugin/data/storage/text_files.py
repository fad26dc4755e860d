"""Read lists from text files."""

import codecs
import os

from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import reading

MAX_BYTES = 2**28
"""Maximum size of a list."""


def read_lines(path: str | os.PathLike, kind: str) -> list[str]:
    """Return the lines of a UTF-8 text file that are not blank. A byte order mark is ignored.

    Args:
        path: The file.
        kind: Kind of the file in error messages.

    Raises:
        UserError: The file cannot be read, has another encoding, is binary, or has only blank lines.
    """
    path = os.fspath(path)
    with reading(path, MAX_BYTES, kind) as file:
        data = file.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f'{kind} {path} is encoded in UTF-16, expected UTF-8: save it as UTF-8')
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        number = data.count(b'\n', 0, error.start) + 1
        raise UserError(
            f'{kind} {path} is not a UTF-8 text file: line {number} has the byte {data[error.start]:#04x}. Save it as '
            'UTF-8'
        ) from error
    if '\0' in text:
        raise UserError(f'{kind} {path} has null characters, expected UTF-8 text: save it as UTF-8')
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f'{kind} {path} is empty')
    return lines
