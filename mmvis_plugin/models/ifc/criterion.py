"""One-to-one matching of IFC's queries with the tracks of a clip, and its losses.

Source: IFC (Hwang et al., NeurIPS 2021), Sec. 3.2, and its repository.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss, DiceLoss, FocalLoss
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..layers.class_weights import with_class_weights
from ..layers.clip_matching import Matching, match_clips
from ..layers.clip_targets import clip_targets, sample_instances


def track_targets(sample: TrackDataSample, size: tuple[int, int]) -> InstanceData:
    """Ground truth of the tracks that a clip shows.

    Args:
        sample: T frames.
        size: Height and width of the padded frames.

    Returns:
        ``labels`` (G,) and ``masks`` (G, T, H, W) uint8, zero where an object is absent.
    """
    frames = sample.video_data_samples
    every_frame = torch.ones(len(frames), dtype=torch.bool)
    targets = clip_targets(frames, *sample_instances(sample), every_frame, size)
    return InstanceData(labels=targets.labels, masks=targets.masks)


@MODELS.register_module()
class IFCCriterion(nn.Module):
    """Supervises the decoder's layers, each matched by itself.

    Masks are compared on a grid of ``mask_stride``: those of the tracks are downsampled to it, to
    values between 0 and 1, and those of the queries are enlarged to it. A track counts in all
    frames of the clip, with an empty mask where its object is absent.

    Args:
        num_classes: K; ``loss_cls.class_weight`` follows it, see :func:`with_class_weights`.
        assigner: Config of a ``HungarianAssigner`` with costs of ``scores`` (Q, K + 1) and
            ``masks`` (Q, T, h, w), both logits.
        loss_cls: Cross-entropy of all queries, divided by the sum of their classes' weights.
        loss_mask: Focal loss of the masks, in the mean over all pixels, those of padding too.
        loss_dice: Dice of the masks, over all frames together.
        mask_stride: Of the masks that are compared, in pixels.
    """

    def __init__(
        self,
        num_classes: int,
        assigner: dict,
        loss_cls: dict,
        loss_mask: dict,
        loss_dice: dict,
        mask_stride: int = 4,
    ) -> None:
        super().__init__()
        loss_cls = with_class_weights(dict(num_classes=num_classes, loss_cls=loss_cls))["loss_cls"]
        self.num_classes = num_classes
        self.mask_stride = mask_stride
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_cls: CrossEntropyLoss = MODELS.build(loss_cls)
        self.loss_mask: FocalLoss = MODELS.build(loss_mask)
        self.loss_dice: DiceLoss = MODELS.build(loss_dice)

    def prepare(self, targets: Sequence[InstanceData]) -> list[InstanceData]:
        """Downsample the masks of tracks; leave out tracks without a pixel.

        Args:
            targets: Of each clip, see :func:`track_targets`.

        Returns:
            The same with ``masks`` (G, T, h, w) float32 in [0, 1].
        """
        prepared = []
        for target in targets:
            shown = target[target.masks.flatten(1).any(1).bool()]
            size = tuple(-(-side // self.mask_stride) for side in shown.masks.shape[-2:])
            masks = resize(shown.masks.float(), size)
            prepared.append(InstanceData(labels=shown.labels, masks=masks))
        return prepared

    @torch.no_grad()
    def match(self, logits: Tensor, masks: Tensor, targets: Sequence[InstanceData]) -> Matching:
        """Give every track a query, at the least cost in sum.

        Args:
            logits: (B, Q, K + 1) class logits of a decoder layer.
            masks: (B, T, Q, h, w) its mask logits.
            targets: Of :meth:`prepare`, for B clips.

        Returns:
            The pairs.
        """
        size = targets[0].masks.shape[-2:]
        queries = [
            InstanceData(scores=scores, masks=resize(clip.float(), size).transpose(0, 1))
            for scores, clip in zip(logits, masks, strict=True)
        ]
        return match_clips(self.assigner, queries, targets)

    def forward(self, logits: Tensor, masks: Tensor, matching: Matching) -> dict[str, Tensor]:
        """Losses of a decoder layer.

        Args:
            logits: (B, Q, K + 1) class logits.
            masks: (N, T, h, w) mask logits of the matched queries.
            matching: Of the layer.

        Returns:
            ``loss_cls``, and ``loss_mask`` and ``loss_dice``, divided by the number of tracks in
            the mean over all processes.
        """
        clips, queries, tracks, total = matching
        labels = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        labels[clips, queries] = tracks.labels
        labels = labels.flatten()
        weights = logits.new_tensor(self.loss_cls.class_weight)
        loss_cls = self.loss_cls(logits.flatten(0, 1), labels, avg_factor=weights[labels].sum())

        masks = resize(masks, tracks.masks.shape[-2:]).flatten(1)
        targets = tracks.masks.flatten(1)
        loss_mask = self.loss_mask(masks, targets, avg_factor=total * masks.shape[1])
        loss_dice = self.loss_dice(masks, targets, avg_factor=total)
        return dict(loss_cls=loss_cls, loss_mask=loss_mask, loss_dice=loss_dice)


def resize(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., h, w) interpolated bilinearly to (..., *size)."""
    if masks.numel() == 0:
        return masks.new_zeros(*masks.shape[:-2], *size) + masks.sum()
    leading = masks.shape[:-2]
    resized = F.interpolate(masks.flatten(0, -3)[None], size, mode="bilinear", align_corners=False)
    return resized[0].unflatten(0, leading)
