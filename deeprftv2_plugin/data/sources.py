"""Where data sets are to be had and how they are to be laid out, for whoever has none on disk yet."""

from typing import NamedTuple


class Source(NamedTuple):
    """A data set that can be obtained."""

    marks: tuple[str, ...]
    """What a root or a data set's name contains, in small letters."""
    text: str


SOURCES = (
    Source(
        ('gopro',),
        """\
GoPro (Nah et al., CVPR 2017): 2103 pairs for training and 1111 for testing, 1280x720
  where   https://seungjunnah.github.io/Datasets/gopro (GOPRO_Large, the archive without further name)
  layout  unpack it and let datasets/GoPro be the unpacked folder, or a link to it:
            ln -s /path/to/GOPRO_Large datasets/GoPro
          so that there are
            datasets/GoPro/train/GOPR0372_07_00/blur/000047.png
            datasets/GoPro/train/GOPR0372_07_00/sharp/000047.png
            datasets/GoPro/test/GOPR0384_11_00/blur/000001.png
            datasets/GoPro/test/GOPR0384_11_00/sharp/000001.png
            ...""",
    ),
    Source(
        ('quickstart', 'skimage'),
        """\
Photographs of scikit-image under synthetic camera shake: no download
  where   basicsr prepare skimage datasets/quickstart""",
    ),
)


def describe_missing(roots: dict[str, str]) -> str:
    """One screen about roots that are not there.

    Args:
        roots: The missing paths by their dotted option keys.

    Returns:
        str: Which they are, where the data sets among them are to be had and how they are to be laid out.
    """
    width = max(map(len, roots))
    lines = ['the data is not there. Missing:', *(f'  {key:{width}}  {root}' for key, root in roots.items())]
    text = ' '.join(roots.values()).lower()
    found = [source for source in SOURCES if any(mark in text for mark in source.marks)]
    for source in found:
        lines += ['', source.text]
    key = next(iter(roots)).replace('.', ':')
    lines += [
        '',
        f'Data that lies elsewhere is named by the option file, or by --force_yml {key}=/path/to/it',
    ]
    if not any('skimage' in source.marks for source in found):
        lines.append('To try things out without a download: bash scripts/quickstart.sh')
    return '\n'.join(lines)
