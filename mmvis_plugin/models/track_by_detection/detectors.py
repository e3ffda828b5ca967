"""Image instance segmenters as the source of tracks: their best instances, masks only of these.

MMDetection enlarges the masks of all instances that a detector returns, often 100, and that is what
takes the memory: at 1080p each is 8 MB as logits. The families here are taken apart where boxes,
scores and classes are known and masks are not, so that only the instances that are wanted get a
mask. Nothing of MMDetection is changed, and what is returned are the detector's own instances, as
:func:`mmdet.apis.inference_detector` gives them.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmdet.models.dense_heads import RTMDetInsHead
from mmdet.models.detectors import (
    MaskFormer,
    SingleStageDetector,
    TwoStageDetector,
)
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.models.roi_heads import SparseRoIHead
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.structures import DetDataSample
from mmdet.structures.mask import mask2bbox
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmvis_plugin.models.layers.mask_resize import logits_at_original_size
from mmvis_plugin.ytvis.rle import encode_masks

Found = tuple[InstanceData, tuple[Tensor, ...] | None]  # instances, feature maps


@dataclass(frozen=True)
class Wanted:
    """Which instances of a frame are wanted.

    Attributes:
        score_thr (float): Instances must score more, in [0, 1].
        max_per_frame (int): How many of the best are taken at most.
        labels (tuple[int, ...] | None): Their classes, 0-based; None for all.
    """

    score_thr: float
    max_per_frame: int
    labels: tuple[int, ...] | None = None

    def allows(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool, whether instances score enough and are of a class that is wanted."""
        enough = scores > self.score_thr
        if self.labels is None:
            return enough
        return enough & torch.isin(labels, labels.new_tensor(self.labels))

    def best(self, found: InstanceData) -> InstanceData:
        """The instances that are wanted, the highest score first."""
        found = found[self.allows(found.scores, found.labels)]
        order = found.scores.argsort(descending=True, stable=True)
        return found[order[: self.max_per_frame]]


def find_instances(detector: nn.Module, frame: Tensor, meta: dict, wanted: Wanted) -> Found:
    """Find the instances of a frame that are wanted.

    Args:
        detector: An image instance segmenter of MMDetection, in evaluation mode.
        frame: (3, H, W) normalised and padded.
        meta: ``batch_input_shape``, ``img_shape``, ``ori_shape`` and ``scale_factor``.
        wanted: What is wanted.

    Returns:
        Instances, the highest score first, with ``bboxes`` (N, 4) xyxy in pixels of the original
        frame, ``scores``, ``labels`` and ``masks`` at its size: (N, H, W) bool or N COCO RLEs. And
        the detector's feature maps, each (1, C, h, w), if it was taken apart.

    Raises:
        ValueError: The detector gives boxes without masks.
    """
    return _way(detector)(detector, frame[None], DetDataSample(metainfo=meta), wanted)


def _way(detector: nn.Module) -> Callable[..., Found]:
    """How a detector is taken apart. One whose ``predict`` is not its family's is left whole."""
    predict = type(detector).predict
    rtmdet = isinstance(getattr(detector, "bbox_head", None), RTMDetInsHead)
    with_mask = getattr(detector, "with_mask", False) and detector.with_bbox
    if predict is MaskFormer.predict:
        return _from_queries
    if predict is SingleStageDetector.predict and rtmdet:
        return _from_rtmdet
    if predict is SingleStageInstanceSegmentor.predict and with_mask:
        return _from_one_stage
    two_stages = predict is TwoStageDetector.predict and with_mask
    if two_stages and type(detector.roi_head).predict is BaseRoIHead.predict:
        return _from_two_stages
    return _from_whole


def _from_whole(
    detector: nn.Module, images: Tensor, sample: DetDataSample, wanted: Wanted
) -> Found:
    found = detector.predict(images, [sample], rescale=True)[0].get("pred_instances")
    if found is None or "masks" not in found:
        raise ValueError(
            f"{type(detector).__name__} gives no instance masks: take an instance segmenter, such "
            "as mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco"
        )
    return wanted.best(found), None


def _from_two_stages(
    detector: TwoStageDetector, images: Tensor, sample: DetDataSample, wanted: Wanted
) -> Found:
    """Mask R-CNN, Cascade Mask R-CNN, PointRend, QueryInst and the like."""
    x = detector.extract_feat(images)
    proposals = detector.rpn_head.predict(x, [sample], rescale=False)
    head, metas = detector.roi_head, [sample.metainfo]
    found = head.predict_bbox(x, metas, proposals, head.test_cfg, rescale=False)[0]
    with_queries = isinstance(head, SparseRoIHead)
    if with_queries:
        num_classes = head.bbox_head[-1].num_classes
        found = _with_own_queries(found, num_classes)
    found = wanted.best(found[_in_picture(found.bboxes, sample.img_shape)])
    if with_queries:
        rows = torch.arange(len(found), device=found.labels.device)
        found.topk_inds = rows * num_classes + found.labels
    return head.predict_mask(x, metas, [found], rescale=True)[0], x


