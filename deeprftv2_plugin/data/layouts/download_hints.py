"""Where data sets are to be had and how they are to be laid out, for whoever has none on disk yet."""

import re
from typing import NamedTuple


class Source(NamedTuple):
    """A data set that can be obtained."""

    marks: tuple[str, ...]
    """Words of which a root contains one, in small letters."""
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
        ('hide',),
        """\
HIDE (Shen et al., ICCV 2019): people in motion, 2025 pairs for testing
  where   https://github.com/joanshen0508/HA_deblur
  layout  unpack it and let datasets/HIDE be the folder HIDE_dataset, so that there are
            datasets/HIDE/test/test-close-ups/*.png
            datasets/HIDE/test/test-long-shot/*.png
            datasets/HIDE/GT/*.png                      the sharp frames of all of them""",
    ),
    Source(
        ('reds',),
        """\
REDS (Nah et al., CVPR Workshops 2019): 24000 pairs for training and 3000 for validation, 1280x720
  where   https://seungjunnah.github.io/Datasets/reds (train_sharp, train_blur_jpeg, val_sharp, val_blur_jpeg;
          train_blur and val_blur for frames that are not compressed)
  layout  unpack them all into datasets/REDS, so that there are
            datasets/REDS/train/train_sharp/000/00000000.png
            datasets/REDS/train/train_blur_jpeg/000/00000000.jpg
            datasets/REDS/val/val_sharp/000/00000009.png
            datasets/REDS/val/val_blur_jpeg/000/00000009.jpg""",
    ),
    Source(
        ('realblur',),
        """\
RealBlur (Rim et al., ECCV 2020): 3758 pairs for training and 980 for testing, as JPEGs (J) and from raw (R)
  where   https://github.com/rimchang/RealBlur
  layout  unpack it and let datasets/RealBlur be its folder, lists included, so that there are
            datasets/RealBlur/RealBlur_J_train_list.txt  (RealBlur_R_..., ..._test_list.txt)
            datasets/RealBlur/RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/blur/blur_1.png
            datasets/RealBlur/RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/gt/gt_1.png
            datasets/RealBlur/RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref/...""",
    ),
    Source(
        ('rsblur',),
        """\
RSBlur (Rim et al., "Realistic Blur Synthesis for Learning Image Deblurring", ECCV 2022)
  where   https://github.com/rimchang/RSBlur
  layout  unpack it with its lists beside or inside; dataroot is the folder RSBlur""",
    ),
    Source(
        ('dpdd', 'dp'),
        """\
DPDD (Abuolaim and Brown, ECCV 2020): 350 pairs for training, 74 for validation, 76 for testing, 1680x1120, 16 bit
  where   https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel (dd_dp_dataset_canon)
  layout  unpack it and let datasets/DPDD be the folder dd_dp_dataset_canon, so that there are
            datasets/DPDD/train_c/source/*.png          out of focus
            datasets/DPDD/train_c/target/*.png          sharp
            datasets/DPDD/val_c/..., datasets/DPDD/test_c/...""",
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
    words = set(re.findall('[a-z]+', ' '.join(roots.values()).lower()))
    found = [source for source in SOURCES if words.intersection(source.marks)]
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
