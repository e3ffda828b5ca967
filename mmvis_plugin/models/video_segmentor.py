"""The streaming base class of every video instance segmentor.

A video is segmented by three calls, whatever the method::

    state = model.start_video(meta)
    frames = model.step(state, images, metas)    # any number of times, any number of images
    frames, tracks = model.finish(state)

``step`` and ``finish`` return the frames that became final through the call. Everything known about
a video lives in ``state``, so several videos can be interleaved on one model. What it holds is
bounded by the method's clip or window, never by the length of the video.

A new method implements ``loss`` and ``take_frame``; ``docs/new_method.md`` shows a complete one.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from torch import Tensor

from mmvis_plugin.ytvis.rle import encode_masks


@dataclass
class StreamState:
    """What the base class knows about a running video. Methods add their own fields.

    Attributes:
        meta: Facts about the video, as given to ``start_video``.
        num_frames: Frames taken so far, the one in ``take_frame`` included.
        num_final: Frames returned so far.
    """

    meta: dict
    num_frames: int = 0
    num_final: int = 0


class VideoSegmentor(BaseModel):
    """Base class: streaming inference, and MMEngine's ``loss`` / ``predict`` on top of it.

    A method implements :meth:`loss` and :meth:`take_frame`. If it keeps anything between frames, it
    also implements :meth:`start_video`; if frames become final later than they are taken, or if it
    decides on a track's class itself, :meth:`last_frames`.

    Args:
        data_preprocessor: Config of a ``TrackDataPreprocessor``.
        init_cfg: Initialisation config of MMEngine.

    Attributes:
        training_only (tuple[str, ...]): Parts that only training uses, by the name of their
            argument, which is also the name of their attribute.
        shown_score (float): Score from which an object is shown unless the user says otherwise, in
            [0, 1]. What a score means depends on the method.
    """

    training_only: tuple[str, ...] = ()
    shown_score: float = 0.3

    def __init__(self, data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        # The handle of the video that `predict` is in the middle of: the Runner's test loop calls
        # once per frame and has no place for it. Streaming callers hold their own.
        self._test_stream = None

    @abstractmethod
    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Training losses of a batch of clips.

        Args:
            inputs: (N, T, 3, H, W) normalised frames.
            data_samples: N samples of T frames with ``gt_instances``.

        Returns:
            Loss name -> scalar.
        """

    @abstractmethod
    def take_frame(self, state: StreamState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Take the next frame of a video.

        Gradients are off. The base class hands over one frame at a time: in batches, whose size is
        the caller's choice, sums are rounded differently, and a score at a threshold would depend
        on how the video is cut.

        Args:
            state: The video's state; changed in place.
            frame: (3, H, W) resized, normalised and padded, on the model's device. The method may
                keep it.
            meta: ``ori_shape``, ``img_shape`` and ``scale_factor`` of the frame; ``frame_id`` is
                its index in the video.

        Returns:
            The frames that became final, in order: see :func:`tracked_frame`. Often just this
            one; none while the method looks ahead.
        """

    def start_video(self, meta: dict) -> StreamState:
        """Start a video.

        Args:
            meta: What is known about it, e.g. ``video_id`` and ``ori_video_length``; may be empty.
                ``labels`` are the classes that are wanted: a method may leave others out early.

        Returns:
            The state to hand to :meth:`step` and :meth:`finish`.
        """
        return StreamState(meta)

    def last_frames(self, state: StreamState) -> tuple[list[DetDataSample], InstanceData | None]:
        """The frames of a video that :meth:`take_frame` has not returned, and its tracks.

        Gradients are off.

        Args:
            state: The video's state, after its last frame.

        Returns:
            The frames, in order, and per track ``instances_id``, ``labels`` and ``scores``; None
            if a track's class and score follow from its frames (majority and mean).
        """
        return [], None

    @torch.no_grad()
    def step(
        self, state: StreamState, frames: Tensor, metas: Sequence[dict]
    ) -> list[DetDataSample]:
        """Take the next frames of a video. Results do not depend on how many come in one call.

        Args:
            state: The video's state; changed in place.
            frames: (T, 3, H, W) resized, normalised and padded, on the model's device.
            metas: T dicts with ``ori_shape``, ``img_shape`` and ``scale_factor``.

        Returns:
            The frames that became final, in order: see :func:`tracked_frame`.
        """
        final = []
        for frame, meta in zip(frames, metas, strict=True):
            meta = {**meta, "frame_id": state.num_frames}
            state.num_frames += 1
            # A view would keep all of `frames` alive.
            became_final = self.take_frame(state, frame.clone(), meta)
            state.num_final += len(became_final)
            final += became_final
        return final

    @torch.no_grad()
    def finish(self, state: StreamState) -> tuple[list[DetDataSample], InstanceData | None]:
        """End a video.

        Args:
            state: The video's state.

        Returns:
            See :meth:`last_frames`.
        """
        final, tracks = self.last_frames(state)
        state.num_final += len(final)
        return final, tracks

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[TrackDataSample] | None = None,
        mode: str = "predict",
    ) -> dict[str, Tensor] | list[TrackDataSample]:
        """MMEngine's entry point; ``mode`` is ``'loss'`` or ``'predict'``."""
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode is {mode!r}; a video segmentor knows 'loss' and 'predict'")

    def predict(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> list[TrackDataSample]:
        """Testing on consecutive frames of one video after another.

        A video starts at ``frame_id`` 0 and is finished at ``ori_video_length - 1``.

        Args:
            inputs: (1, T, 3, H, W) normalised frames, T as the loader gives them, usually 1.
            data_samples: One sample of T frames.

        Returns:
            One sample with the frames that became final, in order; without
            ``video_data_samples`` where none did, as while a method looks ahead. The last one of
            a video has ``pred_tracks`` where the method gives tracks.

        Raises:
            ValueError: If the batch holds more than one clip.
            ValueError: If frames are missing, repeated or out of order.
        """
        if len(data_samples) != 1:
            raise ValueError(
                f"the test batch holds {len(data_samples)} clips; set batch_size=1, since frames "
                "of one video must come one after another"
            )
        metas = [frame.metainfo for frame in data_samples[0].video_data_samples]
        stream = self._continue_stream(metas)
        final = self.step(stream, inputs[0], metas)
        tracks = None
        if metas[-1]["frame_id"] == metas[-1]["ori_video_length"] - 1:
            rest, tracks = self.finish(stream)
            final = final + rest
            self._test_stream = None
        sample = TrackDataSample()
        if final:
            sample.video_data_samples = final
        if tracks is not None:
            sample.pred_tracks = tracks
        return [sample]

    def _continue_stream(self, metas: Sequence[dict]) -> StreamState:
        """The stream that the frames with these ``metas`` belong to."""
        first = metas[0]["frame_id"]
        if first == 0:
            self._test_stream = self.start_video(metas[0])
        stream = self._test_stream
        if (
            stream is None
            or stream.num_frames != first
            or stream.meta.get("video_id") != metas[0].get("video_id")
        ):
            raise ValueError(
                f"frame {first} of video {metas[0].get('video_id')} does not follow the frame "
                "before it: test with TrackImgSampler, which feeds whole videos in order"
            )
        return stream


def leave_out_training_parts(model: dict) -> None:
    """Leave out what a model does without in testing, see :attr:`VideoSegmentor.training_only`.

    Args:
        model: Config of a model of any kind, changed in place.
    """
    for part in training_only_parts(model.get("type")):
        if model.get(part) is not None:
            model[part] = None


def training_only_parts(kind: str | type) -> tuple[str, ...]:
    """The parts that only training uses; none of a model that is no video segmentor.

    Args:
        kind: A model's ``type`` in a config.
    """
    model_class = MODELS.get(kind) if isinstance(kind, str) else kind
    return getattr(model_class, "training_only", ())


def tracked_frame(
    meta: dict,
    bboxes: Tensor | None,
    labels: Tensor,
    scores: Tensor,
    instances_id: Tensor,
    masks: Tensor | list[dict],
) -> DetDataSample:
    """A final frame in the form that every method returns.

    Args:
        meta: The frame's metainfo.
        bboxes: (N, 4) xyxy in pixels of the original frame; None for the boxes of the masks.
        labels: (N,) 0-based.
        scores: (N,) in [0, 1].
        instances_id: (N,) unique in the frame, the same for one object throughout the video.
        masks: (N, H, W) bool at the original size, or their N run-length encodings.

    Returns:
        A sample with ``pred_track_instances`` on the CPU.
    """
    if isinstance(masks, Tensor):
        masks = encode_masks(masks)
    if bboxes is None:
        bboxes = mask_boxes(masks)
    frame = DetDataSample(metainfo=meta)
    frame.pred_track_instances = InstanceData(
        bboxes=bboxes.detach().float().cpu(),
        labels=labels.detach().cpu(),
        scores=scores.detach().float().cpu(),
        instances_id=instances_id.detach().cpu(),
        masks=masks,
    )
    return frame


def mask_boxes(masks: list[dict]) -> Tensor:
    """(N, 4) xyxy boxes of N run-length encodings; all zero for an empty mask."""
    if not masks:
        return torch.zeros(0, 4)
    bboxes = torch.from_numpy(mask_utils.toBbox(masks)).float()
    bboxes[:, 2:] += bboxes[:, :2]
    return bboxes
