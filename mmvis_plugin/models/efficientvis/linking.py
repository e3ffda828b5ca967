"""Which identity a tracklet has: the end-to-end way, and the hand-crafted one it is compared with.

Source: EfficientVIS, Sec. 3.3 and Table 1d.

Both have the same two calls. ``start(q*)`` gives the links of a new video, whose ``queries`` are
those of the first clip. ``link(links, clip)`` tells the identities of the clip's tracklets and
leaves in ``links.queries`` what the next clip starts from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass
class ClipTracklets:
    """What the model finds in a clip of T frames: one tracklet for each of its N queries.

    Attributes:
        metas: Metainfo of the T frames.
        queries: (N, C) the queries after the last stage, averaged over time.
        probabilities: (N, T, K+1) of the classes and of background, on the CPU.
        present: (N, T) bool, on the CPU: background is not the most probable, and the mask has a
            pixel.
        boxes: (N, T, 4) xyxy in pixels of the original frame, inside it, on the CPU.
        masks: Per frame the masks of the tracklets present in it as COCO RLE at original size, by
            the index of their query.
    """

    metas: Sequence[dict]
    queries: Tensor
    probabilities: Tensor
    present: Tensor
    boxes: Tensor
    masks: list[dict[int, dict]]


@dataclass
class QueryLinks:
    """The table from query to identity.

    Attributes:
        initial_queries: (N, C) q*.
        queries: (N, C) what the next clip starts from.
        ids: (N,) identity of each query.
        num_ids: Identities given so far.
        held: (N,) bool, whether the query has found an instance since it was set to q*.
        clips_without: (N,) clips since the query last found its instance.
    """

    initial_queries: Tensor
    queries: Tensor
    ids: Tensor
    num_ids: int
    held: Tensor
    clips_without: Tensor


@TASK_UTILS.register_module()
class QueryLinking:
    """A query is an identity: nothing is matched.

    A clip starts from the queries that came out of the clip before. A query has its identity from
    the moment it is set to q*. A query that has not found an instance yet is q* in the next clip,
    too, free for an object to come (our reading: what a query of nothing becomes is not told).
    A query whose instance has been away for ``reset_after`` clips is set to q* again, with a new
    identity.

    Args:
        reset_after: Clips in a row without its instance after which a query is reset. The paper
            says "many clips".
        free_unused: Queries that have not found an instance yet are q* in the next clip. False
            carries them on, for weights that were trained so: they take up no object that enters
            later, and q* beside queries that hold an object finds that object again.

    Raises:
        ValueError: If ``reset_after`` is not positive.
    """

    def __init__(self, reset_after: int = 3, free_unused: bool = True) -> None:
        if reset_after < 1:
            raise ValueError(f"reset_after must be at least 1 clip, got {reset_after}")
        self.reset_after = reset_after
        self.free_unused = free_unused

    def start(self, initial_queries: Tensor) -> QueryLinks:
        """Begin a video: every query is q*, (N, C), and has an identity."""
        count = len(initial_queries)
        return QueryLinks(
            initial_queries,
            queries=initial_queries,
            ids=torch.arange(count),
            num_ids=count,
            held=torch.zeros(count, dtype=torch.bool),
            clips_without=torch.zeros(count, dtype=torch.long),
        )

    def link(self, links: QueryLinks, clip: ClipTracklets) -> Tensor:
        """(N,) identities of the clip's tracklets."""
        ids, found = links.ids, clip.present.any(1)
        held = links.held | found
        in_use = held if self.free_unused else torch.ones_like(held)
        links.clips_without = torch.where(found, 0, links.clips_without + 1)
        reset = in_use & (links.clips_without >= self.reset_after)
        links.queries = carried_queries(clip.queries, in_use & ~reset, links.initial_queries)
        links.held = held & ~reset
        links.clips_without[reset] = 0
        links.ids = torch.where(reset, links.num_ids - 1 + reset.cumsum(0), ids)
        links.num_ids += int(reset.sum())
        return ids


def carried_queries(queries: Tensor, held: Tensor, initial_queries: Tensor) -> Tensor:
    """What the next clip starts from: the queries that hold an instance, and q* for all others.

    Args:
        queries: (..., N, C) that came out of the clip, averaged over time.
        held: (..., N) bool.
        initial_queries: (N, C) q*.

    Returns:
        (..., N, C).
    """
    return torch.where(held.to(queries.device)[..., None], queries, initial_queries)


