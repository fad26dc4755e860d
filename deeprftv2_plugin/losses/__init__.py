from .frequency import FFTL1Loss, FocalFrequencyLoss, FourierLoss
from .multi_scale import MultiScaleLoss

__all__ = ['FFTL1Loss', 'FocalFrequencyLoss', 'FourierLoss', 'MultiScaleLoss']
