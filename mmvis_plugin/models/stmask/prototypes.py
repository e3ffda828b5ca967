"""Mask prototypes and their combination into instance masks.

Source: YOLACT (Bolya et al., ICCV 2019); STMask (Li et al., CVPR 2021), Equation 9.
"""

import torch
from mmdet.models.dense_heads.yolact_head import YOLACTProtonet
from mmdet.registry import MODELS
from torch import Tensor

from ..layers.precision import at_least_float32


@MODELS.register_module()
class MaskPrototypes(YOLACTProtonet):
    """The network of MMDetection's ``YOLACTProtonet``, with the prototypes themselves as output.

    ``YOLACTProtonet`` gives masks cropped by the boxes of its own head; STMask combines the
    prototypes of one frame with coefficients carried over from another.

    Args:
        in_channels: Channels of the finest level.
        channels: Channels of the layers.
        num_prototypes: M.
    """

    def __init__(
        self, in_channels: int = 256, channels: int = 256, num_prototypes: int = 32
    ) -> None:
        super().__init__(
            num_classes=0,  # of the semantic branch, which is off
            in_channels=in_channels,
            proto_channels=(channels, channels, channels, None, channels, num_prototypes),
            proto_kernel_sizes=(3, 3, 3, -2, 3, 1),
            num_protos=num_prototypes,
            with_seg_branch=False,
        )

    def forward(self, feat: Tensor) -> Tensor:
        """Prototypes of B frames.

        Args:
            feat: (B, C, H, W) finest level.

        Returns:
            (B, M, 2H, 2W), not negative, float32 also under autocast.
        """
        return at_least_float32(self.protonet(feat))


def combine_prototypes(prototypes: Tensor, coeffs: Tensor) -> Tensor:
    """Soft masks of N instances of a frame, not cropped.

    Args:
        prototypes: (M, h, w).
        coeffs: (N, M) before the tanh.

    Returns:
        (N, h, w) in (0, 1).
    """
    with torch.autocast(prototypes.device.type, enabled=False):
        return (coeffs.tanh() @ prototypes.flatten(1)).sigmoid().unflatten(1, prototypes.shape[1:])


def inside_boxes(boxes: Tensor, size: tuple[int, int], margin: float = 0) -> Tensor:
    """Which cells of a grid lie in boxes.

    MMDetection's ``YOLACTProtonet`` has this for masks with instances as the last dimension; here
    they are the first one, as everywhere else.

    Args:
        boxes: (N, 4) xyxy in fractions of the grid.
        size: Height and width of the grid.
        margin: Cells by which the boxes are enlarged on each side.

    Returns:
        (N, H, W) bool. A cell belongs to a box if its index is at least the lower and less than
        the upper bound, as in YOLACT: by its corner, not by its centre.
    """
    height, width = size
    x = boxes[:, 0::2].sort(1).values * width
    y = boxes[:, 1::2].sort(1).values * height
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    in_x = (columns >= x[:, :1] - margin) & (columns < x[:, 1:] + margin)
    in_y = (rows >= y[:, :1] - margin) & (rows < y[:, 1:] + margin)
    return in_y[:, :, None] & in_x[:, None]


def instance_masks(prototypes: Tensor, coeffs: Tensor, boxes: Tensor) -> Tensor:
    """Soft masks of N instances of a frame, cropped by their boxes and a margin of one cell.

    Args:
        prototypes: (M, h, w).
        coeffs: (N, M) before the tanh.
        boxes: (N, 4) xyxy in fractions of the padded frame.

    Returns:
        (N, h, w) in [0, 1].
    """
    masks = combine_prototypes(prototypes, coeffs)
    return masks * inside_boxes(boxes, prototypes.shape[-2:], margin=1)
