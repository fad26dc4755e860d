"""The architecture for spandrel, the library with which chaiNNer, ComfyUI and other programs load networks."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints.networks import load_into, network_options
from deeprftv2_plugin.checkpoints.official_keys import from_official_state_dict, is_official
from deeprftv2_plugin.inference.restoration import MIN_SIZE
from deeprftv2_plugin.utils.errors import UserError

ID = DeepRFTv2.__name__
_SIGNS = {
    f'stages.0.{scale}_{part}.weight'
    for scale in ('full', 'half')
    for part in ('head', 'estimator.to_otf', 'estimator.feature_proj', 'estimator.to_image')
} | {'stages.0.full_encoder.levels.0.before.first.weight'}
"""Parameters that every DeepRFTv2 has and no other network."""


def install() -> None:
    """Register the architecture in spandrel's `MAIN_REGISTRY`. Repeated calls have no effect.

    `spandrel.ModelLoader().load_from_file` then loads checkpoints of this package and of the authors. The arguments of
    the network are inferred from the weights. Window sizes cannot be inferred, see `checkpoints.load_network`.

    Raises:
        UserError: spandrel is not installed.

    Example:
        Deblur a batch of one image::

            import spandrel
            from deeprftv2_plugin.inference.spandrel_arch import install

            install()
            model = spandrel.ModelLoader().load_from_file('net_g_latest.pth')
            sharp = model(blurry)  # (1, 3, H, W) in [0, 1]
    """
    try:
        import spandrel
    except ImportError as error:
        raise UserError(
            "spandrel is not installed. Install it with this package: pip install 'deeprftv2-plugin[spandrel]'"
        ) from error

    class DeepRFTv2Arch(spandrel.Architecture):
        def __init__(self) -> None:
            super().__init__(id=ID, detect=is_deeprftv2)

        def load(self, state_dict: dict[str, Any]) -> spandrel.ImageModelDescriptor:
            weights = _converted(state_dict)
            options = network_options(weights)
            net = DeepRFTv2(**options)
            load_into(net, weights, 'the state dict')
            return spandrel.ImageModelDescriptor(
                net.eval(),
                net.state_dict(),
                architecture=self,
                purpose='Restoration',
                tags=['{}/{}w'.format(*options['width']), f'{options["stages"]} stages'],
                supports_half=False,
                supports_bfloat16=False,  # spectra, and the weights applied to them, must be float32
                scale=1,
                input_channels=options['in_channels'],
                output_channels=options['out_channels'],
                size_requirements=spandrel.SizeRequirements(minimum=MIN_SIZE, multiple_of=net.size_multiple),
                tiling=spandrel.ModelTiling.SUPPORTED,
            )

    spandrel.MAIN_REGISTRY.add(spandrel.ArchSupport.from_architecture(DeepRFTv2Arch()), ignore_duplicates=True)


def is_deeprftv2(state: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the parameter names of a DeepRFTv2 in this package or in the authors' code."""
    try:
        return _converted(state).keys() >= _SIGNS
    except UserError:  # another network with similar names
        return False


def _converted(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    return from_official_state_dict(state) if is_official(state) else state
