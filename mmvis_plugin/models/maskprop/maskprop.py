"""MaskProp: a two-stage detector, a mask propagation head and a clip tracker.

Source: Bertasius & Torresani, "Classifying, Segmenting, and Tracking Object Instances in Video
with Mask Propagation", CVPR 2020.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.clip_targets import clip_targets, sample_instances
from ..layers.mask_resize import masks_at_original_size
from ..layers.rpn_head import predict_proposals, rpn_loss_and_proposals
from ..video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .roi_masks import (
    check_detector,
    detect,
    distinct_instances,
    paste_in_frame,
    paste_masks,
    roi_masks,
)
from .tracker import ClipTracks


@dataclass
class ObservedFrame:
    """What is kept of a frame while it is in reach of a key frame.

    Attributes:
        meta: Its metainfo.
        features: (C, H', W') f_t of the propagation head.
        instances: Detections: ``bboxes`` (n, 4) xyxy in pixels of the resized frame, ``labels``,
            ``scores``, ``masks`` (n, m, m), soft masks inside the boxes, and ``grid_masks``
            (n, H', W'), the same pasted on the grid of f_t.
        picture: (3, H, W) the normalised frame, which the refinement network looks at; None
            without one.
    """

    meta: dict
    features: Tensor
    instances: InstanceData
    picture: Tensor | None = None


@dataclass
class MaskPropState(StreamState):
    """A running video.

    Attributes:
        window: The last 2T+1 frames.
        history: Clip tracks of the last 2T key frames.
        num_ids: Identities opened so far.
    """

    window: deque[ObservedFrame] = field(default_factory=deque)
    history: deque[ClipTracks] = field(default_factory=deque)
    num_ids: int = 0


@MODELS.register_module()
class MaskProp(VideoSegmentor):
    """Video instance segmentation by mask propagation.

    Every frame is detected once. When the T frames after it have been seen, it becomes the key
    frame of a clip of 2T+1 frames: its instances are propagated through the clip, compared with
    the clips of earlier key frames, and given identities. The mask of an identity in frame t is
    that of its instance of the clip centred at t.

    A track's class and score follow from its frames (majority and mean).

    Args:
        detector: Config of a two-stage detector with masks.
        propagation_head: Config of a :class:`PropagationHead` or :class:`FlowPropagation`.
        tracker: Config of a :class:`ClipTracker`.
        mask_refiner: Config of a :class:`MaskRefiner`, which draws the propagated masks of the key
            frame anew at a finer resolution. None leaves them on the grid.
        reach: T, frames to either side of the key frame at test time. Training clips have the
            length that the pipeline samples.
        key_masks: Which mask a track gets in its key frame: ``'propagated'``, that of the
            propagation head at d = 0, as the paper's M_{t-T:t+T}(t); or ``'detected'``, that of
            the detector's mask head, whose grid follows the box and is finer on small objects.
        max_overlap: An instance is dropped where more than this share of its mask, or of the
            other's, is common with a higher-scoring instance of its frame (our reading: the
            source takes the detections as they are). A second detection of an object would share
            its mask in the softmax of the propagation head, and opens an identity, which then
            competes for the object in later frames. 1 keeps all.
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config.

    Raises:
        TypeError: The detector has no soft masks, see :func:`check_detector`.
        ValueError: An argument is out of its range, or the detector's masks are to be refined.
    """

    def __init__(
        self,
        detector: dict,
        propagation_head: dict,
        tracker: dict,
        mask_refiner: dict | None = None,
        reach: int = 6,
        key_masks: str = "propagated",
        max_overlap: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if key_masks not in ("propagated", "detected"):
            raise ValueError(f"key_masks is {key_masks!r}; choose 'propagated' or 'detected'")
        if reach < 0 or not 0 <= max_overlap <= 1:
            raise ValueError(
                f"reach must not be negative and max_overlap lie in [0, 1], got {reach} and "
                f"{max_overlap}"
            )
        if key_masks == "detected" and mask_refiner:
            raise ValueError(
                "mask_refiner refines propagated masks; leave it out or set key_masks='propagated'"
            )
        self.detector = MODELS.build(detector)
        check_detector(self.detector)
        self.propagation_head = MODELS.build(propagation_head)
        self.mask_refiner = MODELS.build(mask_refiner) if mask_refiner else None
        self.tracker = TASK_UTILS.build(tracker)
        self.reach = reach
        self.key_masks = key_masks
        self.max_overlap = max_overlap

    # --- training -----------------------------------------------------------------------------

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """L_cls + L_box + L_mask of the key frames, L_prop over the clips, and the refinement's.

        Args:
            inputs: (N, T, 3, H, W) normalised frames.
            data_samples: N clips, each with one key frame.

        Returns:
            Losses of the RPN and the RoI head, ``loss_prop``, and ``loss_refine`` where there is
            a refinement network.
        """
        num_clips, num_frames = inputs.shape[:2]
        frames = inputs.flatten(0, 1)
        x = self.detector.extract_feat(frames)
        keys = [sample.key_frames_inds[0] for sample in data_samples]
        key_rows = torch.tensor(keys, device=inputs.device)
        key_rows += num_frames * torch.arange(num_clips, device=inputs.device)
        key_x = tuple(level[key_rows] for level in x)
        key_samples = [sample[key] for sample, key in zip(data_samples, keys, strict=True)]

        losses = self._detection_losses(key_x, key_samples)
        features = self.propagation_head.frame_features(x, frames)
        masks, clip_inds = self._masks_in_ground_truth(key_x, key_samples, self._grid(inputs))
        logits = self.propagation_head(
            features[key_rows], features.unflatten(0, (num_clips, num_frames)), masks, clip_inds
        )
        targets = propagation_targets(data_samples, keys, inputs)
        losses |= self.propagation_head.loss(logits, targets)
        if self.mask_refiner is not None:
            at_key = torch.arange(len(masks)), torch.tensor(keys, device=inputs.device)[clip_inds]
            losses |= self.mask_refiner.loss(
                frames[key_rows],
                clip_inds,
                logits[at_key].float().sigmoid(),
                self.propagation_head.stride,
                torch.cat([sample.gt_instances.bboxes for sample in key_samples]),
                targets[at_key],
            )
        return losses

    def _grid(self, frames: Tensor) -> tuple[int, int]:
        """Height and width in cells of the propagated masks of (..., H, W) frames."""
        stride = self.propagation_head.stride
        return tuple(-(-side // stride) for side in frames.shape[-2:])  # rounded up, as features

    def _detection_losses(
        self, x: tuple[Tensor, ...], samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        detector = self.detector
        losses, proposals = rpn_loss_and_proposals(
            detector.rpn_head, x, samples, detector.train_cfg.rpn_proposal
        )
        return losses | detector.roi_head.loss(x, proposals, samples)

    def _masks_in_ground_truth(
        self, x: tuple[Tensor, ...], samples: list[DetDataSample], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """M_t^i of training: predicted in the ground-truth boxes, one per object, with gradient.

        Returns:
            (N, H', W') soft masks and the (N,) clip of each.
        """
        bboxes = [sample.gt_instances.bboxes for sample in samples]
        labels = torch.cat([sample.gt_instances.labels for sample in samples])
        rois = bbox2roi(bboxes)
        if len(rois) == 0:
            return rois.new_zeros((0, *size)), labels
        masks = roi_masks(self.detector.roi_head, x, rois, labels)
        masks = paste_masks(masks, rois[:, 1:], self.propagation_head.stride, size)
        return masks, rois[:, 0].long()

    # --- streaming ----------------------------------------------------------------------------

    def start_video(self, meta: dict) -> MaskPropState:
        """Begin a video; see :class:`VideoSegmentor`."""
        return MaskPropState(
            meta, window=deque(maxlen=2 * self.reach + 1), history=deque(maxlen=2 * self.reach)
        )

    def take_frame(self, state: MaskPropState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """A frame is final when T more have been taken; see :class:`VideoSegmentor`."""
        state.window.append(self._observe(frame, meta))
        key = state.num_frames - 1 - self.reach
        return [self._track(state, key)] if key >= 0 else []

    def last_frames(self, state: MaskPropState) -> tuple[list[DetDataSample], None]:
        """The last T frames, whose clips end with the video."""
        return [self._track(state, key) for key in range(state.num_final, state.num_frames)], None

    def _observe(self, frame: Tensor, meta: dict) -> ObservedFrame:
        """Detect the instances of a frame (3, H, W) and compute what propagation needs of it."""
        detector = self.detector
        x = detector.extract_feat(frame[None])
        features = self.propagation_head.frame_features(x, frame[None])[0]
        proposals = predict_proposals(detector.rpn_head, x, [meta])
        instances = detect(detector, x, [meta], proposals)[0]
        rois = bbox2roi([instances.bboxes])
        if len(rois):
            instances.masks = roi_masks(detector.roi_head, x, rois, instances.labels)
        else:
            instances.masks = rois.new_zeros((0, 1, 1))
        stride, grid = self.propagation_head.stride, self._grid(frame)
        instances.grid_masks = paste_masks(instances.masks, instances.bboxes, stride, grid)
        distinct = distinct_instances(instances.grid_masks, instances.scores, self.max_overlap)
        picture = frame if self.mask_refiner is not None else None
        return ObservedFrame(meta, features, instances[distinct], picture)

    def _track(self, state: MaskPropState, key: int) -> DetDataSample:
        """Propagate the instances of frame ``key`` through its clip and give them identities."""
        first, window = self.clip(state, key)
        frame = window[key - first]
        propagated = self.propagation_head.propagate(
            frame.features,
            torch.stack([other.features for other in window]),
            frame.instances.grid_masks,
        )
        clip = ClipTracks(first, propagated.flatten(2), frame.instances.labels)
        clip.ids = self.tracker.assign(clip, state.history, state.num_ids)
        state.num_ids = max(state.num_ids, int(clip.ids.max(initial=-1)) + 1)
        state.history.append(clip)
        final = self._final_frame(frame, propagated[:, key - first], torch.from_numpy(clip.ids))
        frame.picture = None  # as reference frame it is not looked at again
        return final

    def clip(self, state: MaskPropState, key: int) -> tuple[int, list[ObservedFrame]]:
        """The clip around a key frame.

        Args:
            state: A running video.
            key: Index in the video of a frame that is in ``state.window``.

        Returns:
            Index of the clip's first frame, and the frames from ``key - T`` to ``key + T`` that
            the video has and the window holds.
        """
        oldest = state.num_frames - len(state.window)
        first, last = max(key - self.reach, oldest), min(key + self.reach, state.num_frames - 1)
        return first, list(state.window)[first - oldest : last - oldest + 1]

    def _final_frame(self, frame: ObservedFrame, propagated: Tensor, ids: Tensor) -> DetDataSample:
        """The key frame at its original size, without instances that fade to nothing."""
        instances, meta = frame.instances, frame.meta
        scale = instances.bboxes.new_tensor(meta["scale_factor"]).repeat(2)
        bboxes = instances.bboxes / scale
        if self.key_masks == "detected":
            masks = paste_in_frame(instances.masks, bboxes, meta["ori_shape"])
        elif self.mask_refiner is not None:
            stride = self.propagation_head.stride
            masks = self.mask_refiner.refine(frame.picture, propagated, stride, meta)
        else:
            masks = resize_to_original(propagated, self.propagation_head.stride, meta)
        kept = masks.flatten(1).any(1).nonzero()[:, 0]
        return tracked_frame(
            meta,
            bboxes[kept],
            instances.labels[kept],
            instances.scores[kept],
            ids[kept.cpu()],
            masks[kept],
        )


def resize_to_original(masks: Tensor, stride: int, meta: dict) -> Tensor:
    """Binary masks of the original frame from soft masks on the grid of a padded frame.

    Logits are interpolated, as in training.

    Args:
        masks: (N, H', W') in [0, 1].
        stride: Pixels of the resized frame per cell.
        meta: ``img_shape`` and ``ori_shape`` (height, width) of the frame.

    Returns:
        (N, H, W) bool.
    """
    height, width = masks.shape[-2:]
    logits = torch.logit(masks, eps=1e-6)
    return masks_at_original_size(logits, (height * stride, width * stride), meta)


def propagation_targets(
    data_samples: list[TrackDataSample], key_inds: Sequence[int], inputs: Tensor
) -> Tensor:
    """Ground truth of the key frames' objects in all frames of their clips.

    Args:
        data_samples: Clips of T frames with ``instances_ids`` and ``masks``, padded to the inputs.
        key_inds: Index of the key frame in each clip.
        inputs: (N, T, 3, H, W); gives size and device.

    Returns:
        (M, T, H, W) float, all zero where the object is absent; M objects, clip by clip.
    """
    per_clip = []
    every_frame = torch.ones(inputs.shape[1], dtype=torch.bool)
    for sample, key in zip(data_samples, key_inds, strict=True):
        frames, (ids, labels) = sample.video_data_samples, sample_instances(sample)
        targets = clip_targets(frames, ids, labels, every_frame, inputs.shape[-2:])
        rows = torch.searchsorted(ids, sample[key].gt_instances.instances_ids)
        per_clip.append(targets.masks[rows].to(inputs))
    return torch.cat(per_clip)
