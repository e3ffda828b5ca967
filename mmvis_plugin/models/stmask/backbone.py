"""ResNet with a modulated deformable convolution in every n-th block."""

import torch
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv2d
from mmdet.models.backbones import ResNet
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from torch import Tensor

from ..layers.precision import at_least_float32


@MODELS.register_module("Float32DCNv2")
class Float32ModulatedDeformConv2dPack(ModulatedDeformConv2dPack):
    """mmcv's ``DCNv2`` computed in float32 also under autocast, that can start from plain weights.

    mmcv's operator has no bfloat16 kernel on CPU. And its masks start at one half: with the kernel
    of a plain backbone's checkpoint it would give half of what the normalisation after it expects.
    Such a kernel is doubled when it is loaded, so that the block begins as the plain one.

    It has a bias, which is trained, as in the authors' code, although MMDetection's ResNet asks
    for none. A checkpoint without one has a bias of zero. Other arguments and weights are the same
    as for ``DCNv2``.
    """

    def __init__(self, *args, bias: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs, bias=True)

    def init_weights(self) -> None:
        """Start from no offsets and masks of one half.

        MMEngine calls it after the initialisation of the backbone, which must not be undone for
        the kernel itself.
        """
        if hasattr(self, "conv_offset"):  # not yet when the parent's constructor calls it
            self.conv_offset.weight.data.zero_()
            self.conv_offset.bias.data.zero_()
        else:
            super().init_weights()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        if f"{prefix}weight" in state_dict:
            state_dict.setdefault(f"{prefix}bias", torch.zeros_like(self.bias))
        super()._load_from_state_dict(state_dict, prefix, *args)
        of_plain_convolution = f"{prefix}conv_offset.weight" not in state_dict
        if of_plain_convolution and f"{prefix}weight" in state_dict:
            self.weight.data.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C_in, H, W).

        Returns:
            (B, C_out, H', W'), float32 or, if given so, float64.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x)
            offset_y, offset_x, mask = self.conv_offset(x).chunk(3, dim=1)
            return modulated_deform_conv2d(
                x,
                torch.cat([offset_y, offset_x], dim=1),
                mask.sigmoid(),
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
                self.deform_groups,
            )


@MODELS.register_module()
class IntervalDCNResNet(ResNet):
    """MMDetection's ``ResNet`` with deformable convolutions in every n-th block of a stage only.

    ``ResNet`` switches whole stages. YOLACT++ (Bolya et al., 2019), whose backbones STMask uses,
    has them in the first block of a stage and in every second (R-50) or third (R-101) from there.

    Args:
        dcn_interval: Blocks 0, ``dcn_interval``, ``2 * dcn_interval`` ... of the stages of
            ``stage_with_dcn`` are deformable.
        **kwargs: Of ``ResNet``, ``dcn`` and ``stage_with_dcn`` among them.
    """

    def __init__(self, dcn_interval: int, **kwargs) -> None:
        self.dcn_interval = dcn_interval  # before the parent's constructor, which builds the stages
        super().__init__(**kwargs)

    def make_res_layer(self, dcn: dict | None = None, **kwargs) -> ResLayer:
        """A stage of ``ResNet`` whose deformable blocks stand among plain ones."""
        stage = super().make_res_layer(dcn=None, **kwargs)
        if dcn is not None:
            deformable = super().make_res_layer(dcn=dcn, **kwargs)
            for block in range(0, len(stage), self.dcn_interval):
                stage[block] = deformable[block]
        return stage
