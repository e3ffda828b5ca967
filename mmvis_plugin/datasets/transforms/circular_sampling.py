"""Choosing a clip that goes round in its video."""

import random

from mmdet.datasets.transforms import BaseFrameSample
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CircularClipSample(BaseFrameSample):
    """Sample consecutive frames that end with the key frame.

    A clip that would begin before its video begins at the video's end; a video that is shorter than
    the clip is gone through several times. A key frame early in the video thus gives a clip whose
    frames run on from the end of the video into its beginning.

    Source: the repository of VisTR (Wang et al., CVPR 2021).

    Required keys: ``images``, ``video_id``, ``video_length`` and, unless it is to be drawn at
    random, ``key_frame_id``.

    Added keys: for each key of a frame the list of its values, ``video_id``, ``video_length`` (of
    the clip) and ``ori_video_length``.

    Args:
        length (int): Frames of a clip.
        shuffle (bool): Whether the frames come in random order. Defaults to False.

    Raises:
        ValueError: If ``length`` is not positive.
    """

    def __init__(self, length: int, shuffle: bool = False, **kwargs) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        super().__init__(**kwargs)
        self.length = length
        self.shuffle = shuffle

    def sample_frames(self, video_length: int, key_frame: int) -> list[int]:
        """Frames of a clip, in their order in it."""
        first = key_frame - self.length + 1
        frames = [frame % video_length for frame in range(first, key_frame + 1)]
        return random.sample(frames, len(frames)) if self.shuffle else frames

    def transform(self, results: dict) -> dict:
        key_frame = results.get("key_frame_id")
        if key_frame is None:
            key_frame = random.randrange(results["video_length"])
        return self.prepare_data(results, self.sample_frames(results["video_length"], key_frame))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(length={self.length}, shuffle={self.shuffle})"
