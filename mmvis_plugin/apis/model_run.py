"""The plain loop: frames of one video go through a model, and results come out when final."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmvis_plugin.config import naming_settings
from mmvis_plugin.video import FrameTiming, check_frame

from .models import streaming_pipeline


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
        labels: (n,) classes that are wanted; None for all. The model may still find others.

    Attributes:
        tracks (InstanceData | None): After the last result: what the method decided on tracks.
    """

    def __init__(
        self,
        model: nn.Module,
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
        labels: Tensor | None = None,
    ):
        self.tracks: InstanceData | None = None
        self._model = model
        self._autocast = autocast
        self._channels_last = channels_last
        self._meta = {} if labels is None else {"labels": tuple(labels.tolist())}
        with naming_settings(model.cfg):
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
            ValueError: If it is not a uint8 array of shape (H, W, 3), or too thin to be resized.
        """
        check_frame(image, number)
        height_width = image.shape[:2]
        described = dict(
            img=[image],
            img_id=[number],
            img_path=[""],
            img_shape=[height_width],
            ori_shape=[height_width],
            frame_id=[number],
            video_id=[0],
            video_length=[1],
        )
        try:
            packed = self._pipeline(described)
        except cv2.error as error:  # of a side that is rounded to nothing
            height, width = height_width
            raise ValueError(
                f"frame {number}: {width} x {height} pixels cannot be resized for this model"
            ) from error
        return PreparedFrame(image, timing, packed["inputs"], packed["data_samples"][0])

    def results(
        self, batches: Iterable[list[PreparedFrame]]
    ) -> Iterator[tuple[np.ndarray, FrameTiming | None, DetDataSample]]:
        """Segment frames, handed over in batches of any size.

        An error in ``batches`` is raised when the frames before it are done.

        Yields:
            Each frame with its timing and result, when it is final.
        """
        state = self._model.start_video(self._meta)
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
