"""Tracking by detection: an image instance segmenter finds objects, a linker makes them tracks."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmvis_plugin.models.video_segmentor import StreamState, VideoSegmentor, tracked_frame
from mmvis_plugin.ytvis.mask_overlap import mask_nms
from mmvis_plugin.ytvis.rle import encode_masks

from .appearance import original_pixels
from .detectors import Wanted, find_instances
from .linkers import Detections, Linker, LinkState

# What an image preprocessor and one of frames have in common; the rest is for training.
PREPROCESSING = (
    "mean",
    "std",
    "pad_size_divisor",
    "pad_value",
    "pad_mask",
    "mask_pad_value",
    "bgr_to_rgb",
    "rgb_to_bgr",
    "non_blocking",
)


@dataclass(kw_only=True)
class TrackByDetectionState(StreamState):
    """A running video.

    Attributes:
        links: What the linker knows.
    """

    links: LinkState


@MODELS.register_module()
class TrackByDetection(VideoSegmentor):
    """Any image instance segmenter of MMDetection and a linker, which gives identities.

    The detector sees one frame at a time. A track's class and score follow from its frames
    (majority and mean) unless the linker decides on them. Training is the detector's own, on frames
    as images. A checkpoint of the detector alone fits as well as one of the whole.

    What the state holds is the linker's; masks are run-length encodings.

    Args:
        detector: Config of the detector.
        linker: Config of a :class:`Linker`.
        appearance: Config of an :class:`Appearance`; None if the linker needs none.
        score_thr: Instances that score no more are no detections, in [0, 1].
        max_per_frame: Detections of a frame, the best ones, at most.
        mask_nms_iou: Mask IoU, in [0, 1], above which the instance of the lower score is left
            out, whatever the classes. For detectors without NMS, which find an object twice. None
            to leave all, as the detector does.
        data_preprocessor: Config of a preprocessor for images or frames; the detector's by default.
        init_cfg: Initialisation config.

    Raises:
        ValueError: The linker needs features, and there is no ``appearance``.
    """

    def __init__(
        self,
        detector: dict,
        linker: dict,
        appearance: dict | None = None,
        score_thr: float = 0.05,
        max_per_frame: int = 20,
        mask_nms_iou: float | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        detector = copy.deepcopy(detector)
        preprocessing = detector.pop("data_preprocessor", None)
        preprocessing = _of_frames(data_preprocessor or preprocessing or {})
        super().__init__(preprocessing, init_cfg)
        self.preprocessing = preprocessing
        self.detector = MODELS.build(detector)
        self.linker: Linker = TASK_UTILS.build(linker)
        self.appearance = MODELS.build(appearance) if appearance else None
        if self.linker.needs_features and self.appearance is None:
            raise ValueError(
                f"{type(self.linker).__name__} compares objects by their appearance: set "
                "model.appearance to dict(type='DetectorAppearance')"
            )
        self.score_thr = score_thr
        self.max_per_frame = max_per_frame
        self.mask_nms_iou = mask_nms_iou

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """The detector's losses on all frames as images; see :class:`VideoSegmentor`."""
        frames = [frame for clip in data_samples for frame in clip.video_data_samples]
        return self.detector.loss(inputs.flatten(0, 1), frames)

    def start_video(self, meta: dict) -> TrackByDetectionState:
        """Begin a video; see :class:`VideoSegmentor`.

        Args:
            meta: May have ``labels``, the classes that are wanted; others are left out before masks
                are made.
        """
        return TrackByDetectionState(meta, links=self.linker.start())

    def take_frame(
        self, state: TrackByDetectionState, frame: Tensor, meta: dict
    ) -> list[DetDataSample]:
        """Detect the instances of a frame and link them; see :class:`VideoSegmentor`."""
        wanted = Wanted(self.score_thr, self.max_per_frame, state.meta.get("labels"))
        detections = self._detect(frame, meta, wanted)
        linked = self.linker.step(state.links, detections, (meta, detections))
        return [_as_sample(*frame, ids) for frame, ids in linked]

    def last_frames(
        self, state: TrackByDetectionState
    ) -> tuple[list[DetDataSample], InstanceData | None]:
        """What the linker held back, and its tracks; see :class:`VideoSegmentor`."""
        linked, tracks = self.linker.finish(state.links)
        return [_as_sample(*frame, ids) for frame, ids in linked], tracks

    def _detect(self, frame: Tensor, meta: dict, wanted: Wanted) -> Detections:
        on_cpu = frame.device.type == "cpu"
        # mmcv's operators have no 16-bit kernels on the CPU.
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            frame = frame.float()
            found, maps = find_instances(self.detector, frame, meta, wanted)
            features = None
            if self.appearance is not None:
                if maps is None and self.appearance.needs_maps:
                    maps = self.detector.extract_feat(frame[None])
                image = original_pixels(frame, self.preprocessing)
                features = self.appearance(image, maps, found, meta)
        detections = Detections(
            _to_numpy(found.bboxes),
            _to_numpy(found.scores),
            found.labels.cpu().numpy(),
            found.masks if isinstance(found.masks, list) else encode_masks(found.masks),
            None if features is None else _to_numpy(features),
        )
        if self.mask_nms_iou is None:
            return detections
        return detections.select(mask_nms(detections.masks, self.mask_nms_iou))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Load as usual, also a detector's own checkpoint."""
        if not any(key.startswith(prefix + "detector.") for key in state_dict):
            for key in [key for key in state_dict if key.startswith(prefix)]:
                state_dict[f"{prefix}detector.{key.removeprefix(prefix)}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _of_frames(preprocessor: dict) -> dict:
    """The preprocessor of frames that does with each what an image preprocessor does."""
    kept = {key: preprocessor[key] for key in PREPROCESSING if key in preprocessor}
    return dict(kept, type="TrackDataPreprocessor")


def _as_sample(meta: dict, detections: Detections, ids: np.ndarray) -> DetDataSample:
    kept = np.flatnonzero(ids >= 0)
    found = detections.select(kept)
    return tracked_frame(
        meta,
        torch.from_numpy(found.bboxes),
        torch.from_numpy(found.labels),
        torch.from_numpy(found.scores),
        torch.from_numpy(ids[kept]),
        found.masks,
    )


def _to_numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