def _with_own_queries(found: InstanceData, num_classes: int) -> InstanceData:
    """The instances of a head with queries, each with a copy of its query.

    The head lists its queries beside the instances, and says in ``topk_inds`` which query and class
    an instance is. With a copy for each, instances can be left out.
    """
    queries = found.topk_inds // num_classes
    found.proposals = found.proposals[queries]
    found.attn_feats = found.attn_feats[queries]
    return found


def _in_picture(bboxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N,) bool, whether boxes touch a picture of (height, width).

    Heads with queries do not clip their boxes, and MMDetection cannot paste the mask of a box
    outside of the picture on the CPU.
    """
    height, width = size[:2]
    x1, y1, x2, y2 = bboxes.unbind(-1)
    return (x2 >= 0) & (y2 >= 0) & (x1 <= width) & (y1 <= height)


def _from_one_stage(
    detector: SingleStageInstanceSegmentor, images: Tensor, sample: DetDataSample, wanted: Wanted
) -> Found:
    """CondInst, YOLACT and the like."""
    x = detector.extract_feat(images)
    found = wanted.best(detector.bbox_head.predict(x, [sample], rescale=False)[0])
    return detector.mask_head.predict(x, [sample], rescale=True, results_list=[found])[0], x


def _from_rtmdet(
    detector: SingleStageDetector, images: Tensor, sample: DetDataSample, wanted: Wanted
) -> Found:
    """RTMDet-Ins, whose head makes masks right after its NMS; it is told there what is wanted."""
    head = detector.bbox_head
    x = detector.extract_feat(images)
    class_logits, *rest = head(x)
    if wanted.labels is not None:
        unwanted = torch.ones(head.num_classes, dtype=torch.bool, device=images.device)
        unwanted[list(wanted.labels)] = False
        class_logits = [
            logits.masked_fill(unwanted[:, None, None], -torch.inf) for logits in class_logits
        ]
    cfg = copy.deepcopy(head.test_cfg)
    cfg.score_thr = max(cfg.get("score_thr", 0), wanted.score_thr)
    cfg.max_per_img = min(cfg.max_per_img, wanted.max_per_frame)
    metas = [sample.metainfo]
    found = head.predict_by_feat(class_logits, *rest, batch_img_metas=metas, cfg=cfg, rescale=True)
    return wanted.best(found[0]), x


def _from_queries(
    detector: MaskFormer, images: Tensor, sample: DetDataSample, wanted: Wanted
) -> Found:
    """MaskFormer and Mask2Former: a query's mask is enlarged by itself, and kept as RLE.

    An instance's score is its class score times the mean of its mask's probabilities, as in
    MMDetection's ``instance_postprocess``: only masks whose class score is enough can be wanted.
    """
    x = detector.extract_feat(images)
    class_logits, mask_logits = (layers[-1][0] for layers in detector.panoptic_head(x, [sample]))
    fusion = detector.panoptic_fusion_head
    scores = class_logits.softmax(-1)[:, :-1]
    scores, pairs = scores.flatten().topk(fusion.test_cfg.get("max_per_image", 100), sorted=False)
    queries, labels = pairs // fusion.num_classes, pairs % fusion.num_classes
    rows = (labels < fusion.num_things_classes) & wanted.allows(scores, labels)
    queries, labels, scores = queries[rows], labels[rows], scores[rows]
    queries, rows = queries.unique(return_inverse=True)
    masks, bboxes, qualities = _enlarged(mask_logits[queries], sample.metainfo)
    found = InstanceData(
        bboxes=bboxes[rows],
        scores=scores * qualities[rows],
        labels=labels,
        masks=[masks[row] for row in rows.tolist()],
    )
    return wanted.best(found), x


def _enlarged(logits: Tensor, meta: dict) -> tuple[list[dict], Tensor, Tensor]:
    """Masks at the original size, one after another, since as floats they are large.

    Args:
        logits: (N, h, w).
        meta: Of the frame.

    Returns:
        N RLEs, their (N, 4) boxes and (N,) mean probabilities.
    """
    masks, bboxes, qualities = [], [], []
    for one in logits.split(1):
        one = logits_at_original_size(one, meta["batch_input_shape"], meta)
        inside = one > 0
        covered = inside.flatten(1).float()
        qualities.append((one.flatten(1).sigmoid() * covered).sum(1) / (covered.sum(1) + 1e-6))
        bboxes.append(mask2bbox(inside))
        masks += encode_masks(inside)
    return masks, torch.cat(bboxes), torch.cat(qualities)
