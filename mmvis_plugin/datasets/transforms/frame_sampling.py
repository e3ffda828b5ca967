"""Choosing frames of a video sample."""

import random

from mmdet.datasets.transforms import BaseFrameSample
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SampleKeyFrame(BaseFrameSample):
    """Turn a video sample into the sample of one ordinary image, its key frame.

    What follows is an image pipeline (``LoadImageFromFile``, ``LoadAnnotations``,
    ``PackDetInputs`` ...), so that any detector of MMDetection trains and tests on the frames of a
    video dataset. For testing use ``TrackImgSampler``, which asks for one frame at a time.

    Required keys: in training ``images``, ``video_id``, ``video_length`` and, unless a frame is to
    be drawn at random, ``key_frame_id``; in testing the lists of length 1 that
    ``BaseVideoDataset`` gives.

    Added keys: those of the frame (``img_id``, ``img_path``, ``height``, ``width``, ``frame_id``,
    ``instances``), ``video_id`` and ``ori_video_length``.
    """

    def transform(self, results: dict) -> dict:
        frames = super().transform(results) if "images" in results else results
        if len(frames["img_path"]) != 1:
            raise ValueError(
                f"SampleKeyFrame got a video of {len(frames['img_path'])} frames to test on; give "
                "the dataloader sampler=dict(type='TrackImgSampler')"
            )
        return {key: values[0] for key, values in frames.items()}


@TRANSFORMS.register_module()
class AnnotatedPairSample(BaseFrameSample):
    """Sample the key frame and another frame near it that has an object, sorted by time.

    If no other frame in reach has an object, the key frame is there twice.

    Source: the sampling of STMask's (Li et al., CVPR 2021) repository.

    Required keys: ``images``, ``video_id``, ``video_length`` and, unless it is to be drawn at
    random, ``key_frame_id``.

    Added keys: for each key of a frame the list of its two values, ``video_id``, ``video_length``
    (of the pair) and ``ori_video_length``.

    Args:
        frame_range (int): Greatest distance between the two, in frames.

    Raises:
        ValueError: If the distance is not positive.
    """

    def __init__(self, frame_range: int, **kwargs) -> None:
        if frame_range < 1:
            raise ValueError(f"frame_range must be at least 1, got {frame_range}")
        super().__init__(**kwargs)
        self.frame_range = frame_range

    def transform(self, results: dict) -> dict:
        frames, length = results["images"], results["video_length"]
        key_frame = results.get("key_frame_id")
        if key_frame is None:
            key_frame = random.randrange(length)
        first = max(0, key_frame - self.frame_range)
        stop = min(length, key_frame + self.frame_range + 1)
        near = [i for i in range(first, stop) if i != key_frame and _has_object(frames[i])]
        return self.prepare_data(results, sorted([key_frame, random.choice(near or [key_frame])]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(frame_range={self.frame_range})"


def _has_object(frame: dict) -> bool:
    return any(not instance["ignore_flag"] for instance in frame["instances"])


@TRANSFORMS.register_module()
class CenteredClipSample(BaseFrameSample):
    """Sample a clip of distinct frames with the key frame in its middle, sorted by time.

    ``(num_frames - 1) / 2`` frames are drawn at random from the ``frame_range`` frames before the
    key frame, and as many from those after it. Near an end of the video, where one side has too
    few, the other side gives more, so that the key frame is not in the middle there. Only if both
    sides have too few (a video shorter than the clip, or a small range) are frames repeated.

    Required keys: ``images``, ``video_id``, ``video_length`` and, unless it is to be drawn at
    random, ``key_frame_id``.

    Added keys: for each key of a frame the list of its values, ``key_frame_flags`` (list of bool,
    one of them True), ``video_id``, ``video_length`` (of the clip) and ``ori_video_length``.

    Args:
        num_frames (int): Frames of a clip, odd. Defaults to 3.
        frame_range (int): Greatest distance in frames to the key frame. Defaults to 10.
    """

    def __init__(self, num_frames: int = 3, frame_range: int = 10, **kwargs) -> None:
        if num_frames < 1 or num_frames % 2 == 0:
            raise ValueError(f"num_frames must be odd and positive, got {num_frames}")
        if frame_range < 1:
            raise ValueError(f"frame_range must be at least 1, got {frame_range}")
        super().__init__(**kwargs)
        self.num_frames = num_frames
        self.frame_range = frame_range

    def sample_frames(self, video_length: int, key_frame: int) -> list[int]:
        """Frames of a clip, in order, ``key_frame`` among them."""
        before = range(max(0, key_frame - self.frame_range), key_frame)
        after = range(key_frame + 1, min(video_length, key_frame + self.frame_range + 1))
        side = self.num_frames // 2
        chosen = [
            *random.sample(before, min(side, len(before))),
            *random.sample(after, min(side, len(after))),
        ]
        missing = 2 * side - len(chosen)
        spare = sorted({*before, *after}.difference(chosen))
        chosen += random.sample(spare, min(missing, len(spare)))
        frames = [*chosen, key_frame]
        frames += random.choices(frames, k=self.num_frames - len(frames))
        return sorted(frames)

    def transform(self, results: dict) -> dict:
        key_frame = results.get("key_frame_id")
        if key_frame is None:
            key_frame = random.randrange(results["video_length"])
        frames = self.sample_frames(results["video_length"], key_frame)
        clip = self.prepare_data(results, frames)
        flags = [False] * len(frames)
        flags[frames.index(key_frame)] = True
        clip["key_frame_flags"] = flags
        return clip

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_frames={self.num_frames}, frame_range={self.frame_range})"
        )
