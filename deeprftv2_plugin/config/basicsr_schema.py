"""Options of the datasets and models of BasicSR 1.4.2, by class."""

from collections.abc import Sequence
from typing import Any, Literal

from deeprftv2_plugin.config.kinds import Count, Fraction, Natural, NotNegative, Option, Settings
from deeprftv2_plugin.config.schema import Roots, Table


def _options(names: str, kind: Any, help: str = '') -> Table:
    """Return several optional keys of one kind."""
    return {name: Option(kind, help, None) for name in names.split()}


Numbers = Sequence[float]
_IO = {'io_backend': Option(Settings, 'How files are read: type disk, lmdb or memcached, and its arguments.')}
_NORM = _options('mean std', Numbers, 'Mean or standard deviation per channel, for normalization.')
_TURNS = _options('use_hflip use_rot', bool, 'Whether to apply random flips or rotations.')
_ROOTS = _options('dataroot_gt dataroot_lq', Roots, 'Sharp or high-resolution images (gt) or degraded images (lq).')
_META = _options('meta_info_file', str, 'List of the files.')
_CROP = _options('gt_size', Count, 'Size of crops in pixels.') | _options('scale', Count, 'Set by BasicSR.')
_FRAMES = _options('num_frame', int, 'Number of frames per sample; -1 for all.')
_VIDEO = _IO | _ROOTS | _META | _CROP | _FRAMES | _TURNS
_VIDEO |= _options('random_reverse', bool, 'Whether to reverse clips at random.')
_REDS = _VIDEO | _options('interval_list', list[Count], 'Intervals between frames.')
_REDS |= _options('val_partition', Literal['REDS4', 'official'], 'Clips that are reserved for validation.')
_VIDEO_TEST = _IO | _ROOTS | _META | _FRAMES | _options('cache_data', bool, 'Whether to keep frames in memory.')
_PADDING = _options('padding', str, 'Padding at the ends of a clip.')
_PAIRED = _IO | _NORM | _TURNS | _ROOTS | _CROP | _options('filename_tmpl', str, 'Template of the degraded file names.')
_DEGRADATION = (
    _options('blur_kernel_size blur_kernel_size2', Count)
    | _options('kernel_list kernel_list2', list[str])
    | _options('kernel_prob kernel_prob2', list[NotNegative])
    | _options('sinc_prob sinc_prob2 final_sinc_prob', Fraction)
    | _options(
        'blur_sigma blur_sigma2 betag_range betag_range2 betap_range betap_range2', tuple[NotNegative, NotNegative]
    )
)
_FEEDING = (
    _options('gt_size queue_size', Count)
    | _options('high_order_degradation', bool)
    | _options('resize_prob resize_prob2', list[NotNegative])
    | _options('resize_range resize_range2 noise_range noise_range2', tuple[NotNegative, NotNegative])
    | _options('poisson_scale_range poisson_scale_range2 jpeg_range jpeg_range2', tuple[NotNegative, NotNegative])
    | _options('gaussian_noise_prob gaussian_noise_prob2 gray_noise_prob gray_noise_prob2 second_blur_prob', Fraction)
)
_DISCRIMINATOR = {'network_d': Option(Settings, 'The discriminator: type and its arguments.')}
_ADVERSARIAL = {
    'optim_d': Option(Settings, 'Optimizer of the discriminator.'),
    **_options('gan_opt', Settings, 'A loss: type and its arguments.'),
    **_options('net_d_iters', Count, 'Discriminator iterations per generator iteration.'),
    **_options('net_d_init_iters', Natural, 'Iterations before the generator is trained.'),
}
_FLOW = {
    **_options('fix_flow', Natural, 'Iterations during which the flow network is fixed.'),
    **_options('flow_lr_mul', NotNegative, 'Factor for the learning rate of the flow network.'),
}

DATASETS: dict[str, Table] = {
    'FFHQDataset': _IO | _NORM | _options('dataroot_gt', Roots) | _options('use_hflip', bool),
    'PairedImageDataset': _PAIRED | _META | _options('color', Literal['y'], 'Whether to use only the Y channel.'),
    'RealESRGANPairedDataset': _PAIRED | _options('meta_info', str, 'List of the files.'),
    'RealESRGANDataset': _IO | _TURNS | _DEGRADATION | _options('dataroot_gt', Roots) | _options('meta_info', str),
    'SingleImageDataset': _IO | _NORM | _META | _options('dataroot_lq', Roots) | _options('color', Literal['y']),
    'REDSDataset': _REDS | _options('dataroot_flow', str, 'Optical flow.'),
    'REDSRecurrentDataset': _REDS | _options('test_mode', bool),
    'Vimeo90KDataset': _VIDEO,
    'Vimeo90KRecurrentDataset': _VIDEO | _options('flip_sequence', bool, 'Whether to append the reversed clip.'),
    'VideoTestDataset': _VIDEO_TEST | _PADDING,
    'VideoTestVimeo90KDataset': _VIDEO_TEST,
    'VideoTestDUFDataset': _VIDEO_TEST | _PADDING | _options('use_duf_downsampling', bool) | _options('scale', Count),
    'VideoRecurrentTestDataset': _VIDEO_TEST | _PADDING,
}

# in the format of `schema.MODELS`
MODELS: dict[str, dict[str, Table]] = {
    'SRGANModel': {
        'root': _DISCRIMINATOR,
        'train': _ADVERSARIAL | _options('ldl_opt', Settings, 'A loss: type and its arguments.'),
    },
    'RealESRGANModel': {
        'root': _FEEDING
        | _options('l1_gt_usm percep_gt_usm gan_gt_usm', bool, 'Whether to sharpen the targets of this loss.')
    },
    'RealESRNetModel': {'root': _FEEDING | _options('gt_usm', bool, 'Whether to sharpen the targets.')},
    'HiFaceGANModel': {
        'root': _DISCRIMINATOR,
        'train': _ADVERSARIAL | _options('feature_matching_opt', Settings, 'A loss: type and its arguments.'),
    },
    'EDVRModel': {
        'train': {
            **_options('dcn_lr_mul', NotNegative, 'Factor for the learning rate of deformable convolutions.'),
            **_options('tsa_iter', Natural, 'Iterations during which only the TSA module is trained.'),
        }
    },
    'VideoRecurrentModel': {
        'train': _FLOW,
        'val': {
            **_options('flip_seq', bool, 'Whether to average over the clip and its reversal.'),
            **_options('center_frame_only', bool, 'Whether to restore only the center frame of a clip.'),
        },
    },
    'VideoRecurrentGANModel': {
        'root': _DISCRIMINATOR,
        'train': _ADVERSARIAL | _FLOW | _options('lr_flow', NotNegative, 'Learning rate of the flow network.'),
    },
    'StyleGAN2Model': {
        'root': {'network_g': Option(Settings, 'The generator: type and its arguments.'), **_DISCRIMINATOR},
        'train': {
            'optim_g': Option(Settings, 'Optimizer of the generator.'),
            'optim_d': Option(Settings, 'Optimizer of the discriminator.'),
            **_options('gan_opt', Settings, 'A loss: type and its arguments.'),
            **_options('mixing_prob', Fraction, 'Probability of mixing two styles.'),
            **_options('net_g_reg_every net_d_reg_every path_batch_shrink', Count),
            **_options('path_reg_weight r1_reg_weight', NotNegative),
        },
        'val': {
            **_options('num_val_samples', Count, 'Number of samples.'),
            'metrics': Option(dict[str, Settings], 'Metrics by name.', None),
        },
    },
}
