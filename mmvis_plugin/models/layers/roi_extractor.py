"""RoI feature extraction that autocast cannot break."""

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """MMDetection's ``SingleRoIExtractor`` computed in float32 also under autocast.

    mmcv's RoIAlign has no bfloat16 kernel; sampling is cheap beside the heads that follow, which
    cast its output back. Arguments are those of ``SingleRoIExtractor``.
    """

    def forward(
        self, feats: tuple[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Extract RoI features.

        Args:
            feats: Feature maps (N, C, H_l, W_l) of the levels.
            rois: (K, 5) batch index and box in input pixels.
            roi_scale_factor: Factor by which the boxes are enlarged about their centres.

        Returns:
            (K, C, output_size, output_size) float32.
        """
        with torch.autocast(rois.device.type, enabled=False):
            return super().forward(
                tuple(feat.float() for feat in feats), rois.float(), roi_scale_factor
            )
