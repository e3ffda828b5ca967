"""Tracks in the official results format."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mmvis_plugin.apis.results import FrameResult
from mmvis_plugin.apis.stream import VideoStream

from .track_spool import Observation, SpooledSink


class JSONSink(SpooledSink):
    """Tracks in the official YouTube-VIS results format, by falling score.

    One entry a track: ``video_id``, ``category_id``, ``score`` and ``segmentations``, a COCO RLE
    or null for each frame. All tracks are in it, whatever they score, as for an evaluation; where a
    method decides on a track once per class, each decision is an entry. While
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
        summaries = sorted(
            self._spool.summaries(self._video, every_row=True), key=lambda track: -track.score
        )
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
