"""Random annotations and results in the YouTube-VIS layout, for the tests of the evaluation."""

import numpy as np
from pycocotools import mask as mask_utils


def rectangle(x, y, w, h, height, width):
    """Uncompressed RLE of a w x h rectangle, cut at the right and lower border."""
    w, h = min(w, width - x), min(h, height - y)
    counts = [x * height + y]
    for _ in range(w - 1):
        counts += [h, height - h]
    counts += [h]
    return {"size": [height, width], "counts": counts + [height * width - sum(counts)]}


def compress(rle):
    """Compressed RLE with string counts."""
    height, width = rle["size"]
    rle = mask_utils.frPyObjects(rle, height, width)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def make_video(id_, height, width, length):
    """A video with names for its frames."""
    names = [f"{id_}/{t:05d}.jpg" for t in range(length)]
    return {"id": id_, "height": height, "width": width, "length": length, "file_names": names}


def annotation(id_, video, category_id, segmentations, iscrowd=0):
    """An annotation with the areas of its masks."""
    height, width = video["height"], video["width"]
    areas = [
        mask
        and int(
            np.sum(
                mask_utils.area(
                    mask_utils.merge(mask_utils.frPyObjects(mask, height, width))
                    if isinstance(mask, list)
                    else mask_utils.frPyObjects(mask, height, width)
                    if isinstance(mask["counts"], list)
                    else mask
                )
            )
        )
        for mask in segmentations
    ]
    return {
        "id": id_,
        "video_id": video["id"],
        "category_id": category_id,
        "iscrowd": iscrowd,
        "segmentations": segmentations,
        "areas": areas,
        "bboxes": [mask and [0, 0, 1, 1] for mask in segmentations],
        "width": width,
        "height": height,
        "length": video["length"],
    }


def result(video_id, category_id, score, segmentations):
    """An entry of results.json."""
    return {
        "video_id": video_id,
        "category_id": category_id,
        "score": score,
        "segmentations": segmentations,
    }


def random_case(seed):
    """Annotations and results with everything the protocol has a rule for.

    Frames of 12 x 16 or 400 x 400 pixels (all area ranges), crowds, absent frames, videos without
    annotations or results, annotations as polygons and both kinds of RLE, equal scores, and now
    and then more than 10 and more than 100 tracks of one class in a video.
    """
    rng = np.random.default_rng(seed)
    crowded = seed % 40 == 0
    height, width = (12, 16) if seed % 3 == 0 else (400, 400)
    category_ids = [
        int(c) for c in rng.permutation(np.arange(1, 9))[: 1 if crowded else rng.integers(1, 4)]
    ]
    videos = [
        make_video(int(id_), height, width, int(rng.integers(1, 6)))
        for id_ in rng.permutation(20)[: rng.integers(1, 5)]
    ]
    annotations, results = [], []
    for video in videos:
        boxes = []
        for _ in range(rng.integers(0, 6)):
            category_id = int(rng.choice(category_ids))
            boxes.append((category_id, _random_boxes(rng, video)))
            masks = [_random_mask(rng, box, height, width) for box in boxes[-1][1]]
            crowd = int(rng.random() < 0.2)
            annotations.append(
                annotation(len(annotations) + 1, video, category_id, masks, iscrowd=crowd)
            )
        for _ in range(120 if crowded else rng.integers(0, 13)):
            category_id, track = int(rng.choice(category_ids)), _random_boxes(rng, video)
            if boxes and rng.random() < 0.8:
                category_id, track = boxes[rng.integers(len(boxes))]
                track = [_jitter(rng, box, video) for box in track]
            score = float(rng.integers(1, 6) / 5 if seed % 2 else rng.random())
            masks = [box and compress(rectangle(*box, height, width)) for box in track]
            results.append(result(video["id"], category_id, score, masks))
    categories = [{"id": c, "name": f"class {c}", "supercategory": "thing"} for c in category_ids]
    return {"videos": videos, "categories": categories, "annotations": annotations}, results


def _random_boxes(rng, video):
    height, width = video["height"], video["width"]
    w, h = rng.integers(2, width), rng.integers(2, height)
    if width > 256 and rng.random() < 0.1:
        w = h = rng.choice([128, 256])  # exactly on the limit of two area ranges
    x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    absent = rng.random(video["length"]) < 0.25
    return [None if a else (int(x), int(y), int(w), int(h)) for a in absent]


def _jitter(rng, box, video):
    if box is None or rng.random() < 0.1:
        return None
    x, y, w, h = box
    step = max(w // 10, 1)
    x, y = (x, y) + rng.integers(-step, step + 1, 2)
    return (int(x.clip(0, video["width"] - 1)), int(y.clip(0, video["height"] - 1)), w, h)


def _random_mask(rng, box, height, width):
    if box is None:
        return None
    form = rng.integers(3)
    if form == 0:
        x, y, w, h = box
        return [[x, y, x + w, y, x + w, y + h, x + w / 3, y + h], [x, y, x + w / 2, y, x, y + h]]
    rle = rectangle(*box, height, width)
    return rle if form == 1 else compress(rle)
