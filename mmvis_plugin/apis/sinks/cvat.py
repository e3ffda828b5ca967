"""Tracks for CVAT, where a person corrects them."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pycocotools.mask as mask_utils

from mmvis_plugin.apis.results import FrameResult
from mmvis_plugin.apis.stream import VideoStream
from mmvis_plugin.files import write_json
from mmvis_plugin.ytvis.outlines import outlines

from .track_spool import Observation, SpooledSink, TrackSummary

IDENTITY = "identity"  # the text attribute that joins what CVAT keeps as several tracks
SHAPES = ("polygon", "mask")

logger = logging.getLogger(__name__)


class CVATSink(SpooledSink):
    """An XML file in the format "CVAT for video 1.1", to upload as annotations of a task.

    CVAT has no tracks of masks, and interpolates polygons between keyframes. So every part of an
    object becomes a track of polygons with a keyframe in each frame where it is present, and
    ``outside`` after it. The text attribute ``identity``, the track's id, says which belong
    together: ``convert_dataset.py cvat --identity attribute:identity`` joins them again. Holes are
    filled; a warning tells how many.

    The labels of the task are written beside it as ``NAME.labels.json``, for the *Raw* tab of
    CVAT's label constructor.

    Args:
        path: Target, ending in ``.xml``.
        score_thr: Tracks that score less on the whole are left out.
        shapes: ``'polygon'``; or ``'mask'``: exact masks, each a shape of one frame in CVAT, with
            the same attribute.

    Raises:
        ValueError: ``shapes`` is not one of the choices.
    """

    suffix = ".xml"

    def __init__(
        self, path: str | os.PathLike, score_thr: float = 0.3, shapes: str = "polygon"
    ) -> None:
        if shapes not in SHAPES:
            raise ValueError(f"shapes is {shapes!r}; choose one of {', '.join(SHAPES)}")
        super().__init__(path)
        self._score_thr = score_thr
        self._tracks_of = self._mask_tracks if shapes == "mask" else self._polygon_tracks

    def _add(self, result: FrameResult) -> None:
        self._spool.add(result, result.tracks, with_masks=True)
        self._length = result.index + 1

    def _write(self, path: Path) -> None:
        self._num_holes = self._num_tracks = 0
        with open(path, "w", encoding="utf-8") as file:
            file.write(_head(self._video, self._length))
            for track in self._spool.summaries(self._video):
                if track.score >= self._score_thr:
                    for shapes in self._tracks_of(track):
                        self._write_track(file, track, shapes)
            file.write("</annotations>\n")
        if self._num_holes:
            logger.warning(
                "%s: %d holes of masks were filled, since polygons have none; masks keep them",
                self.path,
                self._num_holes,
            )

    def _save(self, path: Path) -> None:
        super()._save(path)
        write_json(_labels(self._video), path.with_suffix(".labels.json"), indent=2)

    def _write_track(self, file, track: TrackSummary, shapes: Iterator[str]) -> None:
        first = next(shapes, None)
        if first is None:  # its masks are empty in all frames
            return
        name = quoteattr(self._video.classes[track.label])
        file.write(f'  <track id="{self._num_tracks}" label={name} source="auto">\n')
        file.writelines(chain([first], shapes))
        file.write("  </track>\n")
        self._num_tracks += 1

    def _polygon_tracks(self, track: TrackSummary) -> Iterator[Iterator[str]]:
        """A track of polygons for each part; the first one counts how many there are."""
        seen = Counter(parts=1)
        yield self._polygons(track, 0, seen)
        self._num_holes += seen["holes"]
        for part in range(1, seen["parts"]):
            yield self._polygons(track, part, Counter())

    def _polygons(self, track: TrackSummary, part: int, counts: Counter) -> Iterator[str]:
        last = None  # frame and corners
        for seen in self._spool.observations(track.id):
            polygons, num_holes = outlines(self._mask(seen))
            counts["parts"] = max(counts["parts"], len(polygons))
            counts["holes"] += num_holes
            if part >= len(polygons):
                continue
            if last is not None and last[0] + 1 < seen.frame:
                yield _polygon(last[0] + 1, last[1], track.id, outside=True)
            last = seen.frame, polygons[part]
            yield _polygon(*last, track.id)
        if last is not None and last[0] + 1 < self._length:
            yield _polygon(last[0] + 1, last[1], track.id, outside=True)

    def _mask_tracks(self, track: TrackSummary) -> Iterator[Iterator[str]]:
        """As CVAT exports a mask: a track of one frame, and an ``outside`` copy after it."""
        for seen in self._spool.observations(track.id):
            mask = self._mask(seen)
            if mask.any():
                frames = [(seen.frame, False)]
                if seen.frame + 1 < self._length:
                    frames.append((seen.frame + 1, True))
                yield (_mask(frame, mask, track.id, outside) for frame, outside in frames)

    def _mask(self, seen: Observation) -> np.ndarray:
        width, height = self._video.size
        return mask_utils.decode({"size": [height, width], "counts": seen.counts}).astype(bool)


def _head(video: VideoStream, length: int) -> str:
    width, height = video.size
    labels = "\n".join(
        f"""        <label>
          <name>{escape(name)}</name>
          <type>any</type>
          <attributes>
            <attribute>
              <name>{IDENTITY}</name>
              <mutable>False</mutable>
              <input_type>text</input_type>
              <default_value></default_value>
              <values></values>
            </attribute>
          </attributes>
        </label>"""
        for name in video.classes
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>{escape(video.name)}</name>
      <size>{length}</size>
      <mode>interpolation</mode>
      <overlap>0</overlap>
      <start_frame>0</start_frame>
      <stop_frame>{length - 1}</stop_frame>
      <frame_filter></frame_filter>
      <labels>
{labels}
      </labels>
      <original_size>
        <width>{width}</width>
        <height>{height}</height>
      </original_size>
    </task>
  </meta>
"""


def _labels(video: VideoStream) -> list[dict]:
    """Labels in the form of CVAT's *Raw* tab."""
    attribute = dict(name=IDENTITY, mutable=False, input_type="text", default_value="", values=[])
    return [dict(name=name, type="any", attributes=[attribute]) for name in video.classes]


def _polygon(frame: int, corners: np.ndarray, identity: int, outside: bool = False) -> str:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners.tolist())
    return _shape("polygon", frame, f'points="{points}"', identity, outside)


def _mask(frame: int, mask: np.ndarray, identity: int, outside: bool) -> str:
    """Runs along the rows of the mask's box, background first."""
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    top, left = int(rows[0]), int(columns[0])
    box = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    pixels = np.concatenate([[False], box.ravel()])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    runs = np.diff(np.concatenate([[0], changes, [box.size]]))
    height, width = box.shape
    place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    return _shape(
        "mask", frame, f'rle="{", ".join(map(str, runs.tolist()))}" {place}', identity, outside
    )


def _shape(kind: str, frame: int, place: str, identity: int, outside: bool) -> str:
    return (
        f'    <{kind} frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" {place} '
        f'z_order="0"><attribute name="{IDENTITY}">{json.dumps(identity)}</attribute></{kind}>\n'
    )
