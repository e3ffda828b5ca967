"""Tracks for LabelMe: a picture and a JSON file for each frame."""

import re

import numpy as np

from mmvis_plugin.apis.results import FrameResult, TrackedObject, visible_tracks
from mmvis_plugin.files import write_json, write_picture
from mmvis_plugin.ytvis.outlines import outlines

from .folder import FolderSink

VERSION = "5.5.0"  # of LabelMe's format


class LabelMeSink(FolderSink):
    """A folder to open in LabelMe: ``000000.png``, a frame, and ``000000.json``, its polygons.

    A polygon's ``group_id`` is the track's id plus 1: ``convert_dataset.py labelme`` takes the
    polygons of a class and a group for one object, in a frame and over the frames. Holes are
    filled. The class is what the model says in that frame.

    Arguments are those of :class:`FolderSink`.
    """

    names = re.compile(r"\d{6,}\.(png|json)")

    def _add(self, result: FrameResult) -> None:
        name = f"{result.index:06d}"
        write_picture(result.image, self._temporary / f"{name}.png")
        width, height = result.size
        content = dict(
            version=VERSION,
            flags={},
            shapes=[
                shape
                for track in visible_tracks(result, self._score_thr)
                for shape in _shapes(track)
            ],
            imagePath=f"{name}.png",
            imageData=None,
            imageHeight=height,
            imageWidth=width,
        )
        write_json(content, self._temporary / f"{name}.json", indent=2)


def _shapes(track: TrackedObject) -> list[dict]:
    # LabelMe draws the pixels that corners lie in, outline included: exact, but not if simplified.
    return [
        dict(
            label=track.class_name,
            points=np.floor(corners).tolist(),
            group_id=track.id + 1,
            shape_type="polygon",
            flags={},
        )
        for corners in outlines(track.mask(), simplified=False).polygons
    ]
