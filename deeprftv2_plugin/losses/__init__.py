"""Losses for image restoration. They do not import BasicSR; `register` adds them to its registry."""

from deeprftv2_plugin.losses.frequency import FFTL1Loss, FocalFrequencyLoss, FourierLoss
from deeprftv2_plugin.losses.multi_scale import MultiScaleLoss
from deeprftv2_plugin.losses.pixelwise import PSNRLoss

__all__ = ['FFTL1Loss', 'FocalFrequencyLoss', 'FourierLoss', 'MultiScaleLoss', 'PSNRLoss']
