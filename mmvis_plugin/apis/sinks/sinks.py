"""Where results go: a video, official-format JSON, id maps, MOTS text, a table of tracks.

A sink is a context manager that takes the results of one video as they come and works in a thread
of its own. What it writes has its final name only when it is whole. If the block is left by an
exception (Ctrl-C, a source that fails in the middle) or before the video's end (``stop``,
``break``), the file is closed properly all the same, holds the frames so far and says so in its
name: ``tracks.partial.mp4``::

    with VISInferencer("maskprop_r18_shapes") as inferencer, VideoSink("tracks.mp4") as sink:
        for result in inferencer("street.mp4"):
            sink.write(result)
"""

import csv
import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_utils

from mmvis_plugin.apis.inferencer import FrameResult, TrackedObject, VideoStream
from mmvis_plugin.video.background import Worker
from mmvis_plugin.video.video_io import VideoError, VideoWriter

# Not from the package: it imports this one.
from mmvis_plugin.visualization.track_visualizer import TrackVisualizer
from mmvis_plugin.ytvis.rle import encode_masks

from .track_spool import Observation, TrackSpool, TrackSummary

QUEUE_SIZE = 8  # results that wait for a sink at most
SHORT_SIDE = 256  # pixels from which on labels do not cover what they name


class Sink(ABC):
    """Base class: the thread, the names, and what happens at the end.

    A subclass implements the four methods with an underscore; they run in the sink's thread,
    except that :meth:`_save` and :meth:`_discard` may run in the caller's when the thread is done.

    Args:
        path: Target. Missing folders are made, an existing file is replaced at the end.

    Attributes:
        suffix (str): What the target's name must end in; empty for a folder.
        path (Path): The target.
        written (Path | None): After :meth:`close`, what was written: the target, or
            :attr:`partial_path`, or nothing.
        num_frames (int): Frames taken so far.

    Raises:
        ValueError: If the target's name does not end as it must.
        OSError: If its folder cannot be made.
    """

    suffix = ""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.name.lower().endswith(self.suffix):
            raise ValueError(f"{self.path}: the name must end in {self.suffix}")
        if self.suffix and self.path.is_dir():
            raise ValueError(f"{self.path} is a folder")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.written: Path | None = None
        self.num_frames = 0
        self._video: VideoStream | None = None
        self._worker: Worker | None = None
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    @property
    def partial_path(self) -> Path:
        """Name of a target that is not whole: ``tracks.partial.mp4`` for ``tracks.mp4``."""
        name = self.path.name
        cut = len(name) - len(self.suffix)
        return self.path.with_name(f"{name[:cut]}.partial{name[cut:]}")

    @abstractmethod
    def _open(self, video: VideoStream) -> None:
        """Begin to write to ``self._temporary``."""

    @abstractmethod
    def _add(self, result: FrameResult) -> None:
        """Take a frame."""

    @abstractmethod
    def _save(self, path: Path) -> None:
        """Write the rest and give the result its name."""

    @abstractmethod
    def _discard(self) -> None:
        """Close and remove what there is."""

    def write(self, result: FrameResult) -> None:
        """Take a frame; it is written beside what the caller does next.

        Raises:
            ValueError: If it is of another video than those before, or the sink is closed.
            Exception: What went wrong with an earlier frame.
        """
        if self._worker is None:
            if self._video is not None:
                raise ValueError(f"{self.path}: the sink is closed")
            self._video = result.video
            self._worker = Worker(self._take, QUEUE_SIZE, f"sink {self.path.name}")
        if result.video is not self._video:
            raise ValueError(f"{self.path}: a sink takes one video, this is another one")
        self._worker.put(result)

    def _take(self, result: FrameResult) -> None:
        if self.num_frames == 0:
            self._open(result.video)
        self._add(result)
        self.num_frames += 1

    def close(self, partial: bool = False) -> None:
        """Finish the file and give it its name. Without a frame, nothing is left on disk.

        Args:
            partial: Whether frames are missing. The name also tells it if the video was stopped,
                or its results were not drawn to their end.

        Raises:
            Exception: What went wrong with a frame or the file; nothing is left on disk then.
        """
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        try:
            worker.close()
            if self.num_frames:
                is_whole = self._video.complete and not partial
                path = self.path if is_whole else self.partial_path
                self._save(path)
                self.written = path
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        try:
            self.close(partial=exc_type is not None)
        except Exception as error:
            # What failed here may be what the block is left with.
            if error is not exc_value:
                raise


