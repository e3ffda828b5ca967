"""The mask refinement network of MaskProp.

Source: Bertasius & Torresani, "Classifying, Segmenting, and Tracking Object Instances in Video
with Mask Propagation", CVPR 2020. The propagated masks live on a coarse grid; a small network
draws them anew in a crop of the frame whose shorter side has 384 pixels.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.memory_format import crop_rois
from ..layers.precision import at_least_float32
from ..layers.soft_iou import soft_iou
from .propagation import ResidualBlock
from .roi_masks import paste_in_frame

LEAST_CERTAIN = 0.01  # coarse masks are clamped to it, so that the network can overrule them


@MODELS.register_module()
class MaskRefiner(BaseModule):
    """Draws the masks of a frame's instances anew, each in a crop of the frame around it.

    The crop is a square with some context: its sides, both the shorter, have ``size`` pixels, and
    all instances of a batch are one tensor. The frame and the propagated mask, as fourth channel,
    go through strided convolutions, residual blocks and a 1 x 1 convolution, whose output is added
    to the logits of the propagated mask. Number and form of the blocks, context and sum are our
    reading.

    Args:
        size: Side of the crops in pixels.
        stride: Pixels per cell of the residual blocks, a power of two.
        channels: Channels of the blocks.
        num_blocks: Number of residual blocks.
        margin: Context to each side of the mask's box, as a share of its longer side.
        norm_cfg: Config of the normalisation; group normalisation of 32 groups by default.
        loss_weight: Weight of the refinement loss.
        init_cfg: Initialisation config.

    Raises:
        ValueError: ``stride`` is no power of two, or does not divide ``size``.
    """

    def __init__(
        self,
        size: int = 384,
        stride: int = 4,
        channels: int = 64,
        num_blocks: int = 13,
        margin: float = 0.25,
        norm_cfg: dict | None = None,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if stride < 1 or stride & (stride - 1) or size % stride:
            raise ValueError(
                f"stride must be a power of two that divides size, got {stride} and {size}"
            )
        norm_cfg = norm_cfg or dict(type="GN", num_groups=32)
        self.size = size
        self.margin = margin
        self.loss_weight = loss_weight
        halvings = stride.bit_length() - 1
        widths = [4] + [channels] * max(halvings, 1)
        self.stem = nn.Sequential(
            *(
                ConvModule(a, b, 3, stride=2 if halvings else 1, padding=1, norm_cfg=norm_cfg)
                for a, b in zip(widths[:-1], widths[1:], strict=True)
            )
        )
        blocks = [ResidualBlock(channels, 1, norm_cfg) for _ in range(num_blocks)]
        self.blocks = nn.Sequential(*blocks)
        self.predict = nn.Conv2d(channels, 1, 1)

    def init_weights(self) -> None:
        """Start from the propagated masks as they are."""
        super().init_weights()
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)

    def forward(self, frames: Tensor, frame_inds: Tensor, masks: Tensor, crops: Tensor) -> Tensor:
        """Mask logits inside the crops.

        Args:
            frames: (B, 3, H, W) normalised frames.
            frame_inds: (N,) frame of each instance.
            masks: (N, h, w) propagated soft masks in [0, 1] on a grid over the frames.
            crops: (N, 4) xyxy in pixels of the frames; see :meth:`crops`.

        Returns:
            (N, size, size).
        """
        pictures = self._cut(frames, frame_inds, crops)
        coarse = self._cut_masks(masks, crops, frames.shape[-2:])
        change = self.predict(self.blocks(self.stem(torch.cat([pictures, coarse], dim=1))))
        change = F.interpolate(
            at_least_float32(change), (self.size, self.size), mode="bilinear", align_corners=False
        )
        return (change + torch.logit(coarse, eps=LEAST_CERTAIN))[:, 0]

    def crops(self, boxes: Tensor) -> Tensor:
        """Squares around boxes, with context.

        Args:
            boxes: (N, 4) xyxy in pixels of the frame.

        Returns:
            (N, 4) xyxy in pixels of the frame, partly outside of it where the box is at its edge.
        """
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        sides = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).clamp(min=1)
        reach = sides * (0.5 + self.margin)
        return torch.cat([centres - reach, centres + reach], dim=1)

    def refine(self, frame: Tensor, masks: Tensor, stride: int, meta: dict) -> Tensor:
        """Masks of one frame at its original size.

        Args:
            frame: (3, H, W) normalised and padded.
            masks: (N, H / stride, W / stride) propagated masks in [0, 1].
            stride: Pixels per cell of the masks.
            meta: ``scale_factor`` and ``ori_shape`` of the frame.

        Returns:
            (N, H', W') bool.
        """
        if len(masks) == 0:
            return masks.new_zeros((0, *meta["ori_shape"][:2]), dtype=torch.bool)
        crops = self.crops(mask_boxes(masks, stride))
        frame_inds = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
        logits = self(frame[None], frame_inds, masks, crops)
        scale = crops.new_tensor(meta["scale_factor"]).repeat(2)
        return paste_in_frame(logits.sigmoid(), crops / scale, meta["ori_shape"][:2])

    def loss(
        self,
        frames: Tensor,
        frame_inds: Tensor,
        masks: Tensor,
        stride: int,
        bboxes: Tensor,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        """``1 - sIoU`` of the refined masks in the crops, averaged over the instances.

        A crop holds the propagated mask and the object, so that a mask that is still elsewhere
        teaches something. The propagated masks get no gradient: they have a loss of their own.

        Args:
            frames: (K, 3, H, W) normalised key frames.
            frame_inds: (N,) key frame of each object.
            masks: (N, H / stride, W / stride) propagated masks in the key frames, in [0, 1].
            stride: Pixels per cell of the masks.
            bboxes: (N, 4) ground-truth boxes, xyxy in pixels.
            targets: (N, H, W) binary ground truth, float.

        Returns:
            ``loss_refine``.
        """
        if len(masks) == 0:  # every parameter takes part in every iteration
            return dict(loss_refine=sum(parameter.sum() for parameter in self.parameters()) * 0)
        masks = masks.detach()
        boxes = mask_boxes(masks, stride)
        both = torch.cat(
            [
                torch.minimum(boxes[:, :2], bboxes[:, :2]),
                torch.maximum(boxes[:, 2:], bboxes[:, 2:]),
            ],
            dim=1,
        )
        crops = self.crops(both)
        refined = self(frames, frame_inds, masks, crops).sigmoid()
        wanted = self._cut_masks(targets, crops, targets.shape[-2:])[:, 0]
        overlaps = soft_iou(refined.flatten(1), wanted.flatten(1))
        return dict(loss_refine=self.loss_weight * (1 - overlaps).mean())

    def _cut(self, pictures: Tensor, inds: Tensor, crops: Tensor, scale: float = 1) -> Tensor:
        """(N, C, size, size): the crops of (B, C, H, W) pictures; what is larger is averaged."""
        rois = torch.cat([inds[:, None].to(crops), crops], dim=1)
        return crop_rois(pictures, rois, self.size, scale)

    def _cut_masks(self, masks: Tensor, crops: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """(N, 1, size, size): each of (N, h, w) masks over the frame in its own crop."""
        inds = torch.arange(len(masks), device=masks.device)
        return self._cut(masks[:, None], inds, crops, masks.shape[-1] / frame_size[-1])


def mask_boxes(masks: Tensor, stride: int) -> Tensor:
    """Boxes around the cells in which soft masks have at least half of their largest value.

    Args:
        masks: (N, h, w) in [0, 1].
        stride: Pixels per cell.

    Returns:
        (N, 4) xyxy in pixels.
    """
    inside = masks >= masks.flatten(1).amax(1)[:, None, None] / 2
    sides = []
    for axis in (1, 2):  # rows go: columns are left
        taken = inside.any(axis).int()
        first = taken.argmax(1)
        last = taken.shape[1] - taken.flip(1).argmax(1)
        sides.append((first, last))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1).to(masks) * stride
