"""The YouTube-VIS protocol as an MMEngine metric."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.dist import broadcast_object_list, collect_results, get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmvis_plugin.files import replacing
from mmvis_plugin.ytvis.masks import parse_counts
from mmvis_plugin.ytvis.reader import YTVIS
from mmvis_plugin.ytvis.rle import RLEError, encode_masks, mask_areas

from .protocol import VideoMatches, accumulate, match_videos
from .tracks import GroundTruth, Track, Video
from .ytvis_eval import format_table, load_ground_truth

_PREDICTED_TWICE = (
    "video {}, frame {} was predicted twice. Every video must be tested once: use a sampler with "
    "round_up=False"
)


@METRICS.register_module()
class YTVISMetric(BaseMetric):
    """Average precision of mask tracks, or a submission where there is nothing to score with.

    It takes what a video model returns, in any portions: whole videos, single frames, several
    frames at a time, or nothing yet. Frames are told apart by ``video_id`` and ``frame_id``. Masks
    are run-length encoded as they come. A video is matched to its annotations when its last frame
    has come, and its masks are let go unless results are written.

    With several processes each matches its own videos, and what is gathered are the small records
    of that; the figures come from all of them together. Results that are written are gathered too:
    the file is one list in the order of the videos, which one process has to write.

    Where a sample has ``pred_tracks``, each of its rows is a track, with the row's class and score;
    an identity may have a row for each of several classes, and one without a row is dropped.
    Otherwise a track has the class of most of its frames (of equals the first in the list) and the
    mean of their scores. A track is present in every frame that lists it, also with an empty mask:
    that frame counts for its class and score, as in the methods' original code. Classes are found
    in the annotation file by their name; categories that are not among the dataset's classes are
    not scored. Of a dataset that holds a part of the file's videos (``indices``), those are scored.

    An annotation file without annotations (the official validation and test sets) cannot be scored:
    the results are then written for the benchmark's server and no figures are returned.

    Args:
        ann_file: Path of the YouTube-VIS JSON. By default the dataset's own (``ann_file`` in its
            metainfo), which is not read again if the metainfo has its ``annotations``.
        format_only: Write the results and do not score them.
        outfile_prefix: Write ``<outfile_prefix>.json`` and, for the server, the same as
            ``results.json`` inside ``<outfile_prefix>.submission_file.zip``. By default they are
            written only when they are not scored, as ``results`` in the current directory.
        duplicate_ids: What to do with an instance id that occurs twice in a frame: ``'error'``, or
            ``'last'`` to keep the last of them. MMDetection's MaskTrackRCNN needs ``'last'``: its
            tracker can give one object to several candidates, of which the last fits best.
        collect_device: ``'cpu'`` or ``'gpu'``, by which the processes' results are gathered.
        prefix: Comes before the names of the figures, ``ytvis`` by default.
        collect_dir: Shared directory in which the results are gathered on the CPU.
    """

    default_prefix = "ytvis"

    def __init__(
        self,
        ann_file: str | os.PathLike | None = None,
        format_only: bool = False,
        outfile_prefix: str | os.PathLike | None = None,
        duplicate_ids: str = "error",
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if duplicate_ids not in ("error", "last"):
            raise ValueError(f"duplicate_ids must be 'error' or 'last', got {duplicate_ids!r}")
        self.ann_file = ann_file
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.duplicate_ids = duplicate_ids
        self._loaded: tuple[tuple, _Task] | None = None
        self._open: dict[Any, _VideoTracks] = {}
        self._done: dict[Any, VideoResult] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the predictions of some frames.

        Args:
            data_batch: Not used.
            data_samples: The model's output as dicts, possibly none. Each has
                ``video_data_samples``, unless no frame is final: frames with
                ``pred_track_instances`` (``instances_id``, ``labels``, ``scores``, each (n,), and
                ``masks``: n RLEs, or a bool or integer array or tensor (n, h, w), of the video's
                size) and the metainfo ``video_id``, ``frame_id`` and ``ori_video_length``; and on
                a video's last frame optionally ``pred_tracks`` (``instances_id``, ``labels``,
                ``scores``, each (m,)). Instances with a negative id belong to no track and are
                dropped.

        Raises:
            ValueError: The predictions do not fit together or do not fit the annotation file, or a
                frame comes twice; the message names video and frame.
        """
        # Now, not after hours of prediction: a class without a category is an error.
        num_classes = len(self._task.category_ids)
        for sample in data_samples:
            video = None
            for frame in sample.get("video_data_samples", ()):
                video = self._video_of(frame)
                video.add_frame(frame, num_classes, self.duplicate_ids)
            if sample.get("pred_tracks") is not None:
                if video is None:
                    raise ValueError(
                        "a sample has pred_tracks but no frame that says of what video"
                    )
                video.set_tracks(sample["pred_tracks"], num_classes)
            for video_id in [key for key, video in self._open.items() if not video.num_missing]:
                self._done[video_id] = self._finish(self._open.pop(video_id))

    def evaluate(self, size: int) -> dict:
        """Gather the videos of all processes and score them.

        Args:
            size: Length of the dataset. Not used: what is gathered are videos, each of them once.

        Returns:
            dict: Figures by name, for instance ``ytvis/AP``, the same in every process; empty
            where there is nothing to score with.

        Raises:
            ValueError: A video is incomplete or was predicted by two processes.
            RuntimeError: The main process failed, in the other processes.
        """
        incomplete = [VideoResult(id_, v.num_missing, None, []) for id_, v in self._open.items()]
        videos = [*self._done.values(), *incomplete]
        self._done, self._open = {}, {}
        # One item per process, so that nothing is cut off or mixed with another's.
        parts = collect_results([videos], get_world_size(), self.collect_device, self.collect_dir)
        outcome: list = [None, None]
        error = None
        if is_main_process():
            try:
                metrics = self.compute_metrics([video for part in parts for video in part])
                outcome[0] = {f"{self.prefix}/{name}": value for name, value in metrics.items()}
            except Exception as caught:  # the other processes wait for the outcome
                error, outcome[1] = caught, f"{type(caught).__name__}: {caught}"
        broadcast_object_list(outcome)
        if error is not None:
            raise error
        if outcome[1] is not None:
            raise RuntimeError(f"the main process could not evaluate: {outcome[1]}")
        return outcome[0]

    def compute_metrics(self, results: list) -> dict:
        """Score and write the gathered videos.

        Args:
            results: A :class:`VideoResult` per video.

        Returns:
            dict: The figures of :func:`evaluate_ytvis` over all classes, or an empty dict.
        """
        gt = self._task.gt
        position = {video_id: index for index, video_id in enumerate(gt.videos)}
        results = sorted(results, key=lambda video: position[video.video_id])
        _check_complete(results, gt)
        figures = self._score(results) if self._scores else {}
        if not gt.tracks:
            print_log(
                f"Nothing was scored: {self._ann_path()} has no annotations. The official "
                "validation and test sets come without; upload the zip file to the benchmark's "
                "server, or validate on videos held out from the training set.",
                logger="current",
                level=logging.WARNING,
            )
        if self._writes:  # last: a full disk must not take the figures with it
            entries = [entry for video in results for entry in video.entries]
            _write_submission(entries, Path(self.outfile_prefix or "results").absolute())
        return figures

    def _score(self, results: list[VideoResult]) -> dict:
        gt = self._task.gt
        matches = {video.video_id: video.matches for video in results}
        unseen = [video_id for video_id in gt.videos if video_id not in matches]
        matches.update((record.video_id, record) for record in match_videos(gt, {}, unseen))
        stats = accumulate([matches[key] for key in gt.videos], list(gt.categories.values()))
        print_log(f"YouTube-VIS evaluation\n{format_table(stats)}", logger="current")
        return {name: value for name, value in stats.items() if name != "per_class"}

    @property
    def _scores(self) -> bool:
        return bool(self._task.gt.tracks) and not self.format_only

    @property
    def _writes(self) -> bool:
        return self.outfile_prefix is not None or not self._scores

    def _finish(self, video: _VideoTracks) -> VideoResult:
        """Match a video and note what is to be written of it."""
        category_ids = self._task.category_ids
        tracks = video.tracks()
        entries, matches = [], None
        if self._writes:
            entries = [
                {
                    "video_id": video.video_id,
                    "score": track.score,
                    "category_id": category_ids[label],
                    "segmentations": track.rles,
                }
                for label, track in tracks
            ]
        if self._scores:
            by_category = defaultdict(list)
            for label, track in tracks:
                by_category[video.video_id, category_ids[label]].append(track)
            (matches,) = match_videos(self._task.gt, by_category, [video.video_id])
        return VideoResult(video.video_id, 0, matches, entries)

    def _ann_path(self) -> str:
        path = self.ann_file or (self.dataset_meta or {}).get("ann_file")
        if not path:
            raise ValueError(
                "YTVISMetric has no annotation file: set its ann_file, or use YTVISDataset, whose "
                "metainfo names one"
            )
        return os.fspath(path)

    @property
    def _task(self) -> _Task:
        meta = self.dataset_meta or {}
        key = self._ann_path(), meta.get("classes"), meta.get("video_ids")
        if self._loaded is None or self._loaded[0] != key:
            is_of_dataset = key[0] == meta.get("ann_file")
            annotations = meta.get("annotations") if is_of_dataset else None
            self._loaded = key, _load_task(annotations or key[0], *key[1:])
        return self._loaded[1]

    def _video_of(self, frame: Any) -> _VideoTracks:
        video_id = frame.get("video_id")
        if video_id in self._done:
            raise ValueError(_PREDICTED_TWICE.format(video_id, frame.get("frame_id")))
        if video_id not in self._open:
            facts = self._task.gt.videos.get(video_id)
            if facts is None:
                raise ValueError(f"video {video_id} is not in {self._ann_path()}")
            length = frame.get("ori_video_length")
            if length not in (None, facts.length):
                raise ValueError(
                    f"video {video_id} has {length} frames in the dataset and {facts.length} in "
                    f"{self._ann_path()}"
                )
            self._open[video_id] = _VideoTracks(video_id, facts)
        return self._open[video_id]


