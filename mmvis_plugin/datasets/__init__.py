from .samplers import FrameIndex, InfiniteKeyFrameSampler, KeyFrameSampler
from .transforms import CenteredClipSample, ClipSample, LoadFrame, SampleKeyFrame
from .youtube_vis import DatasetError, YTVISDataset

__all__ = [
    "CenteredClipSample",
    "ClipSample",
    "DatasetError",
    "FrameIndex",
    "InfiniteKeyFrameSampler",
    "KeyFrameSampler",
    "LoadFrame",
    "SampleKeyFrame",
    "YTVISDataset",
]
