"""YouTube-VIS 2019, YouTube-VIS 2021 and OVIS, read from their official JSON."""

import logging
import os
import random
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from mmdet.datasets import BaseVideoDataset
from mmdet.registry import DATASETS
from mmengine import fileio
from mmengine.logging import print_log
from pycocotools import mask as mask_util

from mmvis_plugin.ytvis.json_file import without_garbage_collection
from mmvis_plugin.ytvis.problems import FormatError, summary_of
from mmvis_plugin.ytvis.reader import TrackRecord, VideoRecord, read_ytvis

from .samplers import FrameIndex

DatasetError = FormatError
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
    ``ann_file`` and ``annotations``, its checked records, so that the metric need not read it
    again. A config may give ``metainfo=dict(classes=...)`` to select and order classes by
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
        FormatError: If the JSON is refused (:mod:`mmvis_plugin.ytvis.reader` says when) or frame
            files are missing; the message names the file, the video and the annotation.
        FileNotFoundError: If there is no such JSON.

    Examples:
        >>> dataset = YTVISDataset(
        ...     data_root='data/youtube_vis_2019/', ann_file='train.json',
        ...     data_prefix=dict(img_path='train/JPEGImages/'))
        >>> dataset.get_data_info(0)['images'][0]['instances'][0].keys()
        dict_keys(['bbox', 'bbox_label', 'mask', 'instance_id', 'ignore_flag'])
    """

    file_words = "video {video_id}: frame file {img_path}"  # name of a file in messages

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
        data = read_ytvis(self._read_file(), self.ann_file)
        if data.problems:
            print_log(
                f"{self.ann_file}: {summary_of(data.problems)} "
                "(tools/analysis_tools/check_ytvis.py lists them all)",
                "current",
                logging.WARNING,
            )
        category_to_label = self._select_classes(data.categories)
        if self.test_mode:
            # Only the metric needs them; in training they would keep ConcatDataset, which compares
            # metainfo, from joining two files, and would end up in every checkpoint.
            self._metainfo.update(ann_file=self.ann_file, annotations=replace(data, content={}))
        videos = self._video_infos(data.videos.values())
        self._check_frame_files(videos.values())
        if not data.tracks:
            self._check_without_tracks()
        self._add_tracks(data.tracks, videos, category_to_label)
        return list(videos.values())

    def _check_without_tracks(self) -> None:
        if not self.test_mode:
            raise DatasetError(
                f"{self.ann_file} has no annotations and cannot be trained on; the official "
                "validation and test files are for testing (test_mode=True) only"
            )
        print_log(
            f"{self.ann_file} has no annotations: results can be written for submission, "
            "not scored",
            "current",
        )

    def _read_file(self) -> bytes:
        try:
            return fileio.get(self.ann_file, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"annotation file {self.ann_file} does not exist. The expected layout is in "
                "docs/datasets.md; data_root moves it; *_sub-train.json and *_sub-val.json are "
                "written by tools/dataset_converters/split_ytvis.py"
            ) from error

    def _select_classes(self, categories: dict) -> dict[int | str, int | None]:
        """Set the class metainfo; map each category id to its label, None if not selected."""
        name_to_id = {name: id_ for id_, name in categories.items()}
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
        labels = {id_: label for label, id_ in enumerate(category_ids)}
        return {id_: labels.get(id_) for id_ in categories}

    def _video_infos(self, records: Iterable[VideoRecord]) -> dict[int | str, dict]:
        videos, next_image_id = {}, 0
        for record in records:
            images = [
                dict(
                    img_id=next_image_id + frame,
                    img_path=path,
                    height=record.height,
                    width=record.width,
                    frame_id=frame,
                    instances=[],
                )
                for frame, path in enumerate(self._frame_paths(record.file_names))
            ]
            next_image_id += record.length
            videos[record.id] = dict(video_id=record.id, video_length=record.length, images=images)
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

    def _check_frame_files(self, videos: Iterable[dict]) -> None:
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
            hint = "check data_root and data_prefix.img_path"
            if "\\" in path and os.sep == "/":
                hint = "it has backslashes: write '/' in the JSON's file names"
            raise DatasetError(
                f"{self.ann_file}: {where} does not exist "
                f"({len(missing)} of the checked files are missing); {hint}"
            )

    def _add_tracks(self, tracks: list[TrackRecord], videos: dict, category_to_label: dict) -> None:
        next_instance_id = dict.fromkeys(videos, 0)
        for track in tracks:
            label = category_to_label[track.category_id]
            if label is None:
                continue
            images, instance_id = videos[track.video.id]["images"], next_instance_id[track.video.id]
            next_instance_id[track.video.id] += 1
            for frame, mask, bbox in _instances(track):
                images[frame]["instances"].append(
                    dict(
                        bbox=bbox,
                        bbox_label=label,
                        mask=mask,
                        instance_id=instance_id,
                        ignore_flag=int(track.crowd),
                    )
                )

    def full_init(self) -> None:
        """Read the JSON; a test on a part of it (``indices``) tells the metric its videos."""
        super().full_init()
        if self.test_mode and self._indices is not None:
            infos = map(self.get_data_info, range(len(self)))
            self._metainfo["video_ids"] = tuple(info["video_id"] for info in infos)

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


def _instances(track: TrackRecord) -> list[tuple[int, dict, list[float]]]:
    """Frame index, compressed RLE and xyxy box of every frame where the object can be seen."""
    frames = track.areas.nonzero()[0].tolist()
    masks = [track.rle(frame) for frame in frames]
    given = track.boxes or [None] * len(track.counts)
    boxes = [given[frame] for frame in frames]
    empty = [i for i, box in enumerate(boxes) if not box or not (box[2] and box[3])]
    if empty:  # or missing
        measured = mask_util.toBbox([masks[i] for i in empty]).tolist()
        for i, box in zip(empty, measured, strict=True):
            boxes[i] = box
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return list(zip(frames, masks, corners.tolist(), strict=True))