class VideoResult(NamedTuple):
    """What is kept of a video.

    Attributes:
        video_id: Its id in the annotation file.
        missing_frames: Number of frames that were not predicted; 0 if the video is complete.
        matches: How its tracks were matched, None if that is not scored.
        entries: Its tracks as in a ``results.json``, by falling score, if that is written.
    """

    video_id: Any
    missing_frames: int
    matches: VideoMatches | None
    entries: list[dict]


class _Task(NamedTuple):
    """The annotations, with the dataset's classes and videos, and the category id of each label.

    Classes and videos that the dataset leaves out are not held against the model.
    """

    gt: GroundTruth
    category_ids: list


def _load_task(
    source: YTVIS | str, classes: Sequence[str] | None, video_ids: Sequence | None = None
) -> _Task:
    if classes is None:
        raise ValueError("YTVISMetric needs 'classes' in the dataset's metainfo")
    gt = load_ground_truth(source)
    ids = {name: key for key, name in gt.categories.items()}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise ValueError(
            f"{getattr(source, 'name', source)} has no category for the classes "
            f"{', '.join(missing)}; its categories are {', '.join(map(str, ids))}"
        )
    category_ids = [ids[name] for name in classes]
    names = {key: name for key, name in gt.categories.items() if key in category_ids}
    if video_ids is not None:
        videos = {key: gt.videos[key] for key in gt.videos if key in {*video_ids}}
        tracks = {key: found for key, found in gt.tracks.items() if key[0] in videos}
        gt = replace(gt, videos=videos, tracks=tracks)
    return _Task(replace(gt, categories=names), category_ids)


