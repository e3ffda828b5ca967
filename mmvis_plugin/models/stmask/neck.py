"""The feature pyramid of YOLACT as STMask uses it."""

from mmcv.cnn import ConvModule
from mmdet.models.necks import FPN
from mmdet.registry import MODELS


@MODELS.register_module()
class STMaskFPN(FPN):
    """MMDetection's ``FPN`` with a ReLU on the levels that come from the backbone.

    ``FPN`` knows one activation for all its convolutions. Here the lateral convolutions and the
    extra levels, each of them a convolution of stride 2 on the level before it, have none. The
    top-down path is bilinear.

    Args:
        in_channels: Channels of the backbone's stages.
        out_channels: Channels of all levels.
        num_outs: Number of levels.
        **kwargs: Others of ``FPN``, such as ``start_level``.
    """

    def __init__(self, in_channels: list[int], out_channels: int, num_outs: int, **kwargs) -> None:
        super().__init__(
            in_channels,
            out_channels,
            num_outs,
            add_extra_convs="on_output",
            upsample_cfg=dict(mode="bilinear", align_corners=False),
            **kwargs,
        )
        for level in range(len(self.lateral_convs)):
            self.fpn_convs[level] = ConvModule(out_channels, out_channels, 3, padding=1)
