from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.models.losses import MultiScaleLoss

__all__ = ['DeepRFTv2Model', 'MultiScaleLoss']
