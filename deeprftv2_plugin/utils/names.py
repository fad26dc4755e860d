"""Names that become folders or parts of file names."""

LONGEST = 100
"""Bytes of a name. With the prefixes, times and suffixes that are added to it, it stays below 255, a usual limit."""


def is_path_component(name: str) -> bool:
    """Return whether a name of an option file can be part of a path.

    It must not be empty, ``.`` or ``..``, must not contain a separator or a character that is not printable, and
    must have at most `LONGEST` bytes in UTF-8.
    """
    return (
        name not in ('', '.', '..')
        and name.isprintable()  # false for lone surrogates, which cannot be encoded
        and not set(name) & set('/\\')
        and len(name.encode()) <= LONGEST
    )
