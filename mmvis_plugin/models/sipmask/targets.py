"""Which location learns which object: centre sampling as in FCOS.

Source: FCOS (Tian et al., ICCV 2019) and its centre sampling; as in SipMask's code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from torch import Tensor


@dataclass
class Objects:
    """The objects of a frame.

    Attributes:
        boxes: (G, 4) xyxy in pixels, of which the last is inside.
        labels: (G,) 0-based.
        masks: (G, H, W) float at the size of the padded frame; None where not needed.
        identities: (G,); None for images.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    identities: Tensor | None = None


def collect_objects(
    samples: Sequence[DetDataSample], like: Tensor, with_masks: bool = True
) -> list[Objects]:
    """The objects of each frame that are at least a pixel wide and high.

    Args:
        samples: B frames with ``gt_instances``.
        like: Gives type and device.
        with_masks: Whether masks are needed.
    """
    found = []
    for sample in samples:
        objects = sample.gt_instances
        boxes = objects.bboxes.to(like)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        masks = objects.masks.to_tensor(like.dtype, like.device)[kept] if with_masks else None
        identities = objects.instances_ids[kept] if "instances_ids" in objects else None
        boxes = boxes[kept] - boxes.new_tensor([0, 0, 1, 1])
        found.append(Objects(boxes, objects.labels[kept], masks, identities))
    return found


def assign(
    points: Tensor,
    strides: Tensor,
    ranges: Tensor,
    boxes: Tensor,
    radius: float,
) -> tuple[Tensor, Tensor]:
    """Match the locations of a frame with its objects.

    A location learns an object if it is strictly inside the part of its box that is at most
    ``radius`` strides from the centre, and the largest of its four distances to the box is in the
    range of its level. Of several objects it learns the one with the smallest box.

    Args:
        points: (N, 2).
        strides: (N,).
        ranges: (N, 2) least and largest distance, both included, in pixels.
        boxes: (G, 4).
        radius: In strides.

    Returns:
        (N,) object, -1 for none, and the (N, 4) distances to the borders of that object's box.
    """
    if len(boxes) == 0:
        return torch.full_like(strides, -1, dtype=torch.long), points.new_zeros(len(points), 4)
    x, y = points[:, None, 0], points[:, None, 1]
    distances = torch.stack(
        [x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y], dim=-1
    )
    reach = radius * strides[:, None, None]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    lower = torch.maximum(centres - reach, boxes[:, :2])
    upper = torch.minimum(centres + reach, boxes[:, 2:])
    here = points[:, None]
    inside = ((here - lower > 0) & (upper - here > 0)).all(-1)
    largest = distances.max(-1).values
    in_range = (largest >= ranges[:, :1]) & (largest <= ranges[:, 1:])
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    areas = areas.where(inside & in_range, torch.inf)
    smallest, objects = areas.min(1)
    chosen = distances[torch.arange(len(points), device=points.device), objects]
    return objects.where(smallest < torch.inf, -1), chosen


def to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """(..., 4) xyxy of boxes whose borders are these distances from the points."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)
