"""A video in, tracks out, frame by frame: the inferencer, and the plain loop beneath it."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple
from weakref import WeakSet, finalize

import numpy as np
import pycocotools.mask as mask_utils
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmvis_plugin.video.background import Prefetcher
from mmvis_plugin.video.video_io import FrameTiming, VideoReader, check_frame

from .models import build_video_segmentor, streaming_pipeline

GPU_BATCH = 8  # frames that go to a GPU together at most
READ_AHEAD = 8  # frames decoded before the model asks for them
CAMERA_READ_AHEAD = 2  # of a camera fewer, since each makes the picture older


class VISInferencer:
    """Segments videos of any length: files, images, cameras, arrays.

    Decoding and preprocessing run in a thread of their own beside the model, and so does what
    sinks do with the results (:mod:`mmvis_plugin.apis.sinks`). Memory is bounded by the method's
    clip or window, never by the video.

    Args:
        config_or_alias: Path of a config; the name of one that comes with the package, such as
            ``maskprop_r18_shapes`` (see :func:`list_configs`); a loaded config; or a model of
            :func:`build_video_segmentor`, which is used where it is.
        weights: File or URL of a checkpoint. Without it, the weights shipped for the config.
        device: Where to run, e.g. ``cpu`` or ``cuda:0``. Without it, a GPU if there is one.
        batch_size: Frames that go to the model in one call at most; those that are decoded
            already go together, none is waited for. By default 8 on a GPU and 1 on the CPU, where
            batches gain nothing. Results do not depend on it.
        autocast: Run the model in mixed precision (bfloat16, or float16 on a GPU without it).
        channels_last: Store frames and weights with channels innermost, which is faster for
            convolutions on some devices.
        cfg_options: Settings that replace those of the config.

    Attributes:
        model (nn.Module): The model.
        classes (tuple[str, ...]): Class names, indexed by label.
        category_ids (tuple[int, ...]): Likewise, the ids that the annotations of the training data
            have for them. Where the checkpoint does not tell they count from 1, as those of
            YouTube-VIS, OVIS and ShapesVIS do.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: See :func:`build_video_segmentor`.
        ValueError: If ``batch_size`` is less than 1.

    Examples:
        >>> with VISInferencer("maskprop_r18_shapes") as inferencer:
        ...     for result in inferencer("street.mp4"):
        ...         print(result.index, [(t.id, t.class_name, t.score) for t in result.tracks])
    """

    def __init__(
        self,
        config_or_alias: str | os.PathLike | Config | nn.Module,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        *,
        batch_size: int | None = None,
        autocast: bool = False,
        channels_last: bool = False,
        cfg_options: dict | None = None,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: it must be 1 or more")
        if isinstance(config_or_alias, nn.Module):
            self.model = config_or_alias
        else:
            self.model = build_video_segmentor(config_or_alias, weights, device, cfg_options)
        if channels_last:
            for parameter in self.model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.device = self.model.data_preprocessor.device
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)
        meta = self.model.dataset_meta
        self.classes: tuple[str, ...] = meta["classes"]
        self.category_ids: tuple[int, ...] = meta.get("category_ids") or tuple(
            range(1, len(self.classes) + 1)
        )
        self._autocast = _autocast_dtype(self.device) if autocast else None
        self._channels_last = channels_last
        self._streams: WeakSet[VideoStream] = WeakSet()

    def __call__(
        self,
        source: str | os.PathLike | int | Iterable[np.ndarray],
        *,
        fps: Fraction | float | None = None,
        start: int = 0,
        end: int | None = None,
        stride: int = 1,
        classes: Sequence[str] | None = None,
    ) -> "VideoStream":
        """Open a video, from which results can be drawn.

        Args:
            source, fps, start, end, stride: See :class:`VideoReader`.
            classes: Names of the classes to keep; None for all.

        Returns:
            VideoStream: An iterator over :class:`FrameResult`. Several may run at once.

        Raises:
            ValueError: If there is no class of a name in ``classes``, or an argument is out of
                range.
            FileNotFoundError, VideoError: If the source cannot be read, see :class:`VideoReader`.
        """
        labels = self._find_labels(classes)
        reader = VideoReader(source, fps, start, end, stride)
        stream = VideoStream(
            reader, self.start_run(), self.batch_size, self.classes, self.category_ids, labels
        )
        self._streams.add(stream)
        return stream

    def start_run(self) -> "ModelRun":
        """Begin a video of which the caller hands in the frames, in their own thread and time."""
        return ModelRun(self.model, self._autocast, self._channels_last)

    def _find_labels(self, classes: Sequence[str] | None) -> Tensor | None:
        if classes is None:
            return None
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise ValueError(
                f"the model has no class {', '.join(unknown)}; it knows {', '.join(self.classes)}"
            )
        return torch.tensor([self.classes.index(name) for name in classes], dtype=torch.long)

    def close(self) -> None:
        """Close all videos that are still open."""
        for stream in list(self._streams):
            stream.close()

    def __enter__(self) -> "VISInferencer":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


class TrackedObject(NamedTuple):
    """One object in one frame.

    Attributes:
        id: Identity in the video, 0 or more, never reused.
        label: Class, 0-based.
        class_name: Its name.
        score: In [0, 1].
        box: x1, y1, x2, y2 in pixels of the frame.
        rle: The mask, a COCO RLE with ``size`` [H, W] and ``counts`` a str.
    """

    id: int
    label: int
    class_name: str
    score: float
    box: tuple[float, float, float, float]
    rle: dict

    def mask(self) -> np.ndarray:
        """The mask as a bool array of shape (H, W)."""
        return mask_utils.decode(self.rle).astype(bool)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(mask_utils.area(self.rle))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found in one frame.

    Attributes:
        video: The stream that the frame is of.
        index: Number of the frame among those read, from 0.
        image: The frame, (H, W, 3) uint8 BGR, as it was read.
        timing: When it is shown.
        instances: bboxes (n, 4), labels (n,), scores (n,), instances_id (n,) and masks (n RLEs),
            for the visualizer and the like.
    """

    video: "VideoStream"
    index: int
    image: np.ndarray
    timing: FrameTiming
    instances: InstanceData

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1::-1]

    @cached_property
    def tracks(self) -> list[TrackedObject]:
        """The objects of the frame."""
        found = self.instances
        return [
            TrackedObject(id_, label, self.video.classes[label], score, tuple(box), rle)
            for id_, label, score, box, rle in zip(
                found.instances_id.tolist(),
                found.labels.tolist(),
                found.scores.tolist(),
                found.bboxes.tolist(),
                found.masks,
                strict=True,
            )
        ]


