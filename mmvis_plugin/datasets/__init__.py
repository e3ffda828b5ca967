from .coco_clips import COCOClips
from .samplers import (
    FrameIndex,
    InfiniteKeyFrameSampler,
    InfiniteVideoSampler,
    KeyFrameSampler,
)
from .transforms import CenteredClipSample, ClipSample, LoadFrame, LoadImageClip, SampleKeyFrame
from .youtube_vis import DatasetError, YTVISDataset

__all__ = [
    "COCOClips",
    "CenteredClipSample",
    "ClipSample",
    "DatasetError",
    "FrameIndex",
    "InfiniteKeyFrameSampler",
    "InfiniteVideoSampler",
    "KeyFrameSampler",
    "LoadFrame",
    "LoadImageClip",
    "SampleKeyFrame",
    "YTVISDataset",
]
