"""Choosing clips of consecutive frames."""

import random

from mmdet.datasets.transforms import BaseFrameSample
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ClipSample(BaseFrameSample):
    """Sample one clip of consecutive frames, or two clips of the same video, in either order.

    The first one drawn holds the key frame, anywhere in it. The second one is any other clip that
    does not overlap it, before or after; where the video has no room for two, one that overlaps
    as little as possible. Which of them comes first in the sample is then drawn again, so that a
    method learns to follow objects in both directions.

    Source: EfficientVIS (Wu et al., CVPR 2022), Sec. 3.3: clips are paired, "the order of the two
    clips in a pair is randomized". Which clips make a pair is our reading.

    A clip of a video that is shorter than it ends with copies of the last frame, marked as
    padding. Pack the mark with ``PackTrackInputs(meta_keys=("is_padding",))``.

    Required keys: ``images``, ``video_id``, ``video_length`` and, unless it is to be drawn at
    random, ``key_frame_id``.

    Added keys: for each key of a frame the list of its values over the one or two clips,
    ``is_padding`` (list of bool), ``video_id``, ``video_length`` (of the sample) and
    ``ori_video_length``.

    Args:
        clip_length (int): Frames of a clip.
        num_clips (int): 1 or 2. Defaults to 1.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, clip_length: int, num_clips: int = 1, **kwargs) -> None:
        if clip_length < 1:
            raise ValueError(f"clip_length must be at least 1, got {clip_length}")
        if num_clips not in (1, 2):
            raise ValueError(f"num_clips must be 1 or 2, got {num_clips}")
        super().__init__(**kwargs)
        self.clip_length = clip_length
        self.num_clips = num_clips

    def sample_starts(self, video_length: int, key_frame: int) -> list[int]:
        """First frames of the clips, in the order in which they come in the sample."""
        last = max(0, video_length - self.clip_length)
        start = random.randint(max(0, key_frame - self.clip_length + 1), min(key_frame, last))
        if self.num_clips == 1:
            return [start]
        gap = min(self.clip_length, max(start, last - start))
        other = random.choice([s for s in range(last + 1) if abs(s - start) >= gap])
        return random.sample([start, other], 2)

    def transform(self, results: dict) -> dict:
        length = results["video_length"]
        key_frame = results.get("key_frame_id")
        if key_frame is None:
            key_frame = random.randrange(length)
        starts = self.sample_starts(length, key_frame)
        frames = [start + t for start in starts for t in range(self.clip_length)]
        clips = self.prepare_data(results, [min(frame, length - 1) for frame in frames])
        clips["is_padding"] = [frame >= length for frame in frames]
        return clips

    def __repr__(self) -> str:
        return f"{type(self).__name__}(clip_length={self.clip_length}, num_clips={self.num_clips})"
