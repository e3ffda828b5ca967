"""Temporal fusion (TF): where instances of the previous frame are in the next one.

Source: STMask (Li et al., CVPR 2021), Section 3.2 and Figure 5.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.memory_format import crop_rois
from ..layers.precision import at_least_float32
from ..layers.window_correlation import window_correlation


@MODELS.register_module()
class TemporalFusion(BaseModule):
    """Predicts how the boxes and mask coefficients of instances change from frame to frame.

    The correlation of the two frames' maps and the features of both make one map, from which the
    instances are cut out by their boxes in the previous frame.

    Args:
        level: The pyramid level that is used, counted from the finest.
        window: Side of the correlation window in cells, odd.
        in_channels: Channels of the head's shared features.
        conv_channels: Channels of the convolutions on the cut-out features.
        num_coeffs: Number of mask coefficients.
        roi_size: Side of the cut-out features in cells.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        level: int = 1,
        window: int = 11,
        in_channels: int = 256,
        conv_channels: Sequence[int] = (512, 512, 1024),
        num_coeffs: int = 32,
        roi_size: int = 7,
        init_cfg: dict | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type="Xavier", layer=["Conv2d", "Linear"], distribution="uniform")
        super().__init__(init_cfg)
        self.level = level
        self.window = window
        self.roi_size = roi_size
        channels = [window**2 + 2 * in_channels, *conv_channels]
        self.convs = nn.Sequential(
            *(
                ConvModule(before, after, 3, padding=1)
                for before, after in zip(channels, channels[1:], strict=False)
            )
        )
        self.fc_box = nn.Linear(channels[-1], 4)
        self.fc_coeff = nn.Linear(channels[-1], num_coeffs)

    def fuse(
        self, previous: Tensor, previous_features: Tensor, following: Tensor, features: Tensor
    ) -> Tensor:
        """One map of two frames.

        Args:
            previous: (B, C, H, W) pyramid level of the previous frames.
            previous_features: (B, C', H, W) shared features of the head on that level.
            following: (B, C, H, W), of the next frames.
            features: (B, C', H, W), likewise.

        Returns:
            (B, window^2 + 2C', H, W), not negative.
        """
        correlation = window_correlation(previous, following, self.window)
        parts = [correlation, at_least_float32(previous_features), at_least_float32(features)]
        return torch.cat(parts, dim=1).relu()

    def forward(self, fused: Tensor, boxes: Tensor, batch_inds: Tensor) -> tuple[Tensor, Tensor]:
        """Change of instances between the frames.

        Args:
            fused: (B, C, H, W) of :meth:`fuse`.
            boxes: (N, 4) in the previous frames, xyxy in fractions of the padded frame.
            batch_inds: (N,) pair of frames of each.

        Returns:
            (N, 4) box regression relative to the boxes, and (N, M) to be added to the mask
            coefficients before their tanh. Float32 also under autocast.
        """
        if len(boxes) == 0:
            # Convolutions on empty batches are slow to fail or unsupported, backend by backend;
            # the parameters stay part of the graph.
            nothing = sum(parameter.sum() for parameter in self.parameters()) * 0 + fused.sum() * 0
            return (
                nothing + fused.new_zeros(0, 4),
                nothing + fused.new_zeros(0, self.fc_coeff.out_features),
            )
        rois = torch.cat([batch_inds[:, None].to(boxes.dtype), self._on_grid(boxes, fused)], dim=1)
        # As a sampling ratio of 0 says, boxes are sampled more densely the larger they are.
        x = crop_rois(fused, rois, self.roi_size)
        x = self.convs(x).mean((2, 3))
        return at_least_float32(self.fc_box(x)), at_least_float32(self.fc_coeff(x))

    def _on_grid(self, boxes: Tensor, fused: Tensor) -> Tensor:
        """Boxes in cells, cut off at the borders; one that has left the frame loses its extent."""
        height, width = fused.shape[-2:]
        size = boxes.new_tensor([width, height])
        corners = boxes.unflatten(1, (2, 2)).sort(1).values * size
        lower = corners[:, 0].clamp(min=0)
        upper = torch.maximum(torch.minimum(corners[:, 1], size), lower)
        return torch.cat([lower, upper], dim=1)
