"""MMDetection's own video instance segmentors, MaskTrack R-CNN and Mask2Former-VIS, as streams.

The parameters, the training losses and what is computed for a frame or window are MMDetection's;
the classes here only put its models behind the calls of :class:`VideoSegmentor`. They inherit from
them, so that configs take the same arguments and checkpoints fit in both directions.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.models.trackers import MaskTrackRCNNTracker
from mmdet.models.vis import Mask2FormerVideo, MaskTrackRCNN
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor

from .layers.class_weights import with_class_weights
from .layers.mask_resize import masks_at_original_size
from .layers.rpn_head import predict_proposals
from .video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .windowed import WindowedSegmentor, WindowSettings, WindowTracks


@dataclass(kw_only=True)
class MaskTrackState(StreamState):
    """A running video.

    Attributes:
        tracker: A tracker of its own.
    """

    tracker: MaskTrackRCNNTracker


@MODELS.register_module()
class StreamingMaskTrackRCNN(MaskTrackRCNN, VideoSegmentor):
    """MMDetection's ``MaskTrackRCNN`` as a stream; an online method, each frame is final at once.

    A track's class and score follow from its frames (majority and mean).

    Give the detector an :class:`AgnosticRPNHead`, see there. Arguments are those of
    ``MaskTrackRCNN``; its ``tracker`` is copied for each video.
    """

    forward = VideoSegmentor.forward
    predict = VideoSegmentor.predict

    def start_video(self, meta: dict) -> MaskTrackState:
        """Begin a video; see :class:`VideoSegmentor`."""
        return MaskTrackState(meta, tracker=copy.deepcopy(self.tracker))

    def take_frame(self, state: MaskTrackState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Detect the instances of a frame and find them among the tracks."""
        sample = DetDataSample(metainfo=meta)
        x = self.detector.extract_feat(frame[None])
        proposals = predict_proposals(self.detector.rpn_head, x, [meta])
        instances = self.detector.roi_head.predict(x, proposals, [sample], rescale=True)[0]
        masks = instances.masks
        # The tracker remembers all it is given. In place of the masks it gets their rows.
        instances.masks = torch.arange(len(masks), device=masks.device)
        sample.pred_instances = instances
        tracked = state.tracker.track(model=self, feats=x, data_sample=sample)
        keep_last_appearances(state.tracker)
        # The tracker's identities are on the CPU or with the boxes, as it comes.
        tracked = tracked[last_claims(tracked.instances_id.cpu())]
        return [
            tracked_frame(
                meta,
                tracked.bboxes,
                tracked.labels,
                tracked.scores,
                tracked.instances_id,
                masks[tracked.masks],
            )
        ]


def last_claims(ids: Tensor) -> Tensor:
    """Which instances of a frame keep their identity where several got the same.

    MMDetection's tracker lets a detection take an identity that was given to an earlier one in the
    frame if it fits better, and leaves it to both. The last of them fits best.

    Args:
        ids: (N,) identities as the tracker gave them.

    Returns:
        (N,) bool.
    """
    return ~(ids[:, None] == ids).triu(1).any(1)


def keep_last_appearances(tracker: MaskTrackRCNNTracker) -> None:
    """Drop what a tracker remembers of a track beside its last appearance, which is all it uses.

    MMDetection's trackers append to their buffers in each frame.
    """
    for track in tracker.tracks.values():
        for buffer in track.values():
            if isinstance(buffer, list):  # a buffer with momentum is a running mean
                del buffer[:-1]


@MODELS.register_module()
class StreamingMask2FormerVideo(Mask2FormerVideo, WindowedSegmentor):
    """MMDetection's ``Mask2FormerVideo`` on whole videos, or on windows of longer ones.

    MMDetection's own ``predict`` brings the masks of all queries in all frames to full size at
    once. Here that is done frame by frame for the tracks that are kept, with the same result.

    Args:
        backbone: Config of the backbone.
        track_head: Config of a ``Mask2FormerTrackHead``; see :func:`with_class_weights`.
        windows: Values of :class:`WindowSettings`.
        tracks_per_window: How many of the best pairs of query and class are tracks; MMDetection's
            10.
        frames_per_batch: Frames that go through the backbone together at test time.
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    forward = VideoSegmentor.forward
    predict = VideoSegmentor.predict

    def __init__(
        self,
        backbone: dict,
        track_head: dict,
        windows: dict | None = None,
        tracks_per_window: int = 10,
        frames_per_batch: int = 8,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        track_head = with_class_weights(track_head)
        super().__init__(backbone, track_head, data_preprocessor, init_cfg)
        self.windows = WindowSettings(**(windows or {}))
        self.tracks_per_window = tracks_per_window
        self.frames_per_batch = frames_per_batch

    def segment_window(self, frames: Tensor, metas: Sequence[dict]) -> WindowTracks:
        """The best pairs of query and class; see :class:`WindowedSegmentor`."""
        batches = [self.backbone(batch) for batch in frames.split(self.frames_per_batch)]
        x = [torch.cat(level) for level in zip(*batches, strict=True)]
        class_logits, mask_logits = (layers[-1][0].float() for layers in self.track_head(x, None))
        scores = class_logits.softmax(-1)[:, :-1]
        best, pairs = scores.flatten().topk(min(self.tracks_per_window, scores.numel()))
        return WindowTracks(mask_logits[pairs // self.num_classes], pairs % self.num_classes, best)

    def full_size_masks(self, logits: Tensor, meta: dict) -> Tensor:
        """Interpolated to the padded frame, cut and interpolated to the original, as MMDetection.

        See :class:`WindowedSegmentor`.
        """
        return masks_at_original_size(logits, meta["batch_input_shape"], meta)
