"""Observations of tracks on disk: written frame by frame, read track by track."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmvis_plugin.apis.inferencer import FrameResult, TrackedObject, VideoStream


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
        label: Class: the method's own decision, else that of most frames.
        score: The method's own, else the mean of the frames'.
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
            tracks: Objects of that frame. One whose mask is empty counts as absent.
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
            if track.area
        ]
        # Of an id that a frame has twice the last counts.
        self._database.executemany(
            "INSERT OR REPLACE INTO observations VALUES (?, ?, ?, ?, ?, ?, ?)", rows
        )

    def summaries(self, video: VideoStream) -> Iterator[TrackSummary]:
        """The tracks, in the order of their ids; see :func:`final_labels`."""
        votes = defaultdict(Counter)
        for track, label, frames in self._database.execute(
            "SELECT track, label, COUNT(*) FROM observations GROUP BY track, label ORDER BY track"
        ):
            votes[track][label] = frames
        decided = {}
        if video.tracks is not None:
            ids, scores = video.tracks.instances_id.tolist(), video.tracks.scores.tolist()
            decided = dict(zip(ids, scores, strict=True))
        for track, label in final_labels(votes, video).items():
            # Without the masks, which are nearly all of the spool.
            seen = self._database.execute(
                "SELECT frame, score FROM observations WHERE track = ? ORDER BY frame", (track,)
            )
            frames, scores = zip(*seen, strict=True)
            score = decided.get(track, float(np.mean(scores)))
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


def final_labels(votes: Mapping[int, Counter], video: VideoStream) -> dict[int, int]:
    """What tracks are in the end: what the method decided, else what most frames say.

    Where the method decides on tracks, those it does not name are of a class that nobody asked
    for, whatever single frames take them for: they are left out.

    Args:
        votes: How many frames give each track each label, by id.
        video: The video, after its last result.

    Returns:
        dict[int, int]: Labels by id, in the order of ``votes``.
    """
    if video.tracks is not None:
        ids, labels = video.tracks.instances_id.tolist(), video.tracks.labels.tolist()
        decided = dict(zip(ids, labels, strict=True))
        return {track: decided[track] for track in votes if track in decided}
    # Of classes with as many frames the first in the list, as YTVISMetric decides.
    return {
        track: max(labels, key=lambda label: (labels[label], -label))
        for track, labels in votes.items()
    }
