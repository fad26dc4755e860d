from deeprftv2_plugin.metrics.aligned import aligned_psnr, aligned_ssim
from deeprftv2_plugin.metrics.perceptual import pyiqa_full_reference, pyiqa_no_reference
from deeprftv2_plugin.metrics.pixelwise import mae, psnr, psnr_gain
from deeprftv2_plugin.metrics.structural import ssim, ssim_3d

__all__ = [
    'aligned_psnr',
    'aligned_ssim',
    'mae',
    'psnr',
    'psnr_gain',
    'pyiqa_full_reference',
    'pyiqa_no_reference',
    'ssim',
    'ssim_3d',
]
