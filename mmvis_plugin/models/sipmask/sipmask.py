"""SipMask-VIS: an image model with embeddings and an online tracker.

Source: Cao et al., "SipMask: Spatial Information Preservation for Fast Image and Video Instance
Segmentation", ECCV 2020, Section 3 and "Video Instance Segmentation" of Section 4.
"""

from dataclasses import dataclass

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..video_segmentor import StreamState, VideoSegmentor, tracked_frame
from .detections import at_input_size
from .head import center_features
from .targets import collect_objects


@dataclass
class SipMaskState(StreamState):
    """A running video.

    Attributes:
        known: The instances known; see :class:`SipMaskTracker`. None before the first frame.
        num_ids: Identities opened so far.
    """

    known: InstanceData | None = None
    num_ids: int = 0


@MODELS.register_module()
class SipMask(VideoSegmentor):
    """Online video instance segmentation, frame by frame.

    Each frame is segmented by itself; a detection takes the identity of the known instance that it
    is likely to be, by embedding, overlap and class. A frame is final at once. A track's class and
    score follow from its frames (majority and mean).

    Args:
        detector: Config of a :class:`SipMaskDetector` with a track branch.
        tracker: Config of a :class:`SipMaskTracker`.
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        detector: dict,
        tracker: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.detector = MODELS.build(detector)
        self.tracker = TASK_UTILS.build(tracker)

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of the key frames of N pairs, with the other frame as reference.

        Args:
            inputs: (N, 2, 3, H, W) normalised frames.
            data_samples: N pairs with one key frame each.

        Returns:
            Those of :class:`SipMaskLoss`.

        Raises:
            ValueError: If the clips are not pairs of a key frame and a reference.
        """
        if inputs.shape[1] != 2 or any(len(x.key_frames_inds) != 1 for x in data_samples):
            raise ValueError(
                f"SipMask trains on a key frame and a reference, got clips of {inputs.shape[1]} "
                "frames: sample them with dict(type='UniformRefFrameSample', num_ref_imgs=1, ...)"
            )
        keys = torch.tensor([int(x.key_frames_inds[0]) for x in data_samples])
        every = torch.arange(len(keys))
        frames, others = inputs[every, keys], inputs[every, 1 - keys]
        samples = [x.video_data_samples[k] for x, k in zip(data_samples, keys, strict=True)]
        rest = [x.video_data_samples[1 - k] for x, k in zip(data_samples, keys, strict=True)]
        head = self.detector.bbox_head
        feats = self.detector.extract_feat(torch.cat([frames, others]))
        outputs = head([x[: len(keys)] for x in feats])
        references = head.embed([x[len(keys) :] for x in feats])
        return self.detector.criterion(
            outputs,
            collect_objects(samples, inputs),
            (references, collect_objects(rest, inputs, with_masks=False)),
        )

    def start_video(self, meta: dict) -> SipMaskState:
        """Begin a video; see :class:`VideoSegmentor`."""
        return SipMaskState(meta)

    def take_frame(self, state: SipMaskState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Segment a frame and merge it into what is known about the video; it is final at once."""
        outputs = self.detector.outputs(frame[None])
        found = self.detector.detect(outputs, 0, meta)
        with torch.autocast(frame.device.type, enabled=False):
            boxes = at_input_size(found.bboxes, meta)
            embeddings = outputs.embeddings[0].float()
            found.embeddings = center_features(embeddings, boxes, outputs.stride)
            ids, state.known, state.num_ids = self.tracker.associate(
                found, state.known, state.num_ids
            )
        shown = found[ids >= 0]
        return [
            tracked_frame(
                meta, shown.bboxes, shown.labels, shown.scores, ids[ids >= 0], shown.masks
            )
        ]
