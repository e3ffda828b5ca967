"""The features from which IFC's masks are computed by a dot product."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn


@MODELS.register_module()
class IFCMaskHead(BaseModule):
    """Mask features of single frames, from the encoder's cells and two finer maps of the backbone.

    Source: the repository of IFC (Hwang et al., NeurIPS 2021); Sec. 3.2 of the paper.

    Args:
        in_channels: Channels of the backbone's maps, of the middle scale and of the finest.
        channels: C.
        num_groups: Of the group normalisations.
    """

    def __init__(
        self, in_channels: Sequence[int] = (1024, 512), channels: int = 256, num_groups: int = 32
    ) -> None:
        super().__init__()
        self.laterals = ModuleList(nn.Conv2d(inputs, channels, 1) for inputs in in_channels)
        self.convs = ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.norms = ModuleList(nn.GroupNorm(num_groups, channels) for _ in range(3))
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def project(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The part that needs no encoder.

        Args:
            maps: (N, C_s, h_s, w_s) of the middle and the finest scale.

        Returns:
            (N, C, h_s, w_s) of both.
        """
        return [lateral(scale) for lateral, scale in zip(self.laterals, maps, strict=True)]

    def forward(self, cells: Tensor, projected: Sequence[Tensor]) -> Tensor:
        """Mask features.

        Args:
            cells: (N, C, h, w) of the encoder.
            projected: Of :meth:`project`.

        Returns:
            (N, C, h_s, w_s), not negative, on the grid of the finest scale.
        """
        x = self.norms[0](self.convs[0](cells))
        for conv, norm, lateral in zip(self.convs[1:], self.norms[1:], projected, strict=True):
            x = lateral + F.interpolate(x, size=lateral.shape[-2:], mode="nearest")
            x = norm(conv(x))
        return self.pointwise(self.depthwise(x.relu()).relu()).relu()