@dataclass
class HandCraftLinks:
    """The clip before, for the comparison.

    Attributes:
        queries: (N, C) q*: every clip starts anew.
        num_ids: Identities given so far.
        ids: (M,) identities of the tracklets that the clip before had.
        labels: (M,) their classes.
        boxes: (M, 4) where each was last seen, in widths and heights of the frame.
        masks: M run-length encodings of what was seen there.
    """

    queries: Tensor
    num_ids: int = 0
    ids: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: list[dict] | None = None


@TASK_UTILS.register_module()
class HandCraftLinking:
    """Tracklets of neighbouring clips are matched by rules (Table 1d, "hand-craft").

    The affinity of two tracklets is the mean of four terms, each in [0, 1]: box IoU, 1 - the mean
    L1 distance of the box coordinates in widths and heights of the frame, mask IoU, and whether
    the classes agree. A tracklet of the earlier clip is compared where it was last seen, one of
    the later clip where it is first seen. The paper names the terms; their weights are ours.

    Args:
        min_affinity: Pairs below it stay apart, in [0, 1]. The paper varies it and reports the
            best.

    Raises:
        ValueError: If ``min_affinity`` is out of range.
    """

    def __init__(self, min_affinity: float = 0.5) -> None:
        if not 0 <= min_affinity <= 1:
            raise ValueError(f"min_affinity must be in [0, 1], got {min_affinity}")
        self.min_affinity = min_affinity

    def start(self, initial_queries: Tensor) -> HandCraftLinks:
        """Begin a video with q*, (N, C)."""
        return HandCraftLinks(initial_queries)

    def link(self, links: HandCraftLinks, clip: ClipTracklets) -> Tensor:
        """(N,) identities of the clip's tracklets; -1 for those that are nowhere present."""
        found = clip.present.any(1).nonzero()[:, 0]
        labels = clip.probabilities[found, :, :-1].mean(1).argmax(1)
        boxes, masks = seen_at(clip, found, last=False)
        found_ids = torch.full_like(found, -1)
        if links.ids is not None and len(links.ids) and len(found):
            same_class = links.labels[:, None] == labels
            scores = affinity(links.boxes, links.masks, boxes, masks, same_class)
            rows, columns = linear_sum_assignment(scores, maximize=True)
            linked = scores[rows, columns] >= self.min_affinity
            found_ids[columns[linked]] = links.ids[rows[linked]]
        new = found_ids < 0
        found_ids[new] = links.num_ids + torch.arange(int(new.sum()))
        links.num_ids += int(new.sum())
        links.ids, links.labels = found_ids, labels
        links.boxes, links.masks = seen_at(clip, found, last=True)
        ids = torch.full((len(clip.present),), -1)
        ids[found] = found_ids
        return ids


def seen_at(clip: ClipTracklets, found: Tensor, last: bool) -> tuple[Tensor, list[dict]]:
    """Boxes and masks of tracklets in the first or last frame in which they are present.

    Args:
        clip: The tracklets.
        found: (M,) queries that are present in a frame at least.
        last: Which frame.

    Returns:
        (M, 4) xyxy in widths and heights of the frame, and M run-length encodings.
    """
    boxes, masks = torch.zeros(len(found), 4), []
    for row, query in enumerate(found.tolist()):
        t = int(clip.present[query].nonzero()[-1 if last else 0])
        height, width = clip.metas[t]["ori_shape"][:2]
        boxes[row] = clip.boxes[query, t] / torch.tensor([width, height, width, height])
        masks.append(clip.masks[t][query])
    return boxes, masks


def affinity(
    boxes_a: Tensor, masks_a: list[dict], boxes_b: Tensor, masks_b: list[dict], same_class: Tensor
) -> np.ndarray:
    """How well tracklets of two clips fit together; see :class:`HandCraftLinking`.

    Args:
        boxes_a: (M, 4) xyxy in widths and heights of the frame.
        masks_a: M run-length encodings.
        boxes_b: (N, 4), likewise.
        masks_b: N run-length encodings of the same size in pixels.
        same_class: (M, N) bool.

    Returns:
        np.ndarray: (M, N) in [0, 1].
    """
    box_iou = bbox_overlaps(boxes_a, boxes_b)
    closeness = 1 - torch.cdist(boxes_a, boxes_b, p=1) / 4
    mask_iou = torch.from_numpy(np.asarray(mask_utils.iou(masks_a, masks_b, [0] * len(masks_b))))
    return ((box_iou + closeness + mask_iou + same_class) / 4).numpy()