class VideoStream:
    """A video being segmented: an iterator over its results, each given as soon as it is final.

    If the source fails in the middle, the results of the frames before come first and the error
    then. A context manager: it stops reading and releases the source at the end of the block, as
    it does by itself after the last result.

    Attributes:
        name (str): Short name of the source for outputs.
        source (str): The source, for messages.
        fps (Fraction): Frames per second.
        size (tuple[int, int]): Width and height in pixels.
        num_frames (int | None): Frames to come, where the source tells.
        expected_frames (int | None): The same or, where it tells its duration alone, roughly.
        is_camera (bool): Whether the source is a camera, which has no end of its own.
        classes (tuple[str, ...]): Class names, indexed by label.
        category_ids (tuple[int, ...]): Category ids, likewise; see :class:`VISInferencer`.
        tracks (InstanceData | None): After the last result: instances_id, labels and scores of
            all tracks where the method decides on them at the end; otherwise None, and a track's
            class and score are the majority and the mean of its frames'.
        complete (bool): Whether the last result has been given, and is that of the source's last
            frame: not if :meth:`stop` came before. A camera ends with :meth:`stop`.
        closed (bool): Whether the source is released.

    Yields:
        FrameResult: One for each frame, in order.

    Raises:
        VideoError: If the source cannot be read on, see :class:`VideoReader`.
        RuntimeError: If the model returns results that are not one per frame in order.
    """

    def __init__(
        self,
        reader: VideoReader,
        run: "ModelRun",
        batch_size: int,
        classes: tuple[str, ...],
        category_ids: tuple[int, ...],
        labels: Tensor | None,
    ):
        self.name, self.source = reader.name, reader.source
        self.fps, self.size, self.num_frames = reader.fps, reader.size, reader.num_frames
        self.expected_frames, self.is_camera = reader.expected_frames, reader.is_camera
        self.classes, self.category_ids = classes, category_ids
        self.tracks: InstanceData | None = None
        self.complete = self.closed = False
        self._reader = reader
        self._run = run
        self._labels = labels
        self._cut = False
        ahead = CAMERA_READ_AHEAD if self.is_camera else max(READ_AHEAD, 2 * batch_size)
        self._prefetcher = Prefetcher(_prepared(reader, run), ahead)
        # Of a loop left in the middle: the thread knows nothing of the stream and lets it go.
        finalize(self, self._prefetcher.stop)
        self._results = self._segment(self._prefetcher.batches(batch_size))

    @property
    def num_broken(self) -> int:
        """Frames left out so far because they cannot be decoded."""
        return self._reader.num_broken

    def _segment(self, batches: Iterable[list["PreparedFrame"]]) -> Iterator[FrameResult]:
        try:
            for index, (image, timing, sample) in enumerate(self._run.results(batches)):
                instances = self._wanted(sample.pred_track_instances)
                yield FrameResult(self, index, image, timing, instances)
            if self._run.tracks is not None:
                self.tracks = self._wanted(self._run.tracks)
            self.complete = not self._cut
        finally:
            self._release()

    def _wanted(self, instances: InstanceData) -> InstanceData:
        if self._labels is None:
            return instances
        return instances[torch.isin(instances.labels.cpu(), self._labels)]

    def __iter__(self) -> Iterator[FrameResult]:
        return self

    def __next__(self) -> FrameResult:
        return next(self._results)

    def stop(self) -> None:
        """Let the video end here: what the model has taken is finished, no frame is read any more.

        It only sets flags and may be called from a signal handler or another thread.
        """
        self._cut = not self.is_camera
        self._prefetcher.stop()

    def close(self) -> None:
        """Stop at once and release the source; no further result comes."""
        self._results.close()
        self._release()

    def _release(self) -> None:
        self._prefetcher.close()
        self.closed = True

    def __enter__(self) -> "VideoStream":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _prepared(reader: VideoReader, run: "ModelRun") -> Iterator["PreparedFrame"]:
    with reader:
        for number, image in enumerate(reader):
            yield run.prepare(image, number, reader.timing)


