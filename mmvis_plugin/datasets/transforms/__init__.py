from .frame_sampling import CenteredClipSample, SampleKeyFrame
from .loading import LoadFrame

__all__ = ["CenteredClipSample", "LoadFrame", "SampleKeyFrame"]
