"""YouTube-VIS 2019, YouTube-VIS 2021 and OVIS, read from their official JSON."""

import json
import math
import random
from contextlib import contextmanager

import numpy as np
import torch
from mmdet.datasets import BaseVideoDataset
from mmdet.registry import DATASETS
from mmengine import fileio
from mmengine.logging import print_log
from pycocotools import mask as mask_util

from .samplers import FrameIndex


class DatasetError(ValueError):
    """A YouTube-VIS JSON, or a frame file it names, that cannot be used."""


@contextmanager
def isolated_rng(seed: int):
    """Seed Python's, NumPy's and torch's CPU generators for a block, then put them back.

    Args:
        seed (int): In [0, 2**32).
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    # Not torch.manual_seed: that would reseed the GPU generators as well.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@DATASETS.register_module()
class YTVISDataset(BaseVideoDataset):
    """Video instance segmentation dataset in the official YouTube-VIS format.

    Reads YouTube-VIS 2019, 2021 and OVIS without conversion. An item is a video; its frames are
    always all there and consecutive, with or without objects. Masks given as polygons or as
    uncompressed RLE become compressed RLE once, when the JSON is read.

    ``metainfo`` gets ``classes`` (tuple of names, from the JSON unless the config gives them),
    ``category_ids`` (tuple, the JSON's ids in the order of ``classes``) and, in test mode,
    ``ann_file``. A config may give ``metainfo=dict(classes=...)`` to select and order classes by
    name; objects of other classes are left out.

    An item indexed by :class:`FrameIndex` (what the samplers of this package yield) is a function
    of that index alone: the random generators are seeded from it while the pipeline runs.

    Args:
        check_frames (str): Which frame files must exist when the JSON is read: 'first' (of every
            video), 'all' (slow on network disks) or 'none'. Defaults to 'first'.
        filter_cfg (dict, optional): For training. ``filter_empty_gt=True`` leaves out videos
            without an object that is not a crowd, ``min_size`` videos with a shorter side in
            pixels. Frames are never left out. Defaults to None.
        **kwargs: Of ``BaseVideoDataset``: ``ann_file``, ``data_root``, ``data_prefix``,
            ``metainfo``, ``pipeline``, ``test_mode``, ``indices``, ``backend_args`` ...

    Raises:
        DatasetError: If the JSON is broken or frame files are missing; the message names the
            file, the video and the annotation.
        FileNotFoundError: If there is no such JSON.

    Examples:
        >>> dataset = YTVISDataset(
        ...     data_root='data/youtube_vis_2019/', ann_file='train.json',
        ...     data_prefix=dict(img_path='train/JPEGImages/'))
        >>> dataset.get_data_info(0)['images'][0]['instances'][0].keys()
        dict_keys(['bbox', 'bbox_label', 'mask', 'instance_id', 'ignore_flag'])
    """

    def __init__(self, *args, check_frames: str = "first", **kwargs):
        if check_frames not in ("first", "all", "none"):
            raise ValueError(f"check_frames must be 'first', 'all' or 'none', got {check_frames!r}")
        self.check_frames = check_frames
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read and check the JSON.

        Returns:
            list[dict]: One dict a video: ``video_id``, ``video_length`` and ``images``, a list of
            frames with ``img_id`` (unique in the JSON), ``img_path``, ``height``, ``width``,
            ``frame_id`` and ``instances``. An instance is ``bbox`` (xyxy in pixels),
            ``bbox_label``, ``mask`` (compressed RLE), ``instance_id`` (unique in the video, from
            0, in the order of the JSON) and ``ignore_flag`` (1 for a crowd).
        """
        content = self._read_json()
        category_to_label = self._select_classes(content["categories"])
        videos = self._parse_videos(content["videos"])
        self._check_frame_files(videos.values())
        annotations = content["annotations"] or []
        if not annotations and not self.test_mode:
            raise DatasetError(
                f"{self.ann_file} has no annotations and cannot be trained on; the official "
                "validation and test files are for testing (test_mode=True) only"
            )
        if not annotations:
            print_log(
                f"{self.ann_file} has no annotations: results can be written for submission, "
                "not scored",
                "current",
            )
        self._add_annotations(annotations, videos, category_to_label)
        return list(videos.values())

    def _read_json(self) -> dict:
        try:
            text = fileio.get_text(self.ann_file, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"annotation file {self.ann_file} does not exist. The expected layout is in "
                "docs/datasets.md; data_root moves it; *_sub-train.json and *_sub-val.json are "
                "written by tools/dataset_converters/split_ytvis.py"
            ) from error
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise DatasetError(f"{self.ann_file} is not valid JSON: {error}") from error
        _require(content, ("videos", "categories"), self.ann_file)
        content.setdefault("annotations", None)
        for key in ("videos", "categories", "annotations"):
            # The official files without annotations have null there, or leave the key out.
            if not isinstance(content[key], list) and (key, content[key]) != ("annotations", None):
                raise DatasetError(f"{self.ann_file}: {key} must be a list")
        if not content["videos"]:
            raise DatasetError(f"{self.ann_file} has no videos")
        return content

    def _select_classes(self, categories: list[dict]) -> dict[int, int | None]:
        """Set the class metainfo; map each category id to its label, None if not selected."""
        for i, category in enumerate(categories):
            _require(category, ("id", "name"), f"{self.ann_file}: category number {i}")
        name_to_id = {category["name"]: category["id"] for category in categories}
        ids = {category["id"] for category in categories}
        if len(name_to_id) < len(categories) or len(ids) < len(categories):
            raise DatasetError(f"{self.ann_file}: category ids or names are not unique")
        classes = self._metainfo.get("classes") or list(name_to_id)
        classes = (classes,) if isinstance(classes, str) else tuple(classes)
        unknown = [name for name in classes if name not in name_to_id]
        if unknown:
            raise DatasetError(
                f"{self.ann_file} has no class {', '.join(map(repr, unknown))}; "
                f"its classes are {', '.join(name_to_id)}"
            )
        if len(set(classes)) < len(classes):
            raise DatasetError(f"metainfo.classes has a name twice: {', '.join(classes)}")
        category_ids = tuple(name_to_id[name] for name in classes)
        self._metainfo.update(classes=classes, category_ids=category_ids)
        if self.test_mode:
            # Only the metric needs it; in training it would keep ConcatDataset, which compares
            # metainfo, from joining two files, and would end up in every checkpoint.
            self._metainfo["ann_file"] = self.ann_file
        return {**dict.fromkeys(ids), **{id_: label for label, id_ in enumerate(category_ids)}}

    def _parse_videos(self, raw_videos: list[dict]) -> dict[int, dict]:
        videos, next_image_id = {}, 0
        for i, raw in enumerate(raw_videos):
            where = f"{self.ann_file}: video {_get(raw, 'id', f'number {i}')}"
            _require(raw, ("id", "width", "height", "file_names"), where)
            names = raw["file_names"]
            if raw["id"] in videos:
                raise DatasetError(f"{where}: this id is used by two videos")
            if not (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
                raise DatasetError(f"{where}: file_names must be a list of one or more names")
            if raw.get("length", len(names)) != len(names):
                raise DatasetError(
                    f"{where}: length is {raw['length']} but there are {len(names)} file_names"
                )
            if not (_is_size(raw["width"]) and _is_size(raw["height"])):
                raise DatasetError(
                    f"{where}: width and height must be positive whole numbers, got "
                    f"{raw['width']!r} and {raw['height']!r}"
                )
            images = [
                dict(
                    img_id=next_image_id + frame,
                    img_path=self._frame_path(name),
                    height=int(raw["height"]),
                    width=int(raw["width"]),
                    frame_id=frame,
                    instances=[],
                )
                for frame, name in enumerate(names)
            ]
            next_image_id += len(names)
            videos[raw["id"]] = dict(video_id=raw["id"], video_length=len(names), images=images)
        return videos

    def _frame_path(self, name: str) -> str:
        prefix = self.data_prefix.get("img_path")
        return fileio.join_path(prefix, name) if prefix else name

    def _check_frame_files(self, videos) -> None:
        last = dict(first=1, all=None, none=0)[self.check_frames]
        missing = [
            (video["video_id"], image["img_path"])
            for video in videos
            for image in video["images"][:last]
            if not fileio.exists(image["img_path"], backend_args=self.backend_args)
        ]
        if missing:
            video_id, path = missing[0]
            raise DatasetError(
                f"{self.ann_file}: video {video_id}: frame file {path} does not exist "
                f"({len(missing)} of the checked files are missing); "
                "check data_root and data_prefix.img_path"
            )

    def _add_annotations(self, annotations, videos, category_to_label) -> None:
        seen, next_instance_id = set(), dict.fromkeys(videos, 0)
        for i, raw in enumerate(annotations):
            where = (
                f"{self.ann_file}: video {_get(raw, 'video_id', 'unknown')}: "
                f"annotation {_get(raw, 'id', f'number {i}')}"
            )
            _require(raw, ("id", "video_id", "category_id", "segmentations"), where)
            if raw["id"] in seen:
                raise DatasetError(f"{where}: this id is used by two annotations")
            seen.add(raw["id"])
            if raw["video_id"] not in videos:
                raise DatasetError(f"{where}: there is no video with this id")
            if raw["category_id"] not in category_to_label:
                raise DatasetError(
                    f"{where}: category_id {raw['category_id']} is not among the categories"
                )
            label = category_to_label[raw["category_id"]]
            if label is None:
                continue
            video = videos[raw["video_id"]]
            for frame, mask, bbox in _parse_track(raw, video, where):
                video["images"][frame]["instances"].append(
                    dict(
                        bbox=bbox,
                        bbox_label=label,
                        mask=mask,
                        instance_id=next_instance_id[raw["video_id"]],
                        ignore_flag=int(bool(raw.get("iscrowd", 0))),
                    )
                )
            next_instance_id[raw["video_id"]] += 1

    def filter_data(self) -> list[dict]:
        """Leave out whole videos as ``filter_cfg`` says, in training only."""
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        unknown = set(self.filter_cfg) - {"filter_empty_gt", "min_size"}
        if unknown:
            raise ValueError(f"filter_cfg knows filter_empty_gt and min_size, not {unknown}")
        min_size = self.filter_cfg.get("min_size", 0)
        filter_empty = self.filter_cfg.get("filter_empty_gt", False)
        kept = [
            video
            for video in self.data_list
            if min(video["images"][0]["height"], video["images"][0]["width"]) >= min_size
            and not (filter_empty and not _frames_with_objects(video))
        ]
        if not kept:
            raise DatasetError(f"{self.ann_file}: filter_cfg {self.filter_cfg} leaves no video")
        print_log(f"{self.ann_file}: {len(kept)} of {len(self.data_list)} videos used", "current")
        return kept

    def key_frames(self) -> np.ndarray:
        """Every frame that has an object which is not a crowd.

        Returns:
            np.ndarray: int64, shape (n, 2), rows of (video index, frame index), ascending.
        """
        rows = [
            (video, frame)
            for video in range(len(self))
            for frame in _frames_with_objects(self.get_data_info(video))
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    def __getitem__(self, idx) -> dict:
        """Run the pipeline on one item.

        Args:
            idx (int | tuple[int, int] | FrameIndex): A video; a video and a frame; or these with
                a seed, which makes the item reproducible.
        """
        if not isinstance(idx, FrameIndex):
            return super().__getitem__(idx)
        with isolated_rng(idx.seed):
            return super().__getitem__(idx)

    def prepare_data(self, idx):
        """Run the pipeline on one item; see ``__getitem__``."""
        if isinstance(idx, FrameIndex):
            idx = int(idx), idx.frame
        return super().prepare_data(idx)

    def _rand_another(self) -> tuple[int, int]:
        """Pick another key frame when the pipeline rejects one by returning None."""
        video = np.random.randint(len(self))
        info = self.get_data_info(video)
        frames = _frames_with_objects(info) or range(info["video_length"])
        return video, int(np.random.choice(frames))


def _frames_with_objects(video: dict) -> list[int]:
    return [
        frame
        for frame, image in enumerate(video["images"])
        if any(not instance["ignore_flag"] for instance in image["instances"])
    ]


def _require(record, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(record, dict):
        raise DatasetError(f"{where}: expected an object, got a {type(record).__name__}")
    missing = [key for key in keys if key not in record]
    if missing:
        raise DatasetError(f"{where}: missing key {', '.join(map(repr, missing))}")


def _get(record, key: str, default):
    return record.get(key, default) if isinstance(record, dict) else default


def _is_size(value) -> bool:
    return isinstance(value, (int, float)) and value >= 1 and value % 1 == 0


def _parse_track(raw: dict, video: dict, where: str) -> list[tuple[int, dict, list[float]]]:
    """Frame index, compressed RLE and xyxy box of every frame where the object can be seen."""
    length, first = video["video_length"], video["images"][0]
    for key in ("segmentations", "bboxes", "areas"):
        values = raw.get(key)
        if values is None and key != "segmentations":
            continue
        if not isinstance(values, list) or len(values) != length:
            size = len(values) if isinstance(values, list) else type(values).__name__
            raise DatasetError(
                f"{where}: {key} must be a list with one entry for each of the video's "
                f"{length} frames, got {size}"
            )
    frames, masks = [], []
    for frame, segmentation in enumerate(raw["segmentations"]):
        if not segmentation:
            continue
        try:
            masks.append(to_rle(segmentation, first["height"], first["width"]))
        except ValueError as error:
            raise DatasetError(f"{where}: segmentation of frame {frame}: {error}") from error
        frames.append(frame)
    if not frames:
        return []
    pixels = rle_pixels([mask["counts"] for mask in masks])
    for frame, count in zip(frames, pixels, strict=True):
        if count != first["height"] * first["width"]:
            raise DatasetError(
                f"{where}: segmentation of frame {frame}: the RLE does not describe a mask of "
                f"{first['height']} x {first['width']} pixels"
            )
    boxes = np.asarray(mask_util.toBbox(masks)).reshape(-1, 4)
    given = raw.get("bboxes") or [None] * length
    track = []
    for frame, mask, box, area in zip(frames, masks, boxes, mask_util.area(masks), strict=True):
        if area:
            x, y, w, h = _usable_box(given[frame], f"{where}: box of frame {frame}") or box.tolist()
            track.append((frame, mask, [x, y, x + w, y + h]))
    return track


def _usable_box(box, where: str) -> list[float] | None:
    """The box given for a mask, or None if it is missing or empty."""
    if not box:
        return None
    if len(box) != 4 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
        raise DatasetError(f"{where}: expected four numbers x, y, w, h, got {box}")
    return [float(v) for v in box] if box[2] > 0 and box[3] > 0 else None


def to_rle(segmentation: dict | list, height: int, width: int) -> dict:
    """Turn any segmentation the COCO format knows into compressed RLE.

    Args:
        segmentation (dict | list): Compressed RLE (``counts`` a str), uncompressed RLE
            (``counts`` a list of run lengths), both with ``size`` a list [height, width]; or a
            list of polygons ``[x1, y1, x2, y2, ...]`` in pixels.
        height (int): Of the frame.
        width (int): Of the frame.

    Returns:
        dict: ``size`` [height, width] and ``counts`` (str).

    Raises:
        ValueError: If it is none of these, or of another size.
    """
    if isinstance(segmentation, list):
        return _text_rle(mask_util.merge(_polygon_rles(segmentation, height, width)))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= set(segmentation):
        raise ValueError("expected null, polygons, or an RLE with the keys 'size' and 'counts'")
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [height, width]:
        raise ValueError(f"RLE of size {size} in a video of {height} x {width} (height x width)")
    if isinstance(counts, str):
        return dict(size=[height, width], counts=counts)
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind != "i" or (runs < 0).any():
        raise ValueError("RLE counts must be a string or a list of run lengths")
    if runs.sum() != height * width:
        raise ValueError(
            f"the RLE's run lengths add up to {runs.sum()}, not {height} x {width} pixels"
        )
    return _text_rle(mask_util.frPyObjects(dict(size=size, counts=counts), height, width))


def _polygon_rles(polygons: list, height: int, width: int) -> list[dict]:
    for polygon in polygons:
        # pycocotools would take four numbers for a box.
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                "a polygon must be a flat list x1, y1, x2, y2, ... of 3 or more points"
            )
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in polygon):
            raise ValueError("polygon coordinates must be finite numbers")
    return mask_util.frPyObjects(polygons, height, width)


def _text_rle(rle: dict) -> dict:
    # mmdet's LoadAnnotations takes text for valid and bytes for broken.
    return dict(size=list(rle["size"]), counts=rle["counts"].decode())


def rle_pixels(counts: list[str]) -> np.ndarray:
    """Number of pixels, set or not, that compressed RLEs describe.

    pycocotools does not check this and may read or write out of bounds if it is wrong.

    Args:
        counts (list[str]): The ``counts`` of n compressed RLEs.

    Returns:
        np.ndarray: int64, shape (n,); -1 for a text that is not an RLE.
    """
    # A run length is written in characters of 5 bits, low ones first, offset by 48; bit 6 says
    # that more follow. From the fourth run on, the difference to the run two before is written.
    texts = [text.encode("latin-1", "replace") for text in counts]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    chars = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.arange(len(texts)), lengths)
    valid = lengths > 0
    valid[owner[(chars < 0) | (chars > 63)]] = False
    ends_number = (chars & 32) == 0
    ends_text = np.cumsum(lengths)[lengths > 0] - 1
    valid[owner[ends_text[~ends_number[ends_text]]]] = False
    ends_number[ends_text] = True

    ends = np.flatnonzero(ends_number)
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    digits = ends - starts + 1
    valid[owner[starts[digits > 6]]] = False  # beyond 30 bits, more than any frame has
    shift = 5 * np.minimum(np.arange(len(chars)) - np.repeat(starts, digits), 6)
    value = np.add.reduceat((chars & 31) << shift, starts) if len(starts) else starts
    value -= np.where(chars[ends] & 16, 1 << 5 * np.minimum(digits, 7), 0)

    number_owner = owner[starts]
    amount = np.bincount(number_owner, minlength=len(texts))
    position = np.arange(len(starts)) - np.repeat(np.cumsum(amount) - amount, amount)
    # A difference counts once for its own run and once for every second run after it.
    repeats = np.where(position == 0, 1, (amount[number_owner] - 1 - position) // 2 + 1)
    total = np.bincount(number_owner, weights=value * repeats, minlength=len(texts))
    return np.where(valid, total, -1).astype(np.int64)
