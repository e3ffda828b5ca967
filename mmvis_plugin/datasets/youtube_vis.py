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

from mmvis_plugin.garbage import without_garbage_collection
from mmvis_plugin.ytvis.rle import RLEError, compress_lists, mask_areas, parse_masks

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

    items = "videos"  # the list in the JSON of which an item of the dataset is made
    file_words = "video {video_id}: frame file {img_path}"  # what messages call a file

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
        with without_garbage_collection():
            return self._load_data_list()

    def _load_data_list(self) -> list[dict]:
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
            text = fileio.get(self.ann_file, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"annotation file {self.ann_file} does not exist. The expected layout is in "
                "docs/datasets.md; data_root moves it; *_sub-train.json and *_sub-val.json are "
                "written by tools/dataset_converters/split_ytvis.py"
            ) from error
        try:
            content = json.loads(compress_lists(text))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(f"{self.ann_file} is not valid JSON: {error}") from error
        _require(content, (self.items, "categories"), self.ann_file)
        content.setdefault("annotations", None)
        for key in (self.items, "categories", "annotations"):
            # The official files without annotations have null there, or leave the key out.
            if not isinstance(content[key], list) and (key, content[key]) != ("annotations", None):
                raise DatasetError(f"{self.ann_file}: {key} must be a list")
        if not content[self.items]:
            raise DatasetError(f"{self.ann_file} has no {self.items}")
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
            if not (isinstance(names, list) and set(map(type, names)) == {str}):
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
                    img_path=path,
                    height=int(raw["height"]),
                    width=int(raw["width"]),
                    frame_id=frame,
                    instances=[],
                )
                for frame, path in enumerate(self._frame_paths(names))
            ]
            next_image_id += len(names)
            videos[raw["id"]] = dict(video_id=raw["id"], video_length=len(names), images=images)
        return videos

    def _frame_paths(self, names: list[str]) -> list[str]:
        prefix = self.data_prefix.get("img_path")
        if not prefix:
            return names
        first = fileio.join_path(prefix, names[0], backend_args=self.backend_args)
        folder = first.removesuffix(names[0])
        if folder == first or "/" in {name[:1] for name in names}:
            return [fileio.join_path(prefix, n, backend_args=self.backend_args) for n in names]
        return [folder + name for name in names]  # what join_path does, fifty times as fast

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
            where = self.file_words.format(video_id=video_id, img_path=path)
            raise DatasetError(
                f"{self.ann_file}: {where} does not exist "
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
            images, instance_id = video["images"], next_instance_id[raw["video_id"]]
            ignore_flag = int(bool(raw.get("iscrowd", 0)))
            for frame, mask, bbox in _parse_track(raw, video, where):
                images[frame]["instances"].append(
                    dict(
                        bbox=bbox,
                        bbox_label=label,
                        mask=mask,
                        instance_id=instance_id,
                        ignore_flag=ignore_flag,
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
    for key in keys:
        value = record[key]
        if key == "name" and not isinstance(value, str):
            raise DatasetError(f"{where}: {key!r} must be a text, got {value!r:.60}")
        if key.endswith("id") and isinstance(value, (list, dict)):
            raise DatasetError(f"{where}: {key!r} must be a number or a text, got {value!r:.60}")


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
    try:
        rles = parse_masks(raw["segmentations"], length, first["height"], first["width"])
        areas = mask_areas(rles, first["height"], first["width"])
    except RLEError as error:
        raise DatasetError(f"{where}: segmentation of frame {error.index}: {error}") from error
    frames = areas.nonzero()[0].tolist()
    given = raw.get("bboxes") or [None] * length
    boxes = _usable_boxes([given[frame] for frame in frames])
    if boxes is None:  # some are missing or wrong
        boxes = [
            _usable_box(given[frame], f"{where}: box of frame {frame}")
            or mask_util.toBbox(rles[frame]).tolist()
            for frame in frames
        ]
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    masks = [rles[frame] for frame in frames]
    return list(zip(frames, masks, corners.tolist(), strict=True))


def _usable_boxes(boxes: list) -> np.ndarray | None:
    """All of a track's boxes, (n, 4) x, y, w, h, if all of them are given and not empty."""
    try:
        array = np.array(boxes)
    except ValueError:
        return None
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "if":
        return None
    return array if np.isfinite(array).all() and (array[:, 2:] > 0).all() else None


def _usable_box(box, where: str) -> list[float] | None:
    """The box given for a mask, or None if it is missing or empty."""
    if not box:
        return None
    is_list = isinstance(box, list) and len(box) == 4
    if not is_list or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
        raise DatasetError(f"{where}: expected four numbers x, y, w, h, got {box}")
    return [float(v) for v in box] if box[2] > 0 and box[3] > 0 else None
