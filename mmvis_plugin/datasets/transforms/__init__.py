from .clip_sampling import ClipSample
from .frame_sampling import CenteredClipSample, SampleKeyFrame
from .loading import LoadFrame

__all__ = ["CenteredClipSample", "ClipSample", "LoadFrame", "SampleKeyFrame"]