class _VideoTracks:
    """The tracks of one video while its frames come in."""

    def __init__(self, video_id: Any, facts: Video) -> None:
        self.video_id = video_id
        self.facts = facts
        self.frames: set[int] = set()
        self.observations: dict[int, list[tuple]] = {}  # id: (frame, label, score, counts) ...
        self.final: dict[int, list[tuple]] | None = None  # id: (label, score) ...

    def add_frame(self, frame: Any, num_classes: int, duplicate_ids: str) -> None:
        """Add a frame's instances; it is a data sample or a dict of the same keys."""
        frame_id = frame.get("frame_id")
        where = f"video {self.video_id}, frame {frame_id}"
        if not isinstance(frame_id, (int, np.integer)) or not 0 <= frame_id < self.facts.length:
            raise ValueError(f"{where}: frames count from 0 to {self.facts.length - 1}")
        if frame_id in self.frames:
            raise ValueError(_PREDICTED_TWICE.format(self.video_id, frame_id))
        instances = frame.get("pred_track_instances")
        if instances is None:
            raise ValueError(f"{where} has no pred_track_instances")
        counts = _encode_masks(instances.get("masks"), self.facts, where)
        ids, labels, scores = _check_instances(instances, len(counts), num_classes, where)
        if duplicate_ids == "error":
            _check_unique(ids[ids >= 0], where)
        self.frames.add(frame_id)
        # A later instance takes the place of an earlier one with its id.
        present = {ids[i]: i for i in range(len(ids)) if ids[i] >= 0}
        for track_id, i in present.items():
            observation = (frame_id, labels[i], scores[i], counts[i])
            self.observations.setdefault(int(track_id), []).append(observation)

    def set_tracks(self, tracks: Any, num_classes: int) -> None:
        """Set the final classes and scores of tracks."""
        where = f"video {self.video_id}, pred_tracks"
        count = len(tracks.get("instances_id", ()))
        ids, labels, scores = _check_instances(tracks, count, num_classes, where)
        rows = list(zip(ids.tolist(), labels.tolist(), scores.tolist(), strict=True))
        repeated = [row for row, n in Counter(row[:2] for row in rows).items() if n > 1]
        if repeated:
            raise ValueError(f"{where}: (instances_id, label) {repeated} are there more than once")
        self.final = defaultdict(list)
        for track_id, label, score in rows:
            self.final[track_id].append((label, score))

    @property
    def num_missing(self) -> int:
        """Number of frames that have not come."""
        return self.facts.length - len(self.frames)

    def tracks(self) -> list[tuple[int, Track]]:
        """Give the tracks that are present in a frame, with their labels, by falling score."""
        tracks = []
        for track_id, observations in self.observations.items():
            frames, labels, scores, counts = zip(*observations, strict=True)
            masks = [""] * self.facts.length
            for frame, text in zip(frames, counts, strict=True):
                masks[frame] = text
            where = f"video {self.video_id}, instance {track_id}"
            vote = int(np.bincount(labels).argmax()), float(np.mean(scores))
            rows = [vote] if self.final is None else self.final.get(track_id, ())
            tracks += [(label, Track(masks, self.facts, where, score)) for label, score in rows]
        return sorted(tracks, key=lambda entry: -entry[1].score)


