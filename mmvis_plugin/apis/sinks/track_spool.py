"""Observations of tracks on disk: written frame by frame, read track by track."""

import os
import sqlite3
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmvis_plugin.apis.results import FrameResult, TrackedObject, final_tracks
from mmvis_plugin.apis.stream import VideoStream

from .base import Sink


class Observation(NamedTuple):
    """A track in one frame, as it is spooled: when, as what, how sure, how large, and its RLE."""

    frame: int
    time: float
    label: int
    score: float
    area: int
    counts: str | None


class TrackSummary(NamedTuple):
    """What a track is on the whole.

    Attributes:
        id: Identity.
        label: Class: the method's decision on the track, else the class of most frames.
        score: The method's, else the mean of the frames' scores.
        first, last: Frames of its first and last appearance.
        length: Frames in which it is present.
    """

    id: int
    label: int
    score: float
    first: int
    last: int
    length: int


class TrackSpool:
    """Observations of tracks, written frame by frame to disk and read back track by track.

    The formats that go by tracks need all frames of the first track before anything of the second.
    A database in a temporary file sorts them; in memory there is its cache of 2 MB.

    Args:
        path: The temporary file, which :meth:`close` removes.
    """

    def __init__(self, path: Path):
        self._path = path
        path.unlink(missing_ok=True)
        # The sink's thread writes, and whoever closes the sink reads: one after the other.
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # A spool needs no protection against crashes.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE observations (track INTEGER, frame INTEGER, time REAL, label INTEGER, "
            "score REAL, area INTEGER, counts TEXT, PRIMARY KEY (track, frame)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def add(self, result: FrameResult, tracks: Sequence[TrackedObject], with_masks: bool) -> None:
        """Write what is present of some tracks in a frame.

        Args:
            result: Of the frame, which gives its number and time.
            tracks: Objects of that frame, which are present in it even if their masks are empty.
            with_masks: Whether the masks are kept as well, or their areas alone.
        """
        time = float(result.timing.start)
        rows = [
            (
                track.id,
                result.index,
                time,
                track.label,
                track.score,
                track.area,
                track.rle["counts"] if with_masks else None,
            )
            for track in tracks
        ]
        # Of an id that a frame has twice the last counts.
        self._database.executemany(
            "INSERT OR REPLACE INTO observations VALUES (?, ?, ?, ?, ?, ?, ?)", rows
        )

    def summaries(self, video: VideoStream, every_row: bool = False) -> Iterator[TrackSummary]:
        """The tracks, in the order of their ids; see :func:`final_tracks`."""
        votes = defaultdict(Counter)
        for track, label, frames in self._database.execute(
            "SELECT track, label, COUNT(*) FROM observations GROUP BY track, label ORDER BY track"
        ):
            votes[track][label] = frames
        for track, label, score in final_tracks(votes, video, every_row):
            # Without the masks, which are nearly all of the spool.
            seen = self._database.execute(
                "SELECT frame, score FROM observations WHERE track = ? ORDER BY frame", (track,)
            )
            frames, scores = zip(*seen, strict=True)
            score = float(np.mean(scores)) if score is None else score
            yield TrackSummary(track, label, score, frames[0], frames[-1], len(frames))

    def observations(self, track: int) -> Iterator[Observation]:
        """A track's observations, in order."""
        rows = self._database.execute(
            "SELECT frame, time, label, score, area, counts FROM observations "
            "WHERE track = ? ORDER BY frame",
            (track,),
        )
        return map(Observation._make, rows)

    def close(self) -> None:
        """Remove the spool."""
        self._database.close()
        self._path.unlink(missing_ok=True)


class SpooledSink(Sink):
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
