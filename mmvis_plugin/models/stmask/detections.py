"""From what the network predicts on a frame to its detections, and from these to results."""

import torch
import torch.nn.functional as F
from mmdet.models.layers import fast_nms
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmengine.structures import InstanceData
from torch import Tensor

from .head import HeadOutputs
from .prototypes import instance_masks


def detect(
    outputs: HeadOutputs,
    frame: int,
    bbox_coder: BaseBBoxCoder,
    score_thr: float,
    iou_thr: float,
    top_k: int,
    max_per_img: int = -1,
    class_agnostic: bool = True,
) -> InstanceData:
    """Detections of a frame after fast NMS.

    Fast NMS (YOLACT, Section 4.2) lets suppressed boxes suppress others, so that all of them are
    decided at once; it is MMDetection's ``fast_nms``. Anchors whose probability of a class exceeds
    the threshold go in, with that probability times their centerness, which may be negative.

    Args:
        outputs: Of the network, with prototypes.
        frame: Index in the batch.
        bbox_coder: The head's box coder.
        score_thr: On the class probability; per class also on the score.
        iou_thr: Boxes that overlap a better one more than this are suppressed.
        top_k: Boxes that go into NMS (of each class).
        max_per_img: Most detections kept; -1 for all.
        class_agnostic: Boxes of any class suppress each other, and a box has one class; otherwise
            each class by itself.

    Returns:
        From the highest score down: ``bboxes`` (n, 4) xyxy in fractions of the padded frame,
        ``scores``, ``labels`` (0-based), ``coeffs`` (n, M), ``embeddings`` (n, D), and ``masks``
        (n, h, w) soft masks at the prototypes' resolution.
    """
    probabilities = outputs.logits[frame].softmax(-1)[:, 1:]
    best, labels = probabilities.max(1)
    (kept,) = (best > score_thr).nonzero(as_tuple=True)
    scores = best[kept, None] if class_agnostic else probabilities[kept]
    scores = scores * outputs.centerness[frame, kept, None]
    bboxes = bbox_coder.decode(outputs.priors[kept], outputs.deltas[frame, kept])
    # A second threshold, on the scores, is of the variant per class only.
    floor = -1.0 if class_agnostic else score_thr
    rows = torch.arange(len(kept), device=kept.device)
    if len(kept):
        # Rows go through NMS in the place of coefficients: any attribute can be looked up by them.
        # They are exact in float64 (as in float32, up to 16 million).
        found, classes, rows = fast_nms(
            bboxes,
            F.pad(scores, (0, 1)),  # a background column, which it ignores
            rows[:, None].to(bboxes.dtype),
            floor,
            iou_thr,
            top_k,
            max_per_img,
        )
        bboxes, scores, rows = found[:, :4], found[:, 4], rows[:, 0].long()
        labels = labels[kept[rows]] if class_agnostic else classes
    else:
        scores, labels = scores[:, 0], labels[kept]
    anchors = kept[rows]
    coeffs = outputs.coeffs[frame, anchors]
    return InstanceData(
        bboxes=bboxes,
        scores=scores,
        labels=labels,
        coeffs=coeffs,
        embeddings=outputs.embeddings[frame, anchors],
        masks=instance_masks(outputs.prototypes[frame], coeffs, bboxes),
    )


def at_original_size(
    instances: InstanceData, padded_size: tuple[int, int], meta: dict
) -> InstanceData:
    """Instances of a padded frame as they are in the original one.

    Args:
        instances: ``bboxes`` in fractions of the padded frame, soft ``masks`` (n, h, w), and
            whatever else, which is kept.
        padded_size: Height and width of the padded frame.
        meta: ``img_shape`` and ``ori_shape`` (height, width) of the frame.

    Returns:
        Those with their centre in the picture: ``bboxes`` xyxy in pixels of the original frame,
        clipped to it, and ``masks`` (m, H, W) bool.
    """
    size = instances.bboxes.new_tensor([padded_size[1], padded_size[0]])
    shape = instances.bboxes.new_tensor([meta["img_shape"][1], meta["img_shape"][0]])
    content = shape / size
    centres = (instances.bboxes[:, :2] + instances.bboxes[:, 2:]) / 2
    instances = instances[(centres <= content).all(1)]
    height, width = meta["ori_shape"][:2]
    original = instances.bboxes.new_tensor([width, height]).repeat(2)
    bboxes = instances.bboxes / content.repeat(2) * original
    # Corners may be crossed only where a box has lost its extent.
    lower = torch.minimum(bboxes[:, :2], bboxes[:, 2:]).clamp(min=0)
    upper = torch.maximum(bboxes[:, :2], bboxes[:, 2:])
    instances.bboxes = torch.cat([lower, torch.minimum(upper, original[:2])], dim=1)
    instances.masks = _unpad_and_resize(instances.masks, padded_size, meta)
    return instances


def _unpad_and_resize(masks: Tensor, padded_size: tuple[int, int], meta: dict) -> Tensor:
    """Cut the padding off soft masks, interpolate them to the original frame, and binarise.

    ``layers.mask_resize`` interpolates logits and cuts at full resolution; the released models'
    masks are probabilities, cropped by boxes, and cut on the prototypes' grid.
    """
    original_size = tuple(meta["ori_shape"][:2])
    if len(masks) == 0:
        return masks.new_zeros((0, *original_size), dtype=torch.bool)
    rows = meta["img_shape"][0] * masks.shape[1] // padded_size[0]
    columns = meta["img_shape"][1] * masks.shape[2] // padded_size[1]
    masks = masks[None, :, :rows, :columns]
    return F.interpolate(masks, original_size, mode="bilinear", align_corners=False)[0] > 0.5
