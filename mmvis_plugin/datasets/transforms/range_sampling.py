"""Choosing a clip of frames within a range around the key frame."""

import random

from mmdet.datasets.transforms import BaseFrameSample
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RangeClipSample(BaseFrameSample):
    """Sample the key frame and others near it, drawn with replacement, sorted by time.

    Each of the other frames is drawn by itself from those at most ``frame_range`` away, the key
    frame excepted, so that a clip may show a frame twice. A video of one frame gives copies of it.

    Source: the repository of IFC (Hwang et al., NeurIPS 2021), which stops at a video of one frame.

    Required keys: ``images``, ``video_id``, ``video_length`` and, unless it is to be drawn at
    random, ``key_frame_id``.

    Added keys: for each key of a frame the list of its values, ``video_id``, ``video_length`` (of
    the clip) and ``ori_video_length``.

    Args:
        num_frames (int): Frames of a clip. Defaults to 5.
        frame_range (int): Greatest distance to the key frame, in frames. Defaults to 20.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, num_frames: int = 5, frame_range: int = 20, **kwargs) -> None:
        if num_frames < 1 or frame_range < 1:
            raise ValueError(
                f"num_frames and frame_range must be at least 1, got {num_frames} and {frame_range}"
            )
        super().__init__(**kwargs)
        self.num_frames = num_frames
        self.frame_range = frame_range

    def sample_frames(self, video_length: int, key_frame: int) -> list[int]:
        """Frames of a clip, in order, ``key_frame`` among them."""
        first = max(0, key_frame - self.frame_range)
        stop = min(video_length, key_frame + self.frame_range + 1)
        near = [*range(first, key_frame), *range(key_frame + 1, stop)] or [key_frame]
        return sorted([key_frame, *random.choices(near, k=self.num_frames - 1)])

    def transform(self, results: dict) -> dict:
        key_frame = results.get("key_frame_id")
        if key_frame is None:
            key_frame = random.randrange(results["video_length"])
        return self.prepare_data(results, self.sample_frames(results["video_length"], key_frame))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_frames={self.num_frames}, frame_range={self.frame_range})"
        )
