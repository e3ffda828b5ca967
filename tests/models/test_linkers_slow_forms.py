"""SORT and DeepSORT give the identities of slow forms of their rules."""

from functools import cache
from itertools import count

import numpy as np
from linking import assert_same_tracks, link, random_video

from mmvis_plugin.models.track_by_detection.linkers import (
    DeepSORTLinker,
    SORTLinker,
)


class TextbookFilter:
    """x, P of the textbook, by inverting matrices."""

    def __init__(self, first, noise):
        self.size = len(noise)
        self.x = np.concatenate([first, np.zeros(self.size - 4)])
        self.P = np.diag(noise)

    def predict(self, noise):
        F = np.eye(self.size)
        for i in range(self.size - 4):
            F[i, 4 + i] = 1
        self.x, self.P = F @ self.x, F @ self.P @ F.T + np.diag(noise)

    def innovation(self, noise):
        return self.P[:4, :4] + np.diag(noise)

    def update(self, measured, noise):
        gain = self.P[:, :4] @ np.linalg.inv(self.innovation(noise))
        self.x = self.x + gain @ (measured - self.x[:4])
        self.P = self.P - gain @ self.P[:4]


def best_pairs(gains):
    """The set of pairs with the largest sum of positive gains, by trying them all."""

    @cache
    def best(row, free):
        if row == len(gains):
            return 0.0, ()
        options = [best(row + 1, free)]
        for column in free:
            if gains[row][column] > 0:
                total, pairs = best(row + 1, free - {column})
                options.append((total + gains[row][column], ((row, column), *pairs)))
        return max(options)

    return best(0, frozenset(range(len(gains[0]))))[1] if len(gains) else ()


def iou(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return width * height / (sum(areas) - width * height)


def around(cx, cy, width, height):
    return [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]


def slow_sort(video):
    tracks, frames, num_ids = [], [], 0
    for detections in video:
        for track in tracks:
            if track["x"].x[2] + track["x"].x[6] <= 0:
                track["x"].x[6] = 0
            track["x"].predict([1, 1, 1, 1, 0.01, 0.01, 0.0001])
        overlaps = []
        for track in tracks:
            u, v, s, r = track["x"].x[:4]
            box = around(u, v, (s * r) ** 0.5, (s / r) ** 0.5)
            same = detections.labels == track["label"]
            overlaps.append([iou(box, b) * same[i] for i, b in enumerate(detections.bboxes)])
        ids = [-1] * len(detections)
        for row, column in best_pairs(overlaps) if len(detections) else ():
            if overlaps[row][column] >= 0.3:
                ids[column] = tracks[row]["id"]
        for i, (x1, y1, x2, y2) in enumerate(detections.bboxes):
            w, h = x2 - x1, y2 - y1
            measured = np.array([x1 + w / 2, y1 + h / 2, w * h, w / h])
            if ids[i] < 0:
                state = TextbookFilter(measured, [10, 10, 10, 10, 1e4, 1e4, 1e4])
                tracks.append({"id": num_ids, "x": state, "label": detections.labels[i]})
                ids[i], num_ids = num_ids, num_ids + 1
            else:
                track = next(t for t in tracks if t["id"] == ids[i])
                track["x"].update(measured, [1, 1, 10, 10])
        for track in tracks:
            track["missed"] = 0 if track["id"] in ids else track["missed"] + 1
        tracks = [track for track in tracks if track["missed"] <= 1]
        frames.append(ids)
    return frames


def test_sort_equals_its_slow_form():
    for seed in range(15):
        video = random_video(seed)
        assert_same_tracks(link(SORTLinker(), video), slow_sort(video))


def slow_deepsort(video, max_gap, budget):
    """The rules of the paper and the constants of its code, one pair at a time."""
    tracks, frames, numbers = [], [], count()
    for detections in video:
        tracks, ids = slow_deepsort_frame(tracks, detections, numbers, max_gap, budget)
        frames.append(ids)
    return frames


def slow_deepsort_frame(tracks, detections, numbers, max_gap, budget):
    """Tracks after a frame, and the identities of its detections."""
    for track in tracks:
        track["age"] += 1
        p, v = track["x"].x[3] / 20, track["x"].x[3] / 160
        track["x"].predict(np.square([p, p, 1e-2, p, v, v, 1e-5, v]))
    looks = detections.features / np.linalg.norm(detections.features, axis=1)[:, None]
    corners = detections.bboxes
    w, h = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    measured = np.stack([corners[:, 0] + w / 2, corners[:, 1] + h / 2, w / h, h], 1)
    ids = [-1] * len(detections)

    def stage(taking_part, gain):
        rows = [t for t in tracks if taking_part(t) and t["id"] not in ids]
        columns = [i for i, owner in enumerate(ids) if owner < 0]
        gains = [
            [gain(t, i) if t["label"] == detections.labels[i] else 0 for i in columns] for t in rows
        ]
        for row, column in best_pairs(gains) if columns else ():
            ids[columns[column]] = rows[row]["id"]

    def likeness(track, i):
        p = track["x"].x[3] / 20
        S = track["x"].innovation(np.square([p, p, 1e-1, p]))
        off = measured[i] - track["x"].x[:4]
        if off @ np.linalg.inv(S) @ off > 9.4877:
            return 0
        return 0.2 - min(1 - look @ looks[i] for look in track["looks"])

    def overlap(track, i):
        x, y, a, height = track["x"].x[:4]
        return iou(around(x, y, a * height, height), detections.bboxes[i]) - 0.3

    for age in range(1, max_gap + 2):
        stage(lambda t, age=age: t["confirmed"] and t["age"] == age, likeness)
    stage(lambda t: not t["confirmed"] or t["age"] == 1, overlap)

    for i, (m, owner) in enumerate(zip(measured, ids, strict=True)):
        if owner < 0:
            h = m[3]
            noise = np.square([h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16])
            tracks.append(
                {"id": next(numbers), "x": TextbookFilter(m, noise), "hits": 0, "looks": []}
            )
            tracks[-1] |= {"label": detections.labels[i], "confirmed": False}
            ids[i] = tracks[-1]["id"]
        track = next(t for t in tracks if t["id"] == ids[i])
        if owner >= 0:
            p = track["x"].x[3] / 20
            track["x"].update(m, np.square([p, p, 1e-1, p]))
        track["looks"] = [*track["looks"], looks[i]][-budget:]
        track["hits"], track["age"] = track["hits"] + 1, 0
        track["confirmed"] |= track["hits"] >= 3
    return [t for t in tracks if t["age"] <= (max_gap if t["confirmed"] else 0)], ids


def test_deepsort_equals_its_slow_form():
    linker = DeepSORTLinker(max_gap=4, gallery_size=5)
    for seed in range(15):
        video = random_video(seed)
        assert_same_tracks(link(linker, video), slow_deepsort(video, 4, 5))