def segment_video(model: nn.Module, frames: Iterable[np.ndarray]) -> "SegmentedVideo":
    """Segment the frames of one video as they come, in the caller's thread.

    :class:`VISInferencer` does the same beside reading and writing.

    Args:
        model: A model of :func:`build_video_segmentor`.
        frames: Frames in order, each of shape (H, W, 3), uint8, BGR, e.g. a ``VideoReader``.

    Returns:
        SegmentedVideo: An iterable over (frame, result), one for each frame and in order.

    Examples:
        >>> video = segment_video(model, VideoReader("street.mp4"))
        >>> for frame, data_sample in video:
        ...     print(data_sample.frame_id, data_sample.pred_track_instances.instances_id)
        >>> video.tracks
    """
    return SegmentedVideo(model, frames)


class SegmentedVideo:
    """A video being segmented: iterate over it once.

    Each result comes as soon as it is final. Of the frames, only those whose results are not
    final yet are held: their number is the method's look-ahead, whatever the video's length.

    A result's ``pred_track_instances`` carry the label and score of that frame. What a method
    decides about a track at the end of the video is in ``tracks``.

    Args:
        model: A model of :func:`build_video_segmentor`.
        frames: Frames in order, each of shape (H, W, 3), uint8, BGR.

    Yields:
        tuple[np.ndarray, DetDataSample]: A frame, unchanged, and its result; boxes and masks are
        at the frame's size.

    Raises:
        ValueError: If a frame is not a uint8 array of shape (H, W, 3).
        RuntimeError: If the model returns results that are not one per frame in order.
    """

    def __init__(self, model: nn.Module, frames: Iterable[np.ndarray]):
        self._frames = frames
        self._run = ModelRun(model)

    @property
    def tracks(self) -> InstanceData | None:
        """After the last frame: instances_id, labels and scores, where the method gives them."""
        return self._run.tracks

    def __iter__(self) -> Iterator[tuple[np.ndarray, DetDataSample]]:
        batches = ([self._run.prepare(frame, number)] for number, frame in enumerate(self._frames))
        for image, _, sample in self._run.results(batches):
            yield image, sample


class PreparedFrame(NamedTuple):
    """A frame, and what the model gets of it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        timing: When it is shown, if known.
        inputs: (1, 3, h, w) uint8, resized.
        sample: Its metainfo.
    """

    image: np.ndarray
    timing: FrameTiming | None
    inputs: Tensor
    sample: DetDataSample


