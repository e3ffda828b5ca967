"""A video being segmented: read in one thread, run through the model in the caller's."""

from collections.abc import Iterable, Iterator
from weakref import finalize

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmvis_plugin.video import Prefetcher, VideoReader

from .model_run import ModelRun, PreparedFrame
from .results import FrameResult

READ_AHEAD = 8  # frames decoded before the model asks for them
CAMERA_READ_AHEAD = 2  # of a camera fewer, since each makes the picture older


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
        run: ModelRun,
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

    def _segment(self, batches: Iterable[list[PreparedFrame]]) -> Iterator[FrameResult]:
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


def _prepared(reader: VideoReader, run: ModelRun) -> Iterator[PreparedFrame]:
    with reader:
        for number, image in enumerate(reader):
            try:
                prepared = run.prepare(image, number, reader.timing)
            except ValueError as error:
                raise ValueError(f"{reader.source}: {error}") from error
            yield prepared
