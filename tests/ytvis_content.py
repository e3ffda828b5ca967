"""Small contents of YouTube-VIS files, as tests write and change them."""

import json

import cv2
import numpy as np
from pycocotools import mask as mask_util

HEIGHT, WIDTH = 24, 32


def box_mask(x, y, w, h, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def compressed(mask):
    rle = mask_util.encode(np.asfortranarray(mask))
    return dict(size=list(rle["size"]), counts=rle["counts"].decode())


def uncompressed(mask):
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return dict(size=list(mask.shape), counts=[0, *runs] if flat[0] else runs)


def polygons(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def video(id, length, height=HEIGHT, width=WIDTH):
    names = [f"v{id}/{t:05d}.jpg" for t in range(length)]
    return dict(id=id, width=width, height=height, length=length, file_names=names)


def annotation(id, video_id, category_id, segmentations, **more):
    return dict(
        id=id,
        video_id=video_id,
        category_id=category_id,
        iscrowd=0,
        segmentations=segmentations,
        **more,
    )


def write_content(root, content, ann_file="train.json", images="train/JPEGImages"):
    """Write a JSON and a frame for each of its file names; a frame's grey level is its index."""
    (root / ann_file).parent.mkdir(parents=True, exist_ok=True)
    (root / ann_file).write_text(json.dumps(content))
    for entry in content["videos"]:
        for t, name in enumerate(entry["file_names"]):
            path = root / images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            frame = np.full((entry["height"], entry["width"], 3), 5 * t, np.uint8)
            cv2.imwrite(str(path), frame)
    return root


def small_content():
    """Two videos of three classes with every kind of mask, a crowd and absent frames."""
    box = box_mask(4, 5, 6, 7)
    return dict(
        info=dict(description="test"),
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(("cat", "dog", "owl"))],
        videos=[video(7, 4), video(9, 3), video(11, 2)],
        annotations=[
            annotation(
                1,
                7,
                2,
                [compressed(box), None, uncompressed(box), polygons(4, 5, 6, 7)],
                bboxes=[[4, 5, 6, 7], None, [3, 4, 8, 9], None],
                areas=[42, None, 42, None],
            ),
            annotation(2, 7, 1, [None, [], compressed(0 * box), None], bboxes=[None] * 4),
            annotation(3, 7, 3, [None, None, None, compressed(box_mask(0, 0, 2, 3))]),
            annotation(4, 9, 1, [None, compressed(box), compressed(box)]),
            dict(annotation(5, 9, 2, [compressed(box), compressed(box), None]), iscrowd=1),
        ],
    )


def clean_content():
    """The small dataset without what the checker finds in it."""
    content = small_content()
    box, small = compressed(box_mask(4, 5, 6, 7)), compressed(box_mask(0, 0, 2, 3))
    segmentations = {1: [box, None, box, polygons(4, 5, 6, 7)], 2: [small, None, None, small]}
    for annotation in content["annotations"]:
        masks = segmentations.get(annotation["id"], annotation["segmentations"])
        areas = [None if m is None else 6 if m == small else 42 for m in masks]
        boxes = {None: None, 6: [0, 0, 2, 3], 42: [4, 5, 6, 7]}
        annotation.update(segmentations=masks, areas=areas, bboxes=[boxes[a] for a in areas])
    content["annotations"][-1]["video_id"] = 11
    for key in ("segmentations", "areas", "bboxes"):
        content["annotations"][-1][key].pop()
    return content
