"""Linkers of ground truth: what a method reaches that follows perfect masks by one rule."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment

from mmvis_plugin.evaluation import evaluate_ytvis

FAR = 1e6


@dataclass
class Detection:
    """A ground truth object in a frame."""

    category: int
    mask: dict
    box: list[float]
    frame: int

    @property
    def center(self) -> np.ndarray:
        return np.array(self.box[:2]) + np.array(self.box[2:]) / 2


Track = list[Detection]
# (detections of a frame, tracks so far) -> (detection, track) of what is linked
Rule = Callable[[list[Detection], list[Track]], Iterator[tuple[int, int]]]


def by_iou(detections: list[Detection], tracks: list[Track]) -> Iterator[tuple[int, int]]:
    """Mask IoU with the frame before, whatever the class."""
    frame = detections[0].frame
    live = [n for n, track in enumerate(tracks) if track[-1].frame == frame - 1]
    if live:
        masks = [tracks[n][-1].mask for n in live]
        ious = mask_utils.iou([d.mask for d in detections], masks, [0] * len(live))
        for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
            if ious[row][column] > 0.05:
                yield row, live[column]


def by_class(detections: list[Detection], tracks: list[Track]) -> Iterator[tuple[int, int]]:
    """The first free track of the class, in the order in which the detections come."""
    taken = set()
    for row, detection in enumerate(detections):
        free = (
            n
            for n, track in enumerate(tracks)
            if track[0].category == detection.category and n not in taken
        )
        if (n := next(free, None)) is not None:
            taken.add(n)
            yield row, n


def by_class_and_place(
    detections: list[Detection], tracks: list[Track]
) -> Iterator[tuple[int, int]]:
    """The nearest last place among the tracks of the class, however long ago."""
    distances = np.full((len(detections), len(tracks)), FAR)
    for row, detection in enumerate(detections):
        for column, track in enumerate(tracks):
            if track[0].category == detection.category:
                distances[row, column] = np.linalg.norm(detection.center - track[-1].center)
    for row, column in zip(*linear_sum_assignment(distances), strict=True):
        if distances[row, column] < FAR:
            yield row, column


def linked_ap(dataset: dict, rule: Rule) -> float:
    """AP of a dataset's own masks, linked by a rule; each frame's objects come shuffled."""
    results = []
    for video in dataset["videos"]:
        objects = [a for a in dataset["annotations"] if a["video_id"] == video["id"]]
        tracks: list[Track] = []
        rng = np.random.default_rng(video["id"])
        for frame in range(video["length"]):
            seen = [
                Detection(a["category_id"], a["segmentations"][frame], a["bboxes"][frame], frame)
                for a in objects
                if a["segmentations"][frame]
            ]
            detections = [seen[n] for n in rng.permutation(len(seen))]
            _extend(tracks, detections, dict(rule(detections, tracks)) if seen else {})
        results += [_result(video, track) for track in tracks]
    return evaluate_ytvis(dataset, results)["AP"]


def _extend(tracks: list[Track], detections: list[Detection], links: dict[int, int]) -> None:
    for row, detection in enumerate(detections):
        if row in links:
            tracks[links[row]].append(detection)
        else:
            tracks.append([detection])


def _result(video: dict, track: Track) -> dict:
    segmentations = [None] * video["length"]
    for detection in track:
        segmentations[detection.frame] = detection.mask
    return dict(
        video_id=video["id"],
        category_id=Counter(d.category for d in track).most_common(1)[0][0],
        score=len(track) / video["length"],
        segmentations=segmentations,
    )
