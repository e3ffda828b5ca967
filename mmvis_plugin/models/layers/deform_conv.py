"""Deformable convolution that autocast and initialisation cannot break."""

import torch
from mmcv.ops import DeformConv2d, DeformConv2dPack
from mmdet.registry import MODELS
from torch import Tensor

from .precision import at_least_float32


@MODELS.register_module("Float32DCN")
class Float32DeformConv2dPack(DeformConv2dPack):
    """mmcv's ``DCN`` computed in float32 also under autocast, with offsets that start at zero.

    mmcv's deformable convolution has no bfloat16 kernel on CPU. And the initialisation that a
    backbone gives all its convolutions (Kaiming) also reaches those that predict the offsets; where
    a checkpoint of the plain backbone is loaded on top of it they would stay random, and the loaded
    kernels would sample at random places. Arguments and weights are those of ``DCN``.
    """

    def init_weights(self) -> None:
        """Start from no offsets; MMEngine calls it after the initialisation of the backbone."""
        self.init_offset()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C_in, H, W).

        Returns:
            (B, C_out, H', W') in at least float32.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x)
            # DeformConv2d's own forward pads inputs smaller than the kernel; DCN's refuses them.
            return DeformConv2d.forward(self, x, self.conv_offset(x))