def _encode_masks(masks: Any, facts: Video, where: str) -> list[str]:
    """Give the texts of n masks as compressed RLE."""
    if masks is None:
        raise ValueError(f"{where}: pred_track_instances has no masks")
    if len(masks) == 0:
        return []
    if isinstance(masks, (np.ndarray, torch.Tensor)):
        return [rle["counts"] for rle in _encode_dense(masks, facts, where)]
    try:
        counts = parse_counts(masks, len(masks), facts.height, facts.width)
        mask_areas(counts, facts.height, facts.width)  # checks them
    except RLEError as error:
        raise ValueError(f"{where}, mask {error.index}: {error}") from None
    return counts


def _encode_dense(masks: np.ndarray | torch.Tensor, facts: Video, where: str) -> list[dict]:
    """Encode (n, h, w) masks, in which everything but 0 is foreground."""
    if masks.ndim != 3 or tuple(masks.shape[1:]) != (facts.height, facts.width):
        raise ValueError(
            f"{where}: masks of shape {tuple(masks.shape)}, but the annotation file's video is "
            f"(n, {facts.height}, {facts.width})"
        )
    if "float" in str(masks.dtype):
        raise ValueError(f"{where}: masks are {masks.dtype}; threshold them to bool first")
    return encode_masks(masks)


