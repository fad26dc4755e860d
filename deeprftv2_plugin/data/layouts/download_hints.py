"""Download links and expected folder structure for datasets that are missing on disk."""

import re
from typing import NamedTuple


class DownloadHint(NamedTuple):
    """A dataset that can be downloaded or generated."""

    keywords: tuple[str, ...]
    """Lowercase words that identify the dataset in a path."""
    text: str


HINTS = (
    DownloadHint(
        ('gopro',),
        """\
GoPro (Nah et al., CVPR 2017): 2103 pairs for training and 1111 for testing, 1280x720
  where   https://seungjunnah.github.io/Datasets/gopro (the archive GOPRO_Large)
  layout  unpack it and rename the folder to datasets/GoPro, or link it:
            ln -s /path/to/GOPRO_Large datasets/GoPro
          The expected files are
            datasets/GoPro/train/GOPR0372_07_00/blur/000047.png
            datasets/GoPro/train/GOPR0372_07_00/sharp/000047.png
            datasets/GoPro/test/GOPR0384_11_00/blur/000001.png
            datasets/GoPro/test/GOPR0384_11_00/sharp/000001.png
            ...""",
    ),
    DownloadHint(
        ('hide',),
        """\
HIDE (Shen et al., ICCV 2019): moving people, 2025 pairs for testing
  where   https://github.com/joanshen0508/HA_deblur
  layout  unpack it and rename the folder HIDE_dataset to datasets/HIDE. The expected files are
            datasets/HIDE/test/test-close-ups/*.png
            datasets/HIDE/test/test-long-shot/*.png
            datasets/HIDE/GT/*.png                      sharp frames of all splits""",
    ),
    DownloadHint(
        ('reds',),
        """\
REDS (Nah et al., CVPR Workshops 2019): 24000 pairs for training and 3000 for validation, 1280x720
  where   https://seungjunnah.github.io/Datasets/reds (train_sharp, train_blur_jpeg, val_sharp, val_blur_jpeg;
          train_blur and val_blur for uncompressed frames)
  layout  unpack all of them into datasets/REDS. The expected files are
            datasets/REDS/train/train_sharp/000/00000000.png
            datasets/REDS/train/train_blur_jpeg/000/00000000.jpg
            datasets/REDS/val/val_sharp/000/00000009.png
            datasets/REDS/val/val_blur_jpeg/000/00000009.jpg""",
    ),
    DownloadHint(
        ('realblur',),
        """\
RealBlur (Rim et al., ECCV 2020): 3758 pairs for training and 980 for testing, as JPEGs (J) and from raw (R)
  where   https://github.com/rimchang/RealBlur
  layout  unpack it into datasets/RealBlur, including the lists. The expected files are
            datasets/RealBlur/RealBlur_J_train_list.txt  (RealBlur_R_..., ..._test_list.txt)
            datasets/RealBlur/RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/blur/blur_1.png
            datasets/RealBlur/RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/gt/gt_1.png
            datasets/RealBlur/RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref/...""",
    ),
    DownloadHint(
        ('rsblur',),
        """\
RSBlur (Rim et al., "Realistic Blur Synthesis for Learning Image Deblurring", ECCV 2022)
  where   https://github.com/rimchang/RSBlur
  layout  unpack it to datasets/RSBlur, and copy the lists from datalist/RSBlur of the repository there. The expected
          files are
            datasets/RSBlur/RSBlur_real_train.txt       (RSBlur_real_val.txt, RSBlur_real_test.txt)
            datasets/RSBlur/0001/000006/real_blur/real_blur.png
            datasets/RSBlur/0001/000006/gt/gt_sharp.png""",
    ),
    DownloadHint(
        ('dpdd', 'dp'),
        """\
DPDD (Abuolaim and Brown, ECCV 2020): 350 pairs for training, 74 for validation, 76 for testing, 1680x1120, 16 bit
  where   https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel (dd_dp_dataset_canon)
  layout  unpack it and rename the folder dd_dp_dataset_canon to datasets/DPDD. The expected files are
            datasets/DPDD/train_c/source/*.png          defocused
            datasets/DPDD/train_c/target/*.png          sharp
            datasets/DPDD/val_c/..., datasets/DPDD/test_c/...""",
    ),
    DownloadHint(
        ('levin',),
        """\
Levin et al. (CVPR 2009): 32 gray images of real camera shake with the measured kernels, 255x255, for testing
  where   https://webee.technion.ac.il/people/anat.levin/ (data of "Understanding and evaluating blind deconvolution
          algorithms"); for academic use
  layout  put the MATLAB files into datasets/Levin. SciPy is required. The expected files are
            datasets/Levin/im05_flit01.mat              or im01_ker01.mat; the variables x, y and f
            ...""",
    ),
    DownloadHint(
        ('koehler', 'kohler'),
        """\
Koehler et al. (ECCV 2012): 48 images of played back camera shake, and sharp images along its trajectory, for testing
  where   http://people.kyb.tuebingen.mpg.de/rolfk/BenchmarkECCV2012/ (BlurryImages.zip, GroundTruth_pngs_Image1.zip
          to Image4.zip)
  layout  unpack all of them into datasets/Koehler. The expected files are
            datasets/Koehler/Blurry1_1.png
            datasets/Koehler/Image1/Kernel1/GroundTruth1_1_1.png
            ...""",
    ),
    DownloadHint(
        ('lai',),
        """\
Lai et al. (CVPR 2016): 100 images with synthetic uniform blur, and 100 real photographs, for testing
  where   https://www.wslai.net/publications/deblur_study/ (Dataset and Code)
  layout  unpack it into datasets/Lai. The expected files are
            datasets/Lai/synthetic_dataset/uniform/manmade_01_kernel_01.png
            datasets/Lai/synthetic_dataset/ground_truth/manmade_01.png
            datasets/Lai/synthetic_dataset/kernel/kernel_01.png
            datasets/Lai/real_dataset/*.jpg""",
    ),
    DownloadHint(
        ('held',),
        """\
Sharp photographs, which are blurred while they are read
  where   any sharp photographs; docs/model_card.md lists those that the included weights were trained on
  layout  datasets/photographs/*            for training
          datasets/photographs_held_out/*   for validation and test""",
    ),
    DownloadHint(
        ('quickstart', 'skimage'),
        """\
Photographs of scikit-image with synthetic camera shake: no download needed
  where   basicsr prepare skimage datasets/quickstart""",
    ),
)


def describe_missing(roots: dict[str, str]) -> str:
    """Describe missing data roots and how to get the data.

    Args:
        roots: The missing paths by their dotted option keys.

    Returns:
        The missing paths, with download links and the folder structure of the known datasets among them.
    """
    width = max(map(len, roots))
    lines = ['data not found. Missing:', *(f'  {key:{width}}  {root}' for key, root in roots.items())]
    words = set(re.findall('[a-z]+', ' '.join(roots.values()).lower()))
    found = [hint for hint in HINTS if words.intersection(hint.keywords)]
    for hint in found:
        lines += ['', hint.text]
    key = next(iter(roots)).replace('.', ':')
    lines += [
        '',
        f'If the data is elsewhere, edit the option file or pass --force_yml {key}=/path/to/data',
    ]
    if not any('skimage' in hint.keywords for hint in found):
        lines.append('To try the package without a download, run: bash scripts/quickstart.sh')
    return '\n'.join(lines)