class ModelRun:
    """One video on its way through a model.

    Args:
        model: A model of :func:`build_video_segmentor`.
        autocast: Type of numbers for mixed precision, None to do without.
        channels_last: Whether the model gets its frames with channels innermost in memory.

    Attributes:
        tracks (InstanceData | None): After the last result: what the method decided on tracks.
    """

    def __init__(
        self, model: nn.Module, autocast: torch.dtype | None = None, channels_last: bool = False
    ):
        self.tracks: InstanceData | None = None
        self._model = model
        self._autocast = autocast
        self._channels_last = channels_last
        self._pipeline = Compose(streaming_pipeline(model.cfg))

    def prepare(
        self, image: np.ndarray, number: int, timing: FrameTiming | None = None
    ) -> PreparedFrame:
        """Send a frame through the config's test pipeline.

        Args:
            image: (H, W, 3) uint8 BGR, as it was read.
            number: Of the frame in its video, from 0; its result carries it as ``frame_id``.
            timing: When the frame is shown, if known; handed on with the result.

        Raises:
            ValueError: If it is not a uint8 array of shape (H, W, 3).
        """
        check_frame(image, number)
        height_width = image.shape[:2]
        packed = self._pipeline(
            dict(
                img=[image],
                img_id=[number],
                img_path=[""],
                img_shape=[height_width],
                ori_shape=[height_width],
                frame_id=[number],
                video_id=[0],
                video_length=[1],
            )
        )
        return PreparedFrame(image, timing, packed["inputs"], packed["data_samples"][0])

    def results(
        self, batches: Iterable[list[PreparedFrame]]
    ) -> Iterator[tuple[np.ndarray, FrameTiming | None, DetDataSample]]:
        """Segment frames, handed over in batches of any size.

        An error in ``batches`` is raised when the frames before it are done.

        Yields:
            Each frame with its timing and result, when it is final.
        """
        state = self._model.start_video({})
        pending: deque[tuple] = deque()
        num_final = num_taken = 0
        error = None
        batches = iter(batches)
        while True:
            try:
                batch = next(batches, None)
            except Exception as caught:
                error, batch = caught, None
            if batch is None:
                break
            num_taken += len(batch)
            pending.extend((frame.image, frame.timing) for frame in batch)
            for sample in self._step(state, batch):
                yield *self._take(pending, num_final, sample), sample
                num_final += 1
        if num_taken:
            samples, self.tracks = self._finish(state)
            for sample in samples:
                yield *self._take(pending, num_final, sample), sample
                num_final += 1
        if error is not None:
            raise error
        if pending:
            raise RuntimeError(
                f"{type(self._model).__name__} ended the video without results for its last "
                f"{len(pending)} frames"
            )

    def collate(self, batch: list[PreparedFrame]) -> tuple[Tensor, list[dict]]:
        """Frames as the model gets them: (T, 3, H, W) normalised, on its device; and metainfo."""
        clip = TrackDataSample()
        clip.video_data_samples = [frame.sample for frame in batch]
        inputs = torch.cat([frame.inputs for frame in batch])
        data = self._model.data_preprocessor(
            dict(inputs=[inputs], data_samples=[clip]), training=False
        )
        frames = data["inputs"][0]
        if self._channels_last:
            frames = frames.contiguous(memory_format=torch.channels_last)
        return frames, [sample.metainfo for sample in data["data_samples"][0].video_data_samples]

    @torch.no_grad()
    def _step(self, state, batch: list[PreparedFrame]) -> list[DetDataSample]:
        frames, metas = self.collate(batch)
        with self._precision():
            return self._model.step(state, frames, metas)

    @torch.no_grad()
    def _finish(self, state) -> tuple[list[DetDataSample], InstanceData | None]:
        with self._precision():
            return self._model.finish(state)

    def _precision(self):
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self._model.data_preprocessor.device.type, self._autocast)

    def _take(self, pending: deque, number: int, sample: DetDataSample) -> tuple:
        """The oldest frame without a result, which the next result must belong to."""
        if not pending or sample.frame_id != number:
            raise RuntimeError(f"the model returned frame {sample.frame_id} where {number} was due")
        return pending.popleft()


def _autocast_dtype(device: torch.device) -> torch.dtype:
    # PyTorch calls bfloat16 supported where it is emulated, too, which is slow.
    half_only = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    return torch.float16 if half_only else torch.bfloat16
