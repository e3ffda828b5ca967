from .circular_sampling import CircularClipSample
from .clip_sampling import ClipSample
from .frame_sampling import AnnotatedPairSample, CenteredClipSample, SampleKeyFrame
from .image_clip import LoadImageClip
from .loading import LoadFrame
from .local_global_sampling import LocalGlobalClipSample
from .random_choice import SharedRandomChoice
from .range_sampling import RangeClipSample
from .resizing import ResizeShortSide

__all__ = [
    "AnnotatedPairSample",
    "CenteredClipSample",
    "CircularClipSample",
    "ClipSample",
    "LoadFrame",
    "LoadImageClip",
    "LocalGlobalClipSample",
    "RangeClipSample",
    "ResizeShortSide",
    "SampleKeyFrame",
    "SharedRandomChoice",
]
