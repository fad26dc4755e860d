"""The metrics of a validation, on a frame and one core, beside BasicSR's own."""

from benchmarks.measure import median_time
from benchmarks.plan import Case, Setting, Skip

THEIRS = {'psnr': 'calculate_psnr', 'ssim': 'calculate_ssim', 'ssim_3d': 'calculate_ssim'}
"""What BasicSR has in the place of ours. It has no SSIM in space: that stands beside the one in the plane."""
FRAME = {'width': 1280, 'height': 720}


def cases(setting: Setting) -> list[Case]:
    frame = {'width': 32, 'height': 24} if setting.quick else FRAME
    return [Case('metrics', score, {'metric': name, **frame}, default=name != 'psnr') for name in THEIRS]


def score(setting: Setting, metric: str, width: int, height: int) -> dict:
    """A metric of a frame and the same with noise, both of 8 bit; on one core of the CPU, whatever the setting."""
    try:
        import cv2
        import numpy as np

        from deeprftv2_plugin.basicsr_bridge.registration import register
    except ImportError as error:
        raise Skip(f'{error.name} is not installed: pip install opencv-python') from None
    register()
    from basicsr.utils.registry import METRIC_REGISTRY

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    sharp = cv2.GaussianBlur(rng.normal(128, 300, (height, width, 3)), (0, 0), 4).clip(0, 255)
    noisy = sharp + rng.normal(0, 5, sharp.shape)
    frame, noisy = sharp.astype(np.uint8), noisy.clip(0, 255).astype(np.uint8)

    def time_of(name, **options):
        call = METRIC_REGISTRY.get(name)
        return median_time(lambda: call(noisy, frame, **options), 'cpu', *((0, 1) if setting.quick else (2, 3)))

    found, theirs = time_of(metric), time_of(THEIRS[metric], crop_border=0)
    ratio = theirs['seconds'] / found['seconds']
    note = f"{ratio:.1f} times as fast as BasicSR's {THEIRS[metric]}, {theirs['seconds'] * 1e3:.0f} ms"
    return found | {'basicsr_seconds': theirs['seconds'], 'basicsr_ratio': ratio, 'note': note}
