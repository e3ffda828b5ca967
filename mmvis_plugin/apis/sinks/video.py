"""The video with its tracks drawn on it."""

import os
from pathlib import Path

from mmvis_plugin.apis.results import FrameResult
from mmvis_plugin.apis.stream import VideoStream
from mmvis_plugin.video import VideoWriter
from mmvis_plugin.visualization import TrackVisualizer, default_enlargement

from .base import Sink


class VideoSink(Sink):
    """The video with its tracks drawn on it, as MP4 (H.264), at the source's times.

    Args:
        path: Target, ending in ``.mp4``.
        score_thr: Objects that score less in a frame are not drawn in it.
        enlarge: Times by which the picture is larger than the frame, so that labels have room.
            By default what brings the shorter side to 256 pixels.
        trails: Frames over which the path of each object is drawn, 0 for none.
        font: Font file for the labels, see :class:`TrackVisualizer`.
        labels: What labels name, see :class:`TrackVisualizer`.
    """

    suffix = ".mp4"

    def __init__(
        self,
        path: str | os.PathLike,
        score_thr: float = 0.3,
        enlarge: int | None = None,
        trails: int = 0,
        font: str | os.PathLike | None = None,
        labels: str = "full",
    ):
        super().__init__(path)
        if enlarge is not None and enlarge < 1:
            raise ValueError(f"{path}: a picture cannot be enlarged {enlarge} times")
        self._score_thr = score_thr
        self._enlarge = enlarge
        self._trails = trails
        self._font = font
        self._labels = labels
        self._writer: VideoWriter | None = None

    def _open(self, video: VideoStream) -> None:
        enlarge = self._enlarge or default_enlargement(video.size)
        self._visualizer = TrackVisualizer(
            video.classes,
            self._score_thr,
            enlarge=enlarge,
            trails=self._trails,
            font=self._font,
            labels=self._labels,
        )
        width, height = video.size
        self._writer = VideoWriter(self.path, video.fps, (enlarge * width, enlarge * height))

    def _add(self, result: FrameResult) -> None:
        picture = self._visualizer.draw(result.image, result.instances)
        self._writer.write(picture, result.timing)

    def _save(self, path: Path) -> None:
        self._writer.close(path)

    def _discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()
