"""BasicSR's model classes of this package."""

from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model

__all__ = ['DeepRFTv2Model']