def visible_tracks(result: FrameResult, score_thr: float) -> list[TrackedObject]:
    """The objects of a frame that are sure enough to be shown.

    Args:
        result: Of the frame.
        score_thr: Least score of an object in this frame, in [0, 1].

    Returns:
        list[TrackedObject]: By rising score, so that in a picture the surer one is painted on top.
    """
    chosen = [track for track in result.tracks if track.score >= score_thr]
    return sorted(chosen, key=lambda track: track.score)


# --- pictures ---------------------------------------------------------------------------------


class VideoSink(Sink):
    """The video with its tracks painted on, as MP4 (H.264), at the source's times.

    Args:
        path: Target, ending in ``.mp4``.
        score_thr: Objects that score less in a frame are not drawn in it.
        enlarge: Times by which the picture is larger than the frame, so that labels have room.
            By default as often as it takes for the shorter side to reach 256 pixels.
        trails: Frames over which the path of each object is drawn, 0 for none.
    """

    suffix = ".mp4"

    def __init__(
        self,
        path: str | os.PathLike,
        score_thr: float = 0.3,
        enlarge: int | None = None,
        trails: int = 0,
    ):
        super().__init__(path)
        if enlarge is not None and enlarge < 1:
            raise ValueError(f"{path}: a picture cannot be enlarged {enlarge} times")
        self._score_thr = score_thr
        self._enlarge = enlarge
        self._trails = trails
        self._writer: VideoWriter | None = None

    def _open(self, video: VideoStream) -> None:
        enlarge = self._enlarge or default_enlargement(video.size)
        self._visualizer = TrackVisualizer(
            video.classes, self._score_thr, enlarge=enlarge, trails=self._trails
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


def default_enlargement(size: tuple[int, int]) -> int:
    """Times by which a frame must grow for its shorter side to reach 256 pixels."""
    return -(-SHORT_SIDE // min(size)) if min(size) < SHORT_SIDE else 1


class IdMapSink(Sink):
    """One PNG a frame, 16 bits a pixel: the track's id plus 1, 0 for the background.

    Files are named ``000000.png`` and so on. Where masks overlap the higher score is on top.

    Args:
        path: Target folder. One that is there already is replaced at the end if it holds nothing
            but such files.
        score_thr: Objects that score less in a frame are left out of it.

    Raises:
        FileExistsError: If the folder holds other files.
    """

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3):
        super().__init__(path)
        self._score_thr = score_thr
        for target in (self.path, self.partial_path):
            _check_replaceable(target)

    def _open(self, video: VideoStream) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed
        self._temporary.mkdir()

    def _add(self, result: FrameResult) -> None:
        ids = id_map(visible_tracks(result, self._score_thr), result.size)
        _, data = cv2.imencode(".png", ids)
        (self._temporary / f"{result.index:06d}.png").write_bytes(data)

    def _save(self, path: Path) -> None:
        _check_replaceable(path)
        if path.exists():
            shutil.rmtree(path)
        os.replace(self._temporary, path)

    def _discard(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


def id_map(tracks: Sequence[TrackedObject], size: tuple[int, int]) -> np.ndarray:
    """Paint tracks into one image, later ones over earlier ones.

    Args:
        tracks: Objects of one frame.
        size: Its width and height.

    Returns:
        (H, W) uint16: id plus 1, 0 for the background.

    Raises:
        VideoError: If an id does not fit into 16 bits.
    """
    ids = np.zeros(size[::-1], np.uint16)
    for track in tracks:
        if track.id >= np.iinfo(np.uint16).max:
            raise VideoError(f"track {track.id}: its id does not fit into a PNG of 16 bits")
        ids[track.mask()] = track.id + 1
    return ids


def _check_replaceable(folder: Path) -> None:
    if folder.is_symlink():
        raise FileExistsError(f"{folder} is a link: name the folder that it leads to")
    if not folder.exists():
        return
    others = [p.name for p in folder.iterdir() if not re.fullmatch(r"\d{6,}\.png", p.name)]
    if others:
        raise FileExistsError(
            f"{folder}: the folder holds other files ({others[0]}); name one that is new or holds "
            "nothing but id maps"
        )


# --- text -------------------------------------------------------------------------------------


class MOTSSink(Sink):
    """Text in the style of MOTS: ``frame id class height width rle``, one line an object.

    Frames count from 0, classes from 1 in the order of the model's class list; ``id`` is the
    track's id as it is (the class has a column, so it is not packed into the id). MOTS wants masks
    that do not overlap: pixels of several belong to the one of the highest score. The class is
    what the model says in that frame.

    Args:
        path: Target, ending in ``.txt``.
        score_thr: Objects that score less in a frame are left out of it.
    """

    suffix = ".txt"

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3):
        super().__init__(path)
        self._score_thr = score_thr
        self._file = None

    def _open(self, video: VideoStream) -> None:
        self._file = self._temporary.open("w", encoding="ascii", newline="\n")

    def _add(self, result: FrameResult) -> None:
        width, height = result.size
        tracks = visible_tracks(result, self._score_thr)
        for track, rle in zip(tracks, disjoint_masks(tracks, result.size), strict=True):
            if mask_utils.area(rle):
                fields = (result.index, track.id, track.label + 1, height, width, rle["counts"])
                self._file.write(" ".join(map(str, fields)) + "\n")

    def _save(self, path: Path) -> None:
        self._file.close()
        os.replace(self._temporary, path)

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def disjoint_masks(tracks: Sequence[TrackedObject], size: tuple[int, int]) -> list[dict]:
    """Masks without what later tracks cover of them.

    Args:
        tracks: N objects of one frame.
        size: Its width and height in pixels.

    Returns:
        list[dict]: N COCO RLEs with ``size`` [H, W] and ``counts`` a str, no two of which
        overlap; some may be empty.
    """
    rles = [track.rle for track in tracks]
    if len(rles) < 2 or mask_utils.area(mask_utils.merge(rles)) == mask_utils.area(rles).sum():
        return rles
    owners = np.zeros(size[::-1], np.intp)
    for number, track in enumerate(tracks, 1):
        owners[track.mask()] = number
    return encode_masks(owners == np.arange(1, len(tracks) + 1)[:, None, None])


class _SpooledSink(Sink):
    """Base of the formats that go by tracks: a spool while frames come, the file at the end."""

    def __init__(self, path: str | os.PathLike):
        super().__init__(path)
        self._spool: TrackSpool | None = None

    @abstractmethod
    def _write(self, path: Path) -> None:
        """Write the file from the spool."""

    def _open(self, video: VideoStream) -> None:
        self._spool = TrackSpool(self._temporary.with_suffix(".spool"))

    def _save(self, path: Path) -> None:
        self._write(self._temporary)
        self._spool.close()
        os.replace(self._temporary, path)

    def _discard(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._temporary.unlink(missing_ok=True)


class JSONSink(_SpooledSink):
    """Tracks in the official YouTube-VIS results format, by falling score.

    One entry a track: ``video_id``, ``category_id``, ``score`` and ``segmentations``, a COCO RLE
    or null for each frame. All tracks are in it, whatever they score, as for an evaluation. While
    the video runs the masks are in a temporary file beside the target.

    Args:
        path: Target, ending in ``.json``.
        video_id: Of the video in the annotation file.
        category_ids: Category id by class name. By default those of the data that the model was
            trained on; see :class:`~mmvis_plugin.apis.VISInferencer`.

    Raises:
        ValueError: When the first frame comes, if a class has no category id.
    """

    suffix = ".json"

    def __init__(
        self,
        path: str | os.PathLike,
        video_id: int = 1,
        category_ids: Mapping[str, int] | None = None,
    ):
        super().__init__(path)
        self._video_id = video_id
        self._category_ids = category_ids

    def _open(self, video: VideoStream) -> None:
        ids = self._category_ids or dict(zip(video.classes, video.category_ids, strict=True))
        missing = [name for name in video.classes if name not in ids]
        if missing:
            raise ValueError(f"{self.path}: no category id for the classes {', '.join(missing)}")
        self._ids_by_label = [ids[name] for name in video.classes]
        super()._open(video)

    def _add(self, result: FrameResult) -> None:
        self._spool.add(result, result.tracks, with_masks=True)
        self._length = result.index + 1  # frames that were not written count as empty

    def _write(self, path: Path) -> None:
        width, height = self._video.size
        summaries = sorted(self._spool.summaries(self._video), key=lambda track: -track.score)
        with open(path, "w", encoding="ascii") as file:
            separator = "["
            for track in summaries:
                head = {
                    "video_id": self._video_id,
                    "score": track.score,
                    "category_id": self._ids_by_label[track.label],
                }
                file.write(
                    f'{separator}{json.dumps(head, allow_nan=False)[:-1]}, "segmentations": '
                )
                self._write_masks(file.write, self._spool.observations(track.id), [height, width])
                file.write("}")
                separator = ",\n"
            file.write("]\n" if summaries else "[]\n")

    def _write_masks(
        self, write: Callable[[str], int], observations: Iterator[Observation], size: list[int]
    ) -> None:
        """Write the list of a track's masks, with null where it is absent."""
        separator, due = "[", 0
        for seen in observations:
            mask = json.dumps({"size": size, "counts": seen.counts})
            write(separator + "null, " * (seen.frame - due) + mask)
            separator, due = ", ", seen.frame + 1
        write(", null" * (self._length - due) + "]")


class CSVSink(_SpooledSink):
    """A table of tracks, one row each, in the order of their ids.

    Columns: ``track_id``, ``class``, ``score`` (the track's), ``mean_score`` (of its frames),
    ``first_frame``, ``last_frame`` (from 0), ``first_time``, ``last_time`` (seconds from the first
    frame), ``length`` (frames in which it is present), ``mean_area`` (pixels) and ``areas``: the
    area in each frame from the first to the last, 0 where it is absent.

    Args:
        path: Target, ending in ``.csv``.
        score_thr: Objects that score less in a frame count as absent from it.
    """

    suffix = ".csv"
    columns = (
        *("track_id", "class", "score", "mean_score", "first_frame", "last_frame"),
        *("first_time", "last_time", "length", "mean_area", "areas"),
    )

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3):
        super().__init__(path)
        self._score_thr = score_thr

    def _add(self, result: FrameResult) -> None:
        self._spool.add(result, visible_tracks(result, self._score_thr), with_masks=False)

    def _write(self, path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(self.columns)
            for track in self._spool.summaries(self._video):
                table.writerow(self._row(track))

    def _row(self, track: TrackSummary) -> tuple:
        areas = np.zeros(track.last - track.first + 1, np.int64)
        scores, times = [], []
        for seen in self._spool.observations(track.id):
            areas[seen.frame - track.first] = seen.area
            scores.append(seen.score)
            times.append(seen.time)
        return (
            *(track.id, self._video.classes[track.label]),
            *(f"{track.score:.4f}", f"{np.mean(scores):.4f}", track.first, track.last),
            *(f"{times[0]:.3f}", f"{times[-1]:.3f}", track.length),
            *(f"{areas.sum() / track.length:.1f}", " ".join(map(str, areas.tolist()))),
        )
