"""Choosing a clip of frames near the key frame and frames from all over the video."""

import random

from mmdet.datasets.transforms import BaseFrameSample
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LocalGlobalClipSample(BaseFrameSample):
    """Sample the key frame, one frame before and one after it, and others from all over the video.

    The frames before and after are 1 to ``local_range`` frames away, drawn each by itself, and end
    with the video. The rest is drawn from the frames before and behind these three; where they are
    too few, from all frames of the video, and a video shorter than that gives frames repeatedly.
    The clip is sorted by time and may show a frame twice.

    Source: the sampling of SeqFormer's (Wu et al., ECCV 2022) repository.

    Required keys: ``images``, ``video_id``, ``video_length`` and, unless it is to be drawn at
    random, ``key_frame_id``.

    Added keys: for each key of a frame the list of its values, ``video_id``, ``video_length`` (of
    the clip) and ``ori_video_length``.

    Args:
        num_frames (int): Frames of a clip, at least 3. Defaults to 5.
        local_range (int): Defaults to 3.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, num_frames: int = 5, local_range: int = 3, **kwargs) -> None:
        if num_frames < 3:
            raise ValueError(f"num_frames must be at least 3, got {num_frames}")
        if local_range < 1:
            raise ValueError(f"local_range must be at least 1, got {local_range}")
        super().__init__(**kwargs)
        self.num_frames = num_frames
        self.local_range = local_range

    def sample_frames(self, video_length: int, key_frame: int) -> list[int]:
        """Frames of a clip, in order, ``key_frame`` among them."""
        before = max(0, key_frame - random.randint(1, self.local_range))
        after = min(video_length - 1, key_frame + random.randint(1, self.local_range))
        missing = self.num_frames - 3
        others = [*range(before), *range(after + 1, video_length)]
        if len(others) < missing:
            others = range(video_length)
        chosen = random.sample(others, min(missing, len(others)))
        chosen += random.choices(others, k=missing - len(chosen))
        return sorted([before, key_frame, after, *chosen])

    def transform(self, results: dict) -> dict:
        key_frame = results.get("key_frame_id")
        if key_frame is None:
            key_frame = random.randrange(results["video_length"])
        return self.prepare_data(results, self.sample_frames(results["video_length"], key_frame))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_frames={self.num_frames}, local_range={self.local_range})"
        )
