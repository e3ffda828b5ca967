"""Random videos with moving rectangles and imperfect tracks of them, for the tests of tracking."""

import numpy as np
from ytvis_cases import annotation, compress, rectangle, result


def tracking_case(seed):
    """Annotations and results of one to three videos of 4 to 12 frames and up to three classes.

    Objects move and are absent now and then; predicted tracks are shifted, interrupted, swap their
    objects, change the class, or are nothing but noise. Some videos have no objects or no tracks.
    """
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(20, 60)), int(rng.integers(20, 60))
    category_ids = [int(c) for c in rng.permutation(9)[: rng.integers(1, 4)] + 1]
    videos, annotations, results = [], [], []
    for id_ in range(1, int(rng.integers(1, 4)) + 1):
        video = {"id": id_, "height": height, "width": width, "length": int(rng.integers(4, 13))}
        video["file_names"] = [f"{id_}/{t}.jpg" for t in range(video["length"])]
        videos.append(video)
        objects = [_path(rng, video) for _ in range(rng.integers(0, 5))]
        classes = [int(rng.choice(category_ids)) for _ in objects]
        for boxes, category in zip(objects, classes, strict=True):
            masks = _masks(boxes, video)
            annotations.append(annotation(len(annotations) + 1, video, category, masks))
        followed = [list(boxes) for boxes in objects]
        for a, b in rng.integers(0, max(len(objects), 1), (2, 2)) if objects else ():
            cut = int(rng.integers(1, video["length"]))
            followed[a][cut:], followed[b][cut:] = followed[b][cut:], followed[a][cut:]
        followed += [_path(rng, video) for _ in range(rng.integers(0, 3))]
        classes += [int(rng.choice(category_ids)) for _ in followed[len(classes) :]]
        for boxes, category in zip(followed, classes, strict=True):
            if rng.random() < 0.1:
                continue
            if rng.random() < 0.2:
                category = int(rng.choice(category_ids))
            masks = _masks([_shift(rng, box, video) for box in boxes], video)
            results.append(result(id_, category, float(rng.random()), masks))
            if rng.random() < 0.2:
                masks = _masks([_shift(rng, box, video) for box in boxes], video)
                results.append(result(id_, category, float(rng.random()), masks))
    categories = [{"id": c, "name": f"class {c}", "supercategory": "thing"} for c in category_ids]
    return {"videos": videos, "categories": categories, "annotations": annotations}, results


def _path(rng, video):
    """A box that moves on a line, None where it is absent."""
    w, h = rng.integers(3, video["width"] // 2), rng.integers(3, video["height"] // 2)
    start, end = rng.random((2, 2)) * (video["width"] - w, video["height"] - h)
    steps = np.linspace(start, end, video["length"]).astype(int)
    absent = rng.random(video["length"]) < 0.15
    return [
        None if a else (int(x), int(y), int(w), int(h))
        for (x, y), a in zip(steps, absent, strict=True)
    ]


def _shift(rng, box, video):
    if box is None or rng.random() < 0.1:
        return None
    x, y, w, h = box
    x, y = (x, y) + rng.integers(-2, 3, 2)
    return int(x.clip(0, video["width"] - 2)), int(y.clip(0, video["height"] - 2)), w, h


def _masks(boxes, video):
    height, width = video["height"], video["width"]
    return [box and compress(rectangle(*box, height, width)) for box in boxes]


def moving_boxes(num_objects, videos=1, length=8, classes=2, height=None):
    """Videos whose objects each move along a lane of their own, and results that are right.

    Objects are 20 x 8 pixels and their classes, "a", "b", ..., come in turn; scores fall from 0.9
    by 0.01 a track, so that those of a class differ. Frames are 60 pixels wide and as high as the
    lanes by default.
    """
    names = "abcdef"[:classes]
    height, width = height or 10 * num_objects, 60
    gt = {
        "videos": [
            {
                "id": v + 1,
                "height": height,
                "width": width,
                "length": length,
                "file_names": [f"{v}/{t}.jpg" for t in range(length)],
            }
            for v in range(videos)
        ],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(names)],
        "annotations": [],
    }
    results = []
    for video in gt["videos"]:
        for n in range(num_objects):
            masks = [box_at(2 + t * 2, n, height, width) for t in range(length)]
            category_id = n % classes + 1
            gt["annotations"].append(annotation(len(results) + 1, video, category_id, masks))
            score = 0.9 - 0.01 * len(results)
            results.append(result(video["id"], category_id, score, list(masks)))
    return gt, results


def box_at(x, lane, height, width, w=20, h=8):
    """RLE of a box in a lane of 10 pixels."""
    return compress(rectangle(x, 10 * lane + 1, w, h, height, width))
