"""Small pictures and masks that the converters' tests share."""

import json

import cv2
import numpy as np
from pycocotools import mask as mask_util

HEIGHT, WIDTH = 24, 32


def box_mask(x, y, w, h, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=list(encoded["size"]), counts=encoded["counts"].decode())


def write_frames(folder, names, height=HEIGHT, width=WIDTH):
    """Write a grey picture for each name; a list of their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return paths


def dense(annotation):
    """An official annotation's masks: (T, H, W) bool, empty where it is absent."""
    shape = annotation["height"], annotation["width"]
    masks = [
        mask_util.decode(segmentation).astype(bool) if segmentation else np.zeros(shape, bool)
        for segmentation in annotation["segmentations"]
    ]
    return np.array(masks)


def named_tracks(content):
    """(video's folder, class name, crowd) of each annotation, and its dense masks."""
    folders = {v["id"]: v["file_names"][0].rpartition("/")[0] for v in content["videos"]}
    classes = {c["id"]: c["name"] for c in content["categories"]}
    return [
        ((folders[a["video_id"]], classes[a["category_id"]], a["iscrowd"]), dense(a))
        for a in content["annotations"]
    ]


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
