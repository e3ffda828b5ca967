"""Offline methods on videos of any length: overlapping windows, and the linking of their tracks.

An offline method looks at all frames of a video at once. A video of up to one window is segmented
just so. A longer one is cut into windows that overlap; the tracks of a window take the identities
of the window before it by their masks in the frames that both have seen.
"""

from abc import abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmvis_plugin.models.layers.soft_iou import pairwise_soft_iou

from .video_segmentor import StreamState, VideoSegmentor, tracked_frame


@dataclass(frozen=True)
class WindowSettings:
    """How videos are cut into windows.

    Attributes:
        length: Frames of a window. 48 holds any video of YouTube-VIS 2019.
        overlap: Frames that a window shares with the one before it, in [1, length).
        min_iou: Mask IoU over the shared frames from which two tracks may be one, in (0, 1].

    Raises:
        ValueError: If a value is out of its range.
    """

    length: int = 48
    overlap: int = 16
    min_iou: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.overlap < self.length:
            raise ValueError(
                "windows must overlap in at least one frame and bring at least one new: "
                f"overlap is {self.overlap} at length {self.length}"
            )
        if not 0 < self.min_iou <= 1:
            raise ValueError(f"min_iou must be in (0, 1], got {self.min_iou}")


@dataclass
class WindowTracks:
    """What a method finds in one window.

    Attributes:
        logits: (N, F, h, w) mask logits of N tracks in F frames, on the method's own grid.
        labels: (N,) 0-based.
        scores: (N,) in [0, 1].
    """

    logits: Tensor
    labels: Tensor
    scores: Tensor


def match_tracks(
    masks: Tensor,
    labels: Tensor,
    previous_masks: Tensor,
    previous_labels: Tensor,
    min_iou: float = 0.5,
) -> Tensor:
    """Find the tracks of one window among those of the window before it.

    The mask IoU counts over all shared frames together, as in the YouTube-VIS protocol. The
    assignment is one-to-one. Offline methods report a query once for each class it may be, which
    gives tracks of equal masks: tracks of the same class go together first, then the largest
    IoU in sum.

    Args:
        masks: (N, F, P) in [0, 1] or bool: N tracks in F shared frames of P pixels.
        labels: (N,) classes.
        previous_masks: (M, F, P), likewise.
        previous_labels: (M,).
        min_iou: Pairs below it stay apart, in (0, 1].

    Returns:
        (N,) long on the CPU: row in ``previous_masks``, -1 for none.
    """
    iou = pairwise_soft_iou(masks.flatten(1).float(), previous_masks.flatten(1).float())
    same_class = labels[:, None] == previous_labels
    gain = torch.where(iou >= min_iou, iou + same_class, 0).cpu().numpy()
    rows, columns = linear_sum_assignment(gain, maximize=True)
    linked = gain[rows, columns] > 0
    matches = torch.full((len(masks),), -1, dtype=torch.long)
    matches[rows[linked]] = torch.from_numpy(columns[linked])
    return matches


class TrackLinker:
    """Identities, classes and scores of one video, window by window.

    A track's class is the one with the largest sum of scores over its windows, its score the mean
    of its scores there. The papers segment whole videos and say nothing on this.

    What is kept is the masks of one window and, per identity, a score for each class it had.

    Args:
        min_iou: Of :func:`match_tracks`.
    """

    def __init__(self, min_iou: float = 0.5) -> None:
        self.min_iou = min_iou
        self.num_ids = 0
        self._previous = None
        self._class_scores = defaultdict(Counter)
        self._num_windows = Counter()

    def link(self, first: int, masks: Tensor, labels: Tensor) -> Tensor:
        """Give the tracks of the next window their identities.

        Args:
            first: Index in the video of the window's first frame, which the window before has
                seen as well.
            masks: (N, F, P) in [0, 1] or bool.
            labels: (N,) classes.

        Returns:
            (N,) long on the CPU, no two alike; new identities count on from the highest.
        """
        ids = torch.full((len(masks),), -1, dtype=torch.long)
        if self._previous is not None:
            previous_first, previous_masks, previous_labels, previous_ids = self._previous
            previous_masks = previous_masks[:, first - previous_first :]
            shared = masks[:, : previous_masks.shape[1]]
            matches = match_tracks(shared, labels, previous_masks, previous_labels, self.min_iou)
            linked = matches >= 0
            ids[linked] = previous_ids[matches[linked]]
        new = ids < 0
        ids[new] = self.num_ids + torch.arange(int(new.sum()))
        self.num_ids += int(new.sum())
        self._previous = first, masks, labels, ids
        return ids

    def count(self, ids: Tensor, labels: Tensor, scores: Tensor) -> None:
        """Record the tracks that a window brings to the result.

        Args:
            ids: (N,) identities.
            labels: (N,) their classes in this window.
            scores: (N,) their scores in it.
        """
        for track, label, score in zip(ids.tolist(), labels.tolist(), scores.tolist(), strict=True):
            self._class_scores[track][label] += score
            self._num_windows[track] += 1

    def tracks(self) -> InstanceData:
        """The tracks counted so far: ``instances_id``, ``labels`` and ``scores``, each (N,)."""
        ids = sorted(self._class_scores)
        totals = [self._class_scores[track] for track in ids]
        return InstanceData(
            instances_id=torch.tensor(ids, dtype=torch.long),
            labels=torch.tensor([max(total, key=total.get) for total in totals], dtype=torch.long),
            scores=torch.tensor(
                [
                    sum(total.values()) / self._num_windows[track]
                    for track, total in zip(ids, totals, strict=True)
                ],
                dtype=torch.float32,
            ),
        )


