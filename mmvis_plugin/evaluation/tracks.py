"""Annotated and predicted tracks, as the protocol compares them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from mmvis_plugin.ytvis.problems import FormatError
from mmvis_plugin.ytvis.rle import Runs, decode_runs, what_is_wrong


class Video(NamedTuple):
    """A video's size in pixels and its number of frames."""

    height: int
    width: int
    length: int


class Track:
    """One object's masks over a video.

    Args:
        counts: The text of a compressed COCO RLE per frame, ``""`` where the object is absent.
        video: The video's size.
        where: Words that say where the track comes from, for messages.
        score: Confidence of a predicted track.
        crowd: An annotated track of several objects, which is not counted.
        declared_area: Size of an annotated track that the file states, in pixels.
        areas: Pixels of the mask in each frame, (length,) int64, where they are known.
    """

    __slots__ = ("counts", "video", "where", "score", "crowd", "declared_area", "_areas")

    def __init__(
        self,
        counts: list[str],
        video: Video,
        where: str = "track",
        score: float = 1.0,
        crowd: bool = False,
        declared_area: float | None = None,
        areas: np.ndarray | None = None,
    ) -> None:
        self.counts = counts
        self.video = video
        self.where = where
        self.score = score
        self.crowd = crowd
        self.declared_area = declared_area
        self._areas = areas

    @property
    def areas(self) -> np.ndarray:
        """Pixels of the mask in each frame, (length,) int64.

        Raises:
            ValueError: An RLE does not describe a mask of the video's size.
        """
        if self._areas is None:
            self._areas = read_masks([self], [self.counts]).areas
        return self._areas

    @property
    def rles(self) -> list[dict | None]:
        """The masks as in a file: a compressed RLE per frame, None where the object is absent."""
        size = [self.video.height, self.video.width]
        return [{"size": size, "counts": text} if text else None for text in self.counts]

    @property
    def known_area(self) -> float | None:
        """The track's size: what the file states, else the mean over the frames with a mask.

        None as long as the masks have not been read.
        """
        if self.declared_area is not None or self._areas is None:
            return self.declared_area
        return float(self._areas.sum() / max(np.count_nonzero(self._areas), 1))

    @property
    def mean_area(self) -> float:
        """As ``known_area``; the masks are read if need be."""
        if self.declared_area is None:
            self._areas = self.areas
        return self.known_area


@dataclass(frozen=True)
class GroundTruth:
    """A checked YouTube-VIS JSON, ready to score any number of results.

    Attributes:
        videos: Size and length by video id, in order of the ids.
        categories: Class name by category id, in order of the ids.
        tracks: Annotated tracks by (video id, category id).
        tags: Ids of the videos with each tag, by its name; empty where the JSON's videos have no
            lists under ``tags``.
    """

    videos: dict[Hashable, Video]
    categories: dict[Hashable, str]
    tracks: dict[tuple, list[Track]]
    tags: dict[str, set[Hashable]]

    @cached_property
    def by_video(self) -> dict[Hashable, dict[Hashable, list[Track]]]:
        """The annotated tracks by video id and then by category id."""
        return by_video(self.tracks)


def by_video(tracks: Mapping[tuple, list[Track]]) -> dict[Hashable, dict]:
    table = defaultdict(dict)
    for (video, category), found in tracks.items():
        table[video][category] = found
    return dict(table)


def read_masks(tracks: Sequence[Track], counts: Sequence[list[str]]) -> Runs:
    """Read the masks of tracks of one video, one track after another.

    The masks of a track are offset by the pixels of the frames before, so that their runs are those
    of one mask of the whole video.

    Args:
        tracks: One or more; for messages.
        counts: The texts of each.

    Returns:
        Runs: Of all frames of all tracks.

    Raises:
        FormatError: An RLE does not describe a mask of the video's size; says where.
    """
    height, width, length = tracks[0].video
    texts = list(chain.from_iterable(counts))
    runs = decode_runs(texts, np.tile(np.arange(length) * (height * width), len(tracks)))
    for index in np.flatnonzero(runs.pixels != height * width).tolist():
        if texts[index]:  # else the object is absent
            track, frame = divmod(index, length)
            reason = what_is_wrong(texts[index], runs.pixels[index], height, width)
            raise FormatError(f"{tracks[track].where}, frame {frame}: {reason}")
    return runs