def _check_instances(
    instances: Any, count: int, num_classes: int, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give ids, labels and scores, each (count,), of an InstanceData or a dict."""
    arrays = []
    for key, dtype in (
        ("instances_id", torch.int64),
        ("labels", torch.int64),
        ("scores", torch.float64),
    ):
        if instances.get(key) is None:
            raise ValueError(f"{where} has no {key}")
        array = torch.as_tensor(instances.get(key), dtype=dtype, device="cpu").numpy()
        if array.shape != (count,):
            raise ValueError(f"{where}: {key} has shape {array.shape}, expected ({count},)")
        arrays.append(array)
    _, labels, scores = arrays
    if count and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"{where}: labels from {labels.min()} to {labels.max()}, but there are {num_classes} "
            "classes"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{where}: a score is not finite")
    return tuple(arrays)


def _check_unique(ids: np.ndarray, where: str) -> None:
    repeated = [track_id for track_id, count in Counter(ids.tolist()).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{where}: instances_id has {repeated} more than once (YTVISMetric's "
            "duplicate_ids='last' keeps the last in a frame)"
        )


def _check_complete(results: list[VideoResult], gt: GroundTruth) -> None:
    """Check that each video came once and whole; warn of videos that never came."""
    counts = Counter(video.video_id for video in results)
    repeated = [video_id for video_id, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"video {repeated[0]} was predicted by {counts[repeated[0]]} processes. Every video "
            "must be tested once, by one process: use a sampler with round_up=False that does not "
            "cut videos"
        )
    for video in results:
        if video.missing_frames:
            raise ValueError(
                f"video {video.video_id} is incomplete: {video.missing_frames} of "
                f"{gt.videos[video.video_id].length} frames were not predicted"
            )
    unseen = [str(video_id) for video_id in gt.videos if video_id not in counts]
    if unseen:
        names = ", ".join([*unseen[:5], "..."] if len(unseen) > 5 else unseen)
        print_log(
            f"{len(unseen)} of {len(gt.videos)} videos were not predicted and count as without "
            f"tracks: {names}",
            logger="current",
            level=logging.WARNING,
        )


def _write_submission(entries: list[dict], prefix: Path) -> None:
    """Write the results as JSON and as the zip that the benchmark's server takes."""
    json_path = prefix.with_name(f"{prefix.name}.json")
    zip_path = prefix.with_name(f"{prefix.name}.submission_file.zip")
    with replacing(json_path) as temporary, open(temporary, "w", encoding="ascii") as file:
        separator = "["
        for entry in entries:
            file.write(separator + json.dumps(entry, allow_nan=False))
            separator = ",\n"
        file.write("]\n" if entries else "[]\n")
    member = zipfile.ZipInfo("results.json")  # dated 1980: the same results give the same bytes
    member.compress_type = zipfile.ZIP_DEFLATED
    with (
        replacing(zip_path) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
        open(json_path, "rb") as source,
        archive.open(member, "w", force_zip64=True) as target,
    ):
        shutil.copyfileobj(source, target)
    print_log(
        f"Results: {json_path}\nFor the benchmark's server: {zip_path} (holds results.json)",
        logger="current",
    )