@dataclass(kw_only=True)
class WindowState(StreamState):
    """A running video.

    Attributes:
        frames: The last frames, each (3, H, W), as many as a window has at most.
        metas: Their metainfo.
        linker: The tracks so far.
    """

    frames: deque[Tensor]
    metas: deque[dict]
    linker: TrackLinker


class WindowedSegmentor(VideoSegmentor):
    """Streaming for offline methods.

    A window is segmented when its last frame has come; its new frames are final then. The last
    window of a video ends with it and is a full one where the video is long enough, so that no
    window is shorter than it must be. A subclass sets ``windows`` and implements :meth:`loss`,
    :meth:`segment_window` and :meth:`full_size_masks`.

    Attributes:
        windows: How videos are cut.
    """

    windows = WindowSettings()

    @abstractmethod
    def segment_window(self, frames: Tensor, metas: Sequence[dict]) -> WindowTracks:
        """Find the tracks of a window.

        Args:
            frames: (F, 3, H, W) resized, normalised and padded.
            metas: Metainfo of the F frames.

        Returns:
            Their masks, classes and scores.
        """

    @abstractmethod
    def full_size_masks(self, logits: Tensor, meta: dict) -> Tensor:
        """Bring the masks of one frame to its original size.

        Args:
            logits: (N, h, w) as :meth:`segment_window` gave them.
            meta: Metainfo of the frame.

        Returns:
            (N, H, W) bool.
        """

    def start_video(self, meta: dict) -> WindowState:
        """Begin a video; see :class:`VideoSegmentor`."""
        length = self.windows.length
        return WindowState(
            meta,
            frames=deque(maxlen=length),
            metas=deque(maxlen=length),
            linker=TrackLinker(self.windows.min_iou),
        )

    def take_frame(self, state: WindowState, frame: Tensor, meta: dict) -> list[DetDataSample]:
        """Frames are final when their window is full; see :class:`VideoSegmentor`."""
        state.frames.append(frame)
        state.metas.append(meta)
        seen_before = self.windows.overlap if state.num_final else 0
        if state.num_frames - state.num_final < self.windows.length - seen_before:
            return []
        return self._close_window(state)

    def last_frames(self, state: WindowState) -> tuple[list[DetDataSample], InstanceData]:
        """The last window, and the tracks of the video; see :class:`VideoSegmentor`."""
        final = self._close_window(state) if state.num_frames > state.num_final else []
        return final, state.linker.tracks()

    def _close_window(self, state: WindowState) -> list[DetDataSample]:
        """Segment the frames held, link their tracks and make the new frames final."""
        metas = list(state.metas)
        tracks = self.segment_window(torch.stack(tuple(state.frames)), metas)
        # Binary, since small values over the whole background would drown a small object.
        on_grid = tracks.logits.flatten(2) > 0
        ids = state.linker.link(state.num_frames - len(metas), on_grid, tracks.labels)
        found = InstanceData(
            instances_id=ids, labels=tracks.labels.cpu(), scores=tracks.scores.cpu()
        )
        first_new = len(metas) - (state.num_frames - state.num_final)
        final, appears = [], torch.zeros(len(ids), dtype=torch.bool)
        for index in range(first_new, len(metas)):
            masks = self.full_size_masks(tracks.logits[:, index], metas[index])
            present = masks.flatten(1).any(1).nonzero()[:, 0]
            rows = present.cpu()
            shown = found[rows]
            final.append(
                tracked_frame(
                    metas[index],
                    None,
                    shown.labels,
                    shown.scores,
                    shown.instances_id,
                    masks[present],
                )
            )
            appears[rows] = True
        found = found[appears]
        state.linker.count(found.instances_id, found.labels, found.scores)
        return final
