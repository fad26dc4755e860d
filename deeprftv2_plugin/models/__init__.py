from .deeprftv2_model import DeepRFTv2Model
from .losses import MultiScaleLoss

__all__ = ['DeepRFTv2Model', 'MultiScaleLoss']
