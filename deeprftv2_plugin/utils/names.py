"""Names of folders and parts of file names."""

LONGEST = 100
"""Maximum number of bytes of a name. Added prefixes, times and suffixes keep it below 255, the usual limit."""


def is_path_component(name: str) -> bool:
    """Return whether a name in an option file can be a component of a path.

    It must not be empty, ``.`` or ``..``, must not contain a separator or a nonprintable character, and
    must have at most `LONGEST` bytes in UTF-8.
    """
    return (
        name not in ('', '.', '..')
        and name.isprintable()  # false for lone surrogates, which cannot be encoded
        and not set(name) & set('/\\')
        and len(name.encode()) <= LONGEST
    )
