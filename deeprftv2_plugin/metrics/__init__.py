"""Metrics of images as arrays of uint8 or uint16, as stored in files. They do not import BasicSR."""

from deeprftv2_plugin.metrics.aligned import aligned_psnr, aligned_ssim
from deeprftv2_plugin.metrics.perceptual import pyiqa_full_reference, pyiqa_no_reference
from deeprftv2_plugin.metrics.pixelwise import mae, psnr, psnr_gain
from deeprftv2_plugin.metrics.shifted import error_ratio, shifted_psnr, shifted_ssim
from deeprftv2_plugin.metrics.structural import ssim, ssim_3d
from deeprftv2_plugin.metrics.trajectory import trajectory_mssim, trajectory_psnr

__all__ = [
    'aligned_psnr',
    'aligned_ssim',
    'error_ratio',
    'mae',
    'psnr',
    'psnr_gain',
    'pyiqa_full_reference',
    'pyiqa_no_reference',
    'shifted_psnr',
    'shifted_ssim',
    'ssim',
    'ssim_3d',
    'trajectory_mssim',
    'trajectory_psnr',
]
