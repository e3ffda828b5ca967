"""Samplers that choose videos, their key frames and the seeds of the samples."""

from collections.abc import Iterator, Sequence, Sized
from itertools import islice

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler


class FrameIndex(int):
    """The index of a video that also carries a frame of it and the seed of the sample.

    It is an int so that dataset wrappers (``ConcatDataset``, ``RepeatDataset``) can turn it into
    the index of the wrapped dataset; the frame and the seed come along.

    Args:
        video (int): Index of the video in the dataset.
        frame (int): Index of the key frame in the video.
        seed (int): Seed of everything random in the sample, in [0, 2**32).
    """

    def __new__(cls, video: int, frame: int, seed: int):
        index = super().__new__(cls, video)
        index.frame, index.seed = int(frame), int(seed)
        return index

    def __getnewargs__(self):
        return int(self), self.frame, self.seed

    def __sub__(self, other: int) -> "FrameIndex":
        return FrameIndex(int(self) - other, self.frame, self.seed)

    def __mod__(self, other: int) -> "FrameIndex":
        return FrameIndex(int(self) % other, self.frame, self.seed)

    def __repr__(self) -> str:
        return f"FrameIndex(video={int(self)}, frame={self.frame}, seed={self.seed})"


@DATA_SAMPLERS.register_module()
class KeyFrameSampler(Sampler):
    """Visit every frame that has an object which is not a crowd once an epoch.

    Order and sample seeds are a function of (``seed``, epoch), so that a resumed run sees the data
    the uninterrupted run sees. With several processes each gets its share; where the number of
    frames cannot be divided, the first frames of the epoch's order are visited once more.

    Args:
        dataset (Sized): :class:`YTVISDataset` or another dataset with ``key_frames()``, or a
            ``ConcatDataset`` or ``RepeatDataset`` of such.
        seed (int, optional): The same in all processes. Defaults to None: drawn at random.
        shuffle (bool): Defaults to True.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True) -> None:
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.epoch = 0
        self.key_frames = self._collect(dataset)
        if not len(self.key_frames):
            raise ValueError("the dataset has no frame with an object to train on")

    def __iter__(self) -> Iterator[FrameIndex]:
        return self._indices(self.epoch)

    def _indices(self, epoch: int) -> Iterator[FrameIndex]:
        """This process's share of an epoch."""
        count = len(self.key_frames)
        rng = np.random.default_rng([self.seed, epoch])
        # One for each frame, whatever the order: the sample of a frame does not depend on it.
        seeds = rng.integers(2**32, size=count)
        order = rng.permutation(count) if self.shuffle else np.arange(count)
        padded = np.resize(order, len(self) * self.world_size)
        for i in padded[self.rank :: self.world_size]:
            yield self._index(i, int(seeds[i]))

    def _collect(self, dataset: Sized) -> Sequence:
        """What an epoch visits, one entry a sample."""
        return collect_key_frames(dataset)

    def _index(self, i: int, seed: int) -> FrameIndex:
        """The sample of an entry."""
        return FrameIndex(*self.key_frames[i], seed)

    def __len__(self) -> int:
        """Number of samples of this process in an epoch."""
        return -(-len(self.key_frames) // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch


@DATA_SAMPLERS.register_module()
class InfiniteKeyFrameSampler(KeyFrameSampler):
    """:class:`KeyFrameSampler` for ``IterBasedTrainLoop``: epoch after epoch without an end.

    Batches run across the ends of epochs and the workers are not started again there.
    """

    start = 0

    def __iter__(self) -> Iterator[FrameIndex]:
        epoch, offset = divmod(self.start, len(self))
        yield from islice(self._indices(epoch), offset, None)
        while True:
            epoch += 1
            yield from self._indices(epoch)

    def skip(self, num_samples: int) -> None:
        """Let the next iteration start where a run was that is being resumed.

        Args:
            num_samples (int): Samples this process has consumed since the beginning, not negative.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must not be negative, got {num_samples}")
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: there is one endless iteration, epochs pass inside it."""


@DATA_SAMPLERS.register_module()
class InfiniteVideoSampler(InfiniteKeyFrameSampler):
    """Visit every video once an epoch, with one of its frames drawn at random as key frame.

    Long videos do not come more often than short ones, and frames without an object are drawn too.

    Source: MinVIS (Huang et al., NeurIPS 2022): a training sample is a video, of which one frame is
    drawn. Sec. 4.3 of the paper trains on a part of the frames.

    Args:
        dataset (Sized): :class:`YTVISDataset`, or a wrapper of it.
        frame_ratio (float): Part of each video's frames that are ever drawn, in (0, 1]; see
            :func:`frames_to_draw`. Defaults to 1.0: all.
        **kwargs: ``seed`` and ``shuffle``, as of :class:`KeyFrameSampler`.

    Raises:
        ValueError: If the ratio is out of range.
    """

    def __init__(self, dataset: Sized, frame_ratio: float = 1.0, **kwargs) -> None:
        if not 0 < frame_ratio <= 1:
            raise ValueError(f"frame_ratio must be in (0, 1], got {frame_ratio}")
        self.frame_ratio = frame_ratio
        super().__init__(dataset, **kwargs)

    def _collect(self, dataset: Sized) -> list[np.ndarray]:
        lengths = [dataset.get_data_info(i)["video_length"] for i in range(len(dataset))]
        return [frames_to_draw(length, self.frame_ratio) for length in lengths]

    def _index(self, i: int, seed: int) -> FrameIndex:
        frames = self.key_frames[i]
        return FrameIndex(i, frames[seed % len(frames)], seed)


def frames_to_draw(video_length: int, ratio: float) -> np.ndarray:
    """The frames of a video that make up a part of it.

    Source: the setting ``SAMPLING_FRAME_RATIO`` of MinVIS: ``max(round(ratio * video_length), 1)``
    frames, evenly spaced from the first one; the middle one if it is only one.

    Args:
        video_length (int): Number of frames.
        ratio (float): In (0, 1].

    Returns:
        np.ndarray: int64, frame indices, ascending.
    """
    count = max(round(ratio * video_length), 1)
    if count == 1:
        return np.array([video_length // 2])
    return np.linspace(0, video_length, count, endpoint=False).astype(np.int64)


def collect_key_frames(dataset: Sized) -> np.ndarray:
    """Every frame that has an object, by the index of its video in a (wrapped) dataset.

    Returns:
        np.ndarray: int64, shape (n, 2), rows of (video index, frame index).

    Raises:
        TypeError: If the dataset, or one it wraps, cannot tell its key frames.
    """
    if hasattr(dataset, "key_frames"):
        return dataset.key_frames()
    if isinstance(dataset, ConcatDataset):
        parts = dataset.datasets
    elif isinstance(dataset, RepeatDataset):
        parts = [dataset.dataset] * dataset.times
    else:
        raise TypeError(
            "key frames can be sampled from YTVISDataset and from ConcatDataset and RepeatDataset "
            f"of it, not from {type(dataset).__name__}"
        )
    ends = np.cumsum([len(part) for part in parts])
    return np.concatenate(
        [
            collect_key_frames(part) + [end - len(part), 0]
            for part, end in zip(parts, ends, strict=True)
        ]
    )
