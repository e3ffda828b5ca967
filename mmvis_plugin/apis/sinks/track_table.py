"""A table of tracks."""

import csv
import os
from pathlib import Path

import numpy as np

from mmvis_plugin.apis.results import FrameResult, visible_tracks

from .track_spool import SpooledSink, TrackSummary


class CSVSink(SpooledSink):
    """A table of tracks, one row each, in the order of their ids.

    Columns: ``track_id``, ``class``, ``score`` (the track's), ``mean_score`` (of its frames),
    ``first_frame``, ``last_frame`` (from 0), ``first_time``, ``last_time`` (seconds from the first
    frame), ``length`` (frames in which it is present), ``mean_area`` (pixels) and ``areas``: the
    area in each frame from the first to the last, 0 where it is absent or its mask is empty.

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
