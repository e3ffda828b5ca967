"""ShapesVIS: a synthetic video instance segmentation dataset in the official YouTube-VIS layout.

Every video shows one to five textured shapes over a textured, moving background. What makes video
instance segmentation hard is planned into each video and then *measured* on the rendered truth:
occlusion, fast motion, changes of scale and aspect ratio, leaving and coming back and, in version
2, late entries, empty openings, cuts, long absences and twins, which share their class and texture.
A class is a pair of a shape and a texture; colours are random and carry no information about it.

The same arguments write the same bytes, and video ``k`` of a split depends on the version, the
seed, the split and ``k`` alone, so a larger dataset begins with the videos of a smaller one.
"""

from .appearance import SHAPES, TEXTURES, appearance
from .events import EMPTY_OPENING, EVENTS, LATE_ENTRY, LONG_ABSENCE
from .rendering import RenderedVideo
from .writing import (
    LATEST,
    SPLITS,
    VERSIONS,
    generate_video,
    make_shapes_vis,
    track_annotations,
)

__all__ = [
    "EMPTY_OPENING",
    "EVENTS",
    "LATEST",
    "LATE_ENTRY",
    "LONG_ABSENCE",
    "RenderedVideo",
    "SHAPES",
    "SPLITS",
    "TEXTURES",
    "VERSIONS",
    "appearance",
    "generate_video",
    "make_shapes_vis",
    "track_annotations",
]
