"""Arguments of published networks, for restoration at the size of the input."""

from typing import Any

_NO_SCALE = {'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 1}

PUBLISHED: dict[str, dict[str, Any]] = {
    # networks of BasicSR for super-resolution or denoising, here with RGB images in [0, 1] and no upsampling
    'EDSR': _NO_SCALE,
    'RCAN': _NO_SCALE,
    'RRDBNet': {'num_in_ch': 3, 'num_out_ch': 3, 'scale': 1},
    'RIDNet': {'in_channels': 3, 'mid_channels': 64, 'out_channels': 3, 'img_range': 1.0},
    'SwinIR': {  # the authors' configuration for denoising color images
        'upscale': 1,
        'img_size': 128,
        'window_size': 8,
        'embed_dim': 180,
        'depths': [6, 6, 6, 6, 6, 6],
        'num_heads': [6, 6, 6, 6, 6, 6],
        'mlp_ratio': 2,
    },
    # networks of spandrel as trained on GoPro, where that differs from the defaults of the class
    'NAFNet_spandrel': {'width': 32, 'enc_blk_nums': [1, 1, 1, 28], 'middle_blk_num': 1, 'dec_blk_nums': [1, 1, 1, 1]},
    'MPRNet_spandrel': {'n_feat': 96, 'scale_unetfeats': 48, 'scale_orsnetfeats': 32, 'num_cab': 8},
    'Uformer_spandrel': {
        'img_size': 256,
        'embed_dim': 32,
        'depths': [1, 2, 8, 8, 2, 8, 8, 2, 1],
        'modulator': True,
    },
}
"""Arguments by the name in BasicSR's registry. Other classes are built with their defaults."""
