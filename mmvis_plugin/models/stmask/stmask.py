"""STMask: an image model, temporal fusion and an online tracker.

Source: Li, Li, Li & Zhang, "Spatial Feature Calibration and Temporal Fusion for Effective
One-stage Video Instance Segmentation", CVPR 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .detections import at_original_size
from .head import HeadOutputs
from .losses import mask_loss
from .matching import Matches, Targets, collect_targets
from .prototypes import instance_masks


@dataclass
class STMaskState(StreamState):
    """A running video.

    Attributes:
        tracks: The instances known, as they are in the last frame; see :class:`STMaskTracker`.
            None before the first frame.
        num_ids: Identities opened so far.
        fusion_features: Of the last frame, what temporal fusion compares the next one with: a
            pyramid level and the head's shared features on it, (1, C, H, W) each.
    """

    tracks: InstanceData | None = None
    num_ids: int = 0
    fusion_features: tuple[Tensor, Tensor] | None = None


@MODELS.register_module()
class STMask(VideoSegmentor):
    """Online video instance segmentation, frame by frame.

    Each frame is segmented by itself. The instances known from the frame before are carried to it
    by temporal fusion: their boxes and mask coefficients are shifted, and combined with the new
    frame's prototypes. Detections that agree with one take its identity; instances without a
    detection are filled in by what was carried on, for a while.

    A track's class and score follow from its frames (majority and mean).

    Args:
        detector: Config of a :class:`STMaskDetector`.
        tracker: Config of a :class:`STMaskTracker`.
        temporal_fusion: Config of a :class:`TemporalFusion`; without it instances are compared
            where they were last detected, and shown only where they are detected.
        shift_box_weight: Weight of the loss on boxes carried to the next frame.
        shift_mask_weight: Weight of the loss on masks carried to the next frame.
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        detector: dict,
        tracker: dict,
        temporal_fusion: dict | None = None,
        shift_box_weight: float = 5.0,
        shift_mask_weight: float = 6.125,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.detector = MODELS.build(detector)
        self.tracker = TASK_UTILS.build(tracker)
        self.temporal_fusion = MODELS.build(temporal_fusion) if temporal_fusion else None
        self.shift_box_weight = shift_box_weight
        self.shift_mask_weight = shift_mask_weight

    # --- training -----------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of the frames of N pairs, and of what is carried from the first to the second.

        Args:
            inputs: (N, 2, 3, H, W) normalised frames in the order of time.
            data_samples: N pairs.

        Returns:
            Those of :class:`STMaskLoss`, and with temporal fusion ``loss_shift_bbox`` and
            ``loss_shift_mask``.

        Raises:
            ValueError: If the clips are not pairs.
        """
        if inputs.shape[1] != 2:
            raise ValueError(
                f"STMask trains on pairs of frames, got clips of {inputs.shape[1]}: sample them "
                "with dict(type='AnnotatedPairSample', ...)"
            )
        images = inputs.flatten(0, 1)
        frames = [frame for sample in data_samples for frame in sample.video_data_samples]
        targets = collect_targets(frames, _identities(data_samples), images)
        feats = self.detector.extract_feat(images)
        outputs = self.detector.outputs(feats)
        losses, matches = self.detector.criterion(
            outputs, targets, self.detector.bbox_head.bbox_coder
        )
        if self.temporal_fusion is not None:
            level = self.temporal_fusion.level
            maps, features = feats[level], outputs.features[level]
            fused = self.temporal_fusion.fuse(
                maps[0::2], features[0::2], maps[1::2], features[1::2]
            )
            losses |= self._shift_losses(fused, outputs, targets, matches)
        return losses

    def _shift_losses(
        self, fused: Tensor, outputs: HeadOutputs, targets: Targets, matches: Matches
    ) -> dict[str, Tensor]:
        """How well boxes and masks of the first frames are carried to the second ones.

        Anchors of the first frame whose object is in both frames take part, with the boxes and
        coefficients they predict. The box is to move as the object's true box does; the mask is
        made of the second frame's prototypes and cropped by the object's box there. Nothing
        here trains the boxes, coefficients and prototypes themselves.

        Args:
            fused: (N, C, H, W) of the pairs.
            outputs: Of the 2N frames.
            targets: Of the 2N frames.
            matches: Of the 2N frames.

        Returns:
            ``loss_shift_bbox`` and ``loss_shift_mask``, means over pairs of means over anchors.
        """
        coder = self.detector.bbox_head.bbox_coder
        following = objects_in_next_frame(targets)
        rows = (following[matches.objects] >= 0).nonzero(as_tuple=True)[0]
        frames, anchors, objects = (
            values[rows] for values in (matches.frames, matches.anchors, matches.objects)
        )
        pairs, following = frames // 2, following[objects]
        num_pairs = len(fused)
        counts = torch.bincount(pairs, minlength=num_pairs)
        weights = 1 / (counts[pairs] * num_pairs).to(outputs.deltas.dtype)

        with torch.no_grad():
            boxes = coder.decode(outputs.priors[anchors], outputs.deltas[frames, anchors])
            moved = coder.encode(targets.boxes[objects], targets.boxes[following])
        deltas, shifts = self.temporal_fusion(fused, boxes, pairs)
        with torch.autocast(fused.device.type, enabled=False):
            box_losses = F.smooth_l1_loss(deltas, moved.to(deltas), reduction="none").sum(1)
            mask_losses = mask_loss(
                outputs.prototypes[1::2].detach(),
                outputs.coeffs[frames, anchors].detach() + shifts,
                pairs,
                targets.masks,
                following,
                targets.boxes[following],
            )
        return dict(
            loss_shift_bbox=self.shift_box_weight * (weights * box_losses).sum(),
            loss_shift_mask=self.shift_mask_weight * (weights * mask_losses).sum(),
        )

    # --- streaming ----------------------------------------------------------------------------

    def start_video(self, meta: dict) -> STMaskState:
        """Begin a video; see :class:`VideoSegmentor`."""
        return STMaskState(meta)

    def take_frame(self, state: STMaskState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Segment a frame and merge it into what is known about the video; it is final at once."""
        feats = self.detector.extract_feat(frame[None])
        outputs = self.detector.outputs(feats)
        detections = self.detector.detect(outputs, 0)
        if state.tracks is not None:
            state.tracks = self.carry_on(state, feats, outputs)
        with torch.autocast(frame.device.type, enabled=False):
            state.tracks, state.num_ids = self.tracker.associate(
                detections, state.tracks, state.num_ids
            )
        if self.temporal_fusion is not None:
            level = self.temporal_fusion.level
            state.fusion_features = feats[level], outputs.features[level]
        return [self._final_frame(state.tracks, tuple(frame.shape[-2:]), meta)]

    def carry_on(
        self, state: STMaskState, feats: Sequence[Tensor], outputs: HeadOutputs
    ) -> InstanceData:
        """The known instances, as they are to be expected in the next frame.

        Args:
            state: The video up to the frame before; with at least one frame. It is not changed.
            feats: Pyramid levels (1, C, H_l, W_l) of the next frame.
            outputs: What the detector predicts from them.

        Returns:
            ``state.tracks`` with one more frame in their ``gaps``; with temporal fusion also with
            ``bboxes`` and ``coeffs`` shifted, and ``masks`` made of the next frame's prototypes.
        """
        tracks = state.tracks.new()
        tracks.gaps = tracks.gaps + 1
        if self.temporal_fusion is None or len(tracks) == 0:
            return tracks
        level = self.temporal_fusion.level
        fused = self.temporal_fusion.fuse(
            *state.fusion_features, feats[level], outputs.features[level]
        )
        deltas, shifts = self.temporal_fusion(fused, tracks.bboxes, torch.zeros_like(tracks.ids))
        tracks.bboxes = self.detector.bbox_head.bbox_coder.decode(tracks.bboxes, deltas)
        tracks.coeffs = tracks.coeffs + shifts
        tracks.masks = instance_masks(outputs.prototypes[0], tracks.coeffs, tracks.bboxes)
        tracks.scores = tracks.scores * self.tracker.score_decay
        return tracks

    def _final_frame(
        self, tracks: InstanceData, padded_size: tuple[int, int], meta: dict
    ) -> DetDataSample:
        """The frame's shown instances at its original size."""
        max_gap = self.tracker.max_shown_gap if self.temporal_fusion is not None else 0
        shown = at_original_size(tracks[self.tracker.shown(tracks, max_gap)], padded_size, meta)
        return tracked_frame(meta, shown.bboxes, shown.labels, shown.scores, shown.ids, shown.masks)


def _identities(data_samples: Sequence[TrackDataSample]) -> list[Tensor]:
    """Of each frame's objects, a number that is its own in all of the batch."""
    # The sample is told by the upper 32 bits: to count the identities would wait for the GPU.
    return [
        frame.gt_instances.instances_ids.long() + (index << 32)
        for index, sample in enumerate(data_samples)
        for frame in sample.video_data_samples
    ]


def objects_in_next_frame(targets: Targets) -> Tensor:
    """For each object of the first frames of pairs, where it is in the second frame.

    Args:
        targets: Objects of frames 0 and 1, 2 and 3 ...

    Returns:
        (G,) row in the targets; -1 where the object is not there, and for second frames.
    """
    same = targets.identities[:, None] == targets.identities
    after = targets.frames[:, None] + 1 == targets.frames
    first = (targets.frames % 2 == 0)[:, None]
    found = same & after & first
    if found.shape[1] == 0:
        return targets.frames.new_zeros(0)
    return torch.where(found.any(1), found.to(torch.uint8).argmax(1), -1)
