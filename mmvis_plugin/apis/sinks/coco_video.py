"""Tracks as annotations in the video JSON that MMDetection reads."""

import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pycocotools.mask as mask_utils

from mmvis_plugin.apis.results import FrameResult

from .track_spool import SpooledSink, TrackSummary


class COCOVideoSink(SpooledSink):
    """A "COCO-style" video JSON: one annotation for each object in each frame.

    ``videos`` has the one video, ``images`` its frames (``NAME/000000.jpg`` and so on, with
    ``frame_id``), and ``annotations`` the masks as COCO RLE with ``instance_id``, the track's id
    plus 1, and ``score``, the track's. Category ids are those of the model's data.

    Args:
        path: Target, ending in ``.json``.
        score_thr: Tracks that score less on the whole are left out.
    """

    suffix = ".json"

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3) -> None:
        super().__init__(path)
        self._score_thr = score_thr

    def _add(self, result: FrameResult) -> None:
        self._spool.add(result, result.tracks, with_masks=True)
        self._length = result.index + 1

    def _write(self, path: Path) -> None:
        video = self._video
        width, height = video.size
        size = dict(width=width, height=height)
        images = (
            dict(
                id=index + 1,
                video_id=1,
                frame_id=index,
                file_name=f"{video.name}/{index:06d}.jpg",
                **size,
            )
            for index in range(self._length)
        )
        categories = [
            dict(id=id_, name=name)
            for id_, name in zip(video.category_ids, video.classes, strict=True)
        ]
        lists = dict(
            videos=[dict(id=1, name=video.name, **size)],
            categories=categories,
            images=images,
            annotations=self._annotations([height, width]),
        )
        with open(path, "w", encoding="ascii") as file:
            file.write("{")
            for number, (name, entries) in enumerate(lists.items()):
                file.write(f'{"," if number else ""}\n"{name}": [')
                file.writelines(_joined(entries))
                file.write("]")
            file.write("}\n")

    def _annotations(self, size: list[int]) -> Iterator[dict]:
        number = 0
        for track in self._spool.summaries(self._video):
            if track.score < self._score_thr:
                continue
            for seen in self._spool.observations(track.id):
                rle = {"size": size, "counts": seen.counts}
                if seen.area:
                    number += 1
                    yield self._annotation(number, track, seen.frame, rle, seen.area)

    def _annotation(
        self, number: int, track: TrackSummary, frame: int, rle: dict, area: int
    ) -> dict:
        return dict(
            id=number,
            video_id=1,
            image_id=frame + 1,
            instance_id=track.id + 1,
            category_id=self._video.category_ids[track.label],
            segmentation=rle,
            bbox=mask_utils.toBbox(rle).tolist(),
            area=area,
            iscrowd=0,
            score=track.score,
        )


def _joined(entries: Iterator[dict]) -> Iterator[str]:
    entries = (json.dumps(entry, allow_nan=False) for entry in entries)
    first = next(entries, None)
    return () if first is None else chain([first], (f",\n{entry}" for entry in entries))
