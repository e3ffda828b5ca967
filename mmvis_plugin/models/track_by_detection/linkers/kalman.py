"""What SORT and its successors share: objects are looked for where a Kalman filter expects them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mmdet.models.task_modules.tracking import KalmanFilter

from .assignment import assign
from .base import Detections, LinkState, OnlineLinker
from .similarity import pairwise_overlap


class BoxFilter(KalmanFilter):
    """MMDetection's Kalman filter, with DeepSORT's state: centre, aspect, height and velocities.

    Noise grows with the height of the box. Everything is float64, in pixels of the original frame.
    """

    def measure(self, bbox: np.ndarray) -> np.ndarray:
        """(4,) what the filter observes of an (4,) xyxy box: cx, cy, width / height, height."""
        x1, y1, x2, y2 = bbox
        return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])

    def bbox(self, mean: np.ndarray) -> np.ndarray:
        """(4,) xyxy box of the (8,) mean of a state. A height below 0 gives a box without area."""
        center, height = mean[:2], mean[3]
        size = np.array([mean[2] * height, height])
        return np.concatenate([center - size / 2, center + size / 2])


@dataclass
class KalmanTrack:
    """What is known of an object. Linkers add their own fields.

    Attributes:
        id (int): Identity.
        label (int): Class of the first detection.
        mask (dict): RLE of the last detection.
        mean (np.ndarray): Mean of the filter's state, float64.
        covariance (np.ndarray): Its covariance.
        gap (int): Frames in a row that the object was missed in, up to the last frame.
        hits (int): Frames in a row that it was detected in; 0 while it is missed.
        confirmed (bool): Whether it has been detected often enough; tentative otherwise.
    """

    id: int
    label: int
    mask: dict
    mean: np.ndarray
    covariance: np.ndarray
    gap: int = 0
    hits: int = 1
    confirmed: bool = False


@dataclass
class KalmanState(LinkState):
    """What a linker knows of a running video.

    Attributes:
        tracks (list[KalmanTrack]): Those that it still looks for, the oldest first.
    """

    tracks: list[KalmanTrack] = field(default_factory=list)


class Matching:
    """Pairs of tracks and detections of a frame, found in stages.

    Args:
        num_tracks: T.
        num_detections: N.

    Attributes:
        detection_of (np.ndarray): (T,) detection of each track, -1 while it has none.
        track_of (np.ndarray): (N,) track of each detection, -1 while it has none.
    """

    def __init__(self, num_tracks: int, num_detections: int) -> None:
        self.detection_of = np.full(num_tracks, -1)
        self.track_of = np.full(num_detections, -1)

    def pair(self, tracks: np.ndarray, detections: np.ndarray) -> None:
        """Put (K,) tracks and (K,) detections together."""
        self.detection_of[tracks] = detections
        self.track_of[detections] = tracks

    def assign(
        self, cost: np.ndarray, limit: float, tracks: np.ndarray, detections: np.ndarray
    ) -> None:
        """One stage: assign some of the tracks to some of the detections, where both are free.

        Args:
            cost: (T, N) costs of all pairs, NaN for pairs that are refused.
            limit: Largest cost of a pair.
            tracks: (T,) bool, those that take part.
            detections: (N,) bool, those that take part.
        """
        rows = np.flatnonzero(tracks & (self.detection_of < 0))
        columns = np.flatnonzero(detections & (self.track_of < 0))
        chosen, partners = assign(cost[np.ix_(rows, columns)], limit)
        self.pair(rows[chosen], columns[partners])


class KalmanLinker(OnlineLinker):
    """Base class of linkers with a Kalman filter a track.

    In each frame all tracks are predicted, matched with detections and updated by these. Then
    tracks that are lost are forgotten, and detections that are left open new ones. A tentative
    track is lost with its first miss. A detection whose box has no area is dropped.

    A linker implements :meth:`match`.

    Args:
        min_hits (int): Frames in a row that an object is detected in until it is confirmed, the
            first one included.
        max_gap (int): A confirmed track is forgotten when it is missed in more frames in a row.
        class_gate (bool): A detection joins only a track whose first detection had its class.
        show_tentative (bool): Identities count from the first detection on. Otherwise detections
            of tentative tracks are dropped, as the papers do for pedestrians. Our default: in
            YouTube-VIS a hidden frame costs more than a wrong one.
        overlap (str): See :class:`Linker`. A track has its predicted box, but the mask of its last
            detection.

    Attributes:
        filter (BoxFilter): The filter; it holds no state.
        track_type (type): What is kept of an object.
    """

    filter = BoxFilter()
    track_type = KalmanTrack

    def __init__(
        self,
        min_hits: int = 3,
        max_gap: int = 30,
        class_gate: bool = True,
        show_tentative: bool = True,
        overlap: str = "box",
    ) -> None:
        super().__init__(overlap)
        self.min_hits = min_hits
        self.max_gap = max_gap
        self.class_gate = class_gate
        self.show_tentative = show_tentative

    @abstractmethod
    def match(
        self, matching: Matching, tracks: Sequence[KalmanTrack], detections: Detections
    ) -> None:
        """Match the detections of a frame with the tracks.

        Args:
            matching: Where to put the pairs; empty.
            tracks: T predicted tracks.
            detections: N detections with an area.
        """

    def start(self) -> KalmanState:
        """The state of a new video."""
        return KalmanState()

    def link(self, state: KalmanState, detections: Detections) -> np.ndarray:
        """Find the detections of the next frame among the tracks; see :class:`OnlineLinker`."""
        ids = np.full(len(detections), -1, dtype=np.int64)
        usable = np.flatnonzero(has_area(detections.bboxes))
        owners = self._find_owners(state, detections.select(usable))
        for row, track in owners.items():
            track.confirmed = self.confirms(track, state.num_frames)
            if track.confirmed or self.show_tentative:
                ids[usable[row]] = track.id
        state.tracks = [track for track in state.tracks if self.remembers(track)]
        return ids

    def _find_owners(self, state: KalmanState, detections: Detections) -> dict[int, KalmanTrack]:
        """Move all tracks to the next frame; the track of each detection that has one."""
        for track in state.tracks:
            self.predict(track)
        matching = Matching(len(state.tracks), len(detections))
        self.match(matching, state.tracks, detections)
        owners = {}
        for track, row in zip(state.tracks, matching.detection_of, strict=True):
            if row < 0:
                self.miss(track)
            else:
                self.update(track, detections.select([row]))
                owners[row] = track
        for row in np.flatnonzero((matching.track_of < 0) & self.opens(detections)):
            owners[row] = self.open(int(state.new_ids(1)[0]), detections.select([row]))
            state.tracks.append(owners[row])
        return owners

    # --- the life of a track -------------------------------------------------------------------

    def opens(self, detections: Detections) -> np.ndarray:
        """(N,) bool: which detections open a track where none takes them. Here: all."""
        return np.ones(len(detections), bool)

    def open(self, new_id: int, detection: Detections) -> KalmanTrack:
        """The track of a single detection."""
        state = self.filter.initiate(self.filter.measure(detection.bboxes[0]))
        return self.track_type(new_id, int(detection.labels[0]), detection.masks[0], *state)

    def predict(self, track: KalmanTrack) -> None:
        """Move a track to the next frame."""
        track.mean, track.covariance = self.filter.predict(track.mean, track.covariance)

    def update(self, track: KalmanTrack, detection: Detections) -> None:
        """Correct a predicted track by its single detection."""
        measured = self.filter.measure(detection.bboxes[0])
        track.mean, track.covariance = self.filter.update(track.mean, track.covariance, measured)
        track.mask = detection.masks[0]
        track.hits, track.gap = track.hits + 1, 0

    def miss(self, track: KalmanTrack) -> None:
        """Note that a track has no detection in the frame."""
        track.hits, track.gap = 0, track.gap + 1

    def confirms(self, track: KalmanTrack, frame: int) -> bool:
        """Whether a track that was detected in a frame is confirmed.

        Args:
            track: The track, updated.
            frame: Index of the frame.
        """
        return track.confirmed or track.hits >= self.min_hits

    def remembers(self, track: KalmanTrack) -> bool:
        """Whether a track is looked for in the next frame."""
        return track.gap <= (self.max_gap if track.confirmed else 0)

    # --- similarity ----------------------------------------------------------------------------

    def overlaps(self, tracks: Sequence[KalmanTrack], detections: Detections) -> np.ndarray:
        """(T, N) overlap of predicted tracks and detections, NaN for pairs that may not match."""
        bboxes = np.array([self.filter.bbox(track.mean) for track in tracks])
        return self.overlaps_at(bboxes, tracks, detections)

    def overlaps_at(
        self, bboxes: np.ndarray, tracks: Sequence[KalmanTrack], detections: Detections
    ) -> np.ndarray:
        """The same for tracks at the given (T, 4) xyxy boxes."""
        masks = [track.mask for track in tracks]
        others = detections.bboxes, detections.masks
        overlap = pairwise_overlap(self.overlap, bboxes.reshape(-1, 4), masks, *others)
        return self.gated(overlap, tracks, detections)

    def gated(
        self, values: np.ndarray, tracks: Sequence[KalmanTrack], detections: Detections
    ) -> np.ndarray:
        """(T, N) values, NaN for pairs of different classes if ``class_gate`` is set."""
        labels = np.array([track.label for track in tracks], dtype=np.int64)
        same = labels[:, None] == detections.labels
        return np.where(same | (not self.class_gate), values, np.nan)


def has_area(bboxes: np.ndarray) -> np.ndarray:
    """(N,) bool: which of (N, 4) xyxy boxes are finite and have an area."""
    return np.isfinite(bboxes).all(1) & (bboxes[:, 2:] > bboxes[:, :2]).all(1)


def are_confirmed(tracks: Sequence[KalmanTrack]) -> np.ndarray:
    """(T,) bool."""
    return np.array([track.confirmed for track in tracks], dtype=bool)


def gaps(tracks: Sequence[KalmanTrack]) -> np.ndarray:
    """(T,) frames in a row that each was missed in before this one."""
    return np.array([track.gap for track in tracks], dtype=np.int64)


def hold_height(track: KalmanTrack) -> None:
    """Let the height of a track stay as it is if it was missed in the last frame."""
    if track.gap:
        track.mean[7] = 0
