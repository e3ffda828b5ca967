"""Detections of moving boxes, for tests of linkers."""

import numpy as np

from mmvis_plugin.models.track_by_detection.linkers import Detections

SIZE = np.array([640.0, 360])


def found(bboxes, scores=None, labels=None, features=None):
    """Detections of one frame; without more, of class 0 and score 0.9."""
    bboxes = np.array(bboxes, dtype=np.float64).reshape(-1, 4)
    count = len(bboxes)
    scores = np.full(count, 0.9) if scores is None else np.array(scores, dtype=np.float64)
    labels = np.zeros(count) if labels is None else np.array(labels)
    if features is not None:
        features = np.array(features, dtype=np.float64)
    masks = [{"size": [360, 640], "counts": b""}] * count
    return Detections(bboxes, scores, labels.astype(np.int64), masks, features)


def random_video(seed, num_frames=30, num_objects=5, num_classes=2, num_features=4):
    """Detections of objects that move in curves, come late, are missed and leave for a while.

    Boxes and scores tremble, a fifth of the frames has a false detection, and some have none.
    Boxes end at the border of the picture.
    """
    rng = np.random.default_rng(seed)
    centers = rng.uniform(100, 260, (num_objects, 2)) * [2, 1]
    speeds = rng.normal(0, 5, (num_objects, 2))
    sizes = rng.uniform(25, 90, (num_objects, 2))
    labels = rng.integers(num_classes, size=num_objects)
    looks = rng.normal(size=(num_objects, num_features))
    starts = rng.integers(0, num_frames // 2, num_objects) * (rng.random(num_objects) < 0.5)
    hidden = rng.integers([[0], [2]], [[num_frames], [8]], (2, num_objects)).cumsum(0)
    video = []
    for frame in range(num_frames):
        speeds += rng.normal(0, 1.5, speeds.shape)
        centers = centers + speeds
        seen = (starts <= frame) & ((frame < hidden[0]) | (frame >= hidden[1]))
        seen &= (rng.random(num_objects) > 0.12) & (np.abs(centers - SIZE / 2) < SIZE / 2).all(1)
        trembling = sizes * rng.normal(1, 0.04, sizes.shape)
        corners = [centers - trembling / 2, centers + trembling / 2]
        boxes = np.hstack([corner.clip(0, SIZE) for corner in corners])[seen]
        classes, features = labels[seen], looks[seen] + rng.normal(0, 0.2, looks[seen].shape)
        if rng.random() < 0.2:
            corner = rng.uniform(0, 300, 2)
            boxes = np.vstack([boxes, [*corner, *(corner + 40)]])
            classes = np.append(classes, rng.integers(num_classes))
            features = np.vstack([features, rng.normal(size=num_features)])
        kept = rng.permutation(len(boxes)) if rng.random() > 0.05 else []
        scores = rng.beta(4, 2, len(boxes))
        kept = np.array(kept, dtype=int)
        video.append(found(boxes[kept], scores[kept], classes[kept], features[kept]))
    return video


def link(linker, video):
    """Identities of each frame of a video."""
    state = linker.start()
    frames = [linker.step(state, detections, n) for n, detections in enumerate(video)]
    rest, tracks = linker.finish(state)
    assert tracks is None and not rest
    assert [[number for number, _ in frame] for frame in frames] == [[n] for n in range(len(video))]
    return [frame[0][1] for frame in frames]


def assert_same_tracks(ids, expected):
    """The same up to the numbers of the identities, frame by frame."""
    pairs = set()
    for number, (ours, theirs) in enumerate(zip(ids, expected, strict=True)):
        assert len(ours) == len(theirs), f"frame {number}"
        assert ((np.array(ours) < 0) == (np.array(theirs) < 0)).all(), f"frame {number}"
        pairs |= set(zip(np.array(ours).tolist(), np.array(theirs).tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}), (
            f"frame {number}: {ours} instead of {theirs}"
        )
