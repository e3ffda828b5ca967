from .samplers import FrameIndex, InfiniteKeyFrameSampler, KeyFrameSampler
from .transforms import CenteredClipSample, LoadFrame, SampleKeyFrame
from .youtube_vis import DatasetError, YTVISDataset

__all__ = [
    "CenteredClipSample",
    "DatasetError",
    "FrameIndex",
    "InfiniteKeyFrameSampler",
    "KeyFrameSampler",
    "LoadFrame",
    "SampleKeyFrame",
    "YTVISDataset",
]
