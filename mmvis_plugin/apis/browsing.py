"""Pictures of a dataset: its videos with their tracks, its training clips, its statistics."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmdet.registry import DATASETS
from mmengine.registry import DATA_SAMPLERS, init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmvis_plugin.config import load_config
from mmvis_plugin.evaluation import load_ground_truth, load_results
from mmvis_plugin.files import write_picture
from mmvis_plugin.video import VideoWriter
from mmvis_plugin.visualization import TrackVisualizer
from mmvis_plugin.visualization.contact_sheet import Section, contact_sheet, resize_frame
from mmvis_plugin.visualization.timeline import figure_pixels

SIZE_LIMITS = (128, 256)  # between small, medium and large tracks, in pixels a side
BLUE, ORANGE = "#0072B2", "#D55E00"


# --- what there is to draw ----------------------------------------------------------------------


def name_videos(infos: list[dict], images: Path) -> list[str]:
    """Name of each video: the folder its frames lie in, in the folder of images."""
    names = []
    for info in infos:
        folder = Path(os.path.relpath(info["images"][0]["img_path"], images)).parent
        names.append(f"video {info['video_id']}" if folder == Path() else folder.as_posix())
    return names


def choose_videos(infos: list[dict], images: Path, wanted: list[str]) -> list[tuple[str, dict]]:
    """Videos of these ids, names or last parts of a name, or 'all', each with a name for files."""
    names = name_videos(infos, images)
    chosen = range(len(infos)) if wanted == ["all"] else []
    for text in wanted if wanted != ["all"] else []:
        found = [
            i
            for i, (info, name) in enumerate(zip(infos, names, strict=True))
            if text in (str(info["video_id"]), name, Path(name).name)
        ]
        if not found:
            pairs = zip(infos[:5], names, strict=False)
            known = ", ".join(f"{info['video_id']} ({name})" for info, name in pairs)
            raise ValueError(f"there is no video of id or name {text}; the first are {known}")
        chosen += found
    counts = Counter(names)
    return [
        (names[i].replace("/", "_") + f"_{infos[i]['video_id']}" * (counts[names[i]] > 1), infos[i])
        for i in dict.fromkeys(chosen)
    ]


def annotated_instances(info: dict) -> list[InstanceData]:
    """The annotations of a video, frame by frame."""
    frames = []
    for image in info["images"]:
        objects = image["instances"]
        frames.append(
            InstanceData(
                bboxes=np.array([o["bbox"] for o in objects]).reshape(-1, 4),
                labels=np.array([o["bbox_label"] for o in objects], int),
                instances_id=np.array([o["instance_id"] for o in objects], int),
                masks=[o["mask"] for o in objects],
            )
        )
    return frames


def require_frames(infos: list[dict], images: Path) -> None:
    """Make sure that there are frames before anything slow begins: the first of each video."""
    if infos and not images.is_dir():
        raise ValueError(f"{images}: no such folder; --images is the folder of the frames")
    for info in infos:
        path = info["images"][0]["img_path"]
        if not os.path.exists(path):
            raise ValueError(
                f"video {info['video_id']}: frame {path} is missing; --images is the folder that "
                "the JSON's file_names are relative to"
            )


def load_tracks(path: Path, metainfo: dict) -> dict[int, list[tuple]]:
    """Results by video id: each track with its label, best score first."""
    labels = {category: label for label, category in enumerate(metainfo["category_ids"])}
    by_video = defaultdict(list)
    tracks = load_results(path, load_ground_truth(metainfo["annotations"]))
    for (video_id, category), found in tracks.items():
        by_video[video_id] += [(labels[category], track) for track in found]
    for found in by_video.values():
        found.sort(key=lambda pair: -pair[1].score)
    return by_video


def result_instances(info: dict, tracks: list[tuple]) -> list[InstanceData]:
    """The results of a video, frame by frame; a track's identity is its rank by score."""
    found: list[list[tuple]] = [[] for _ in info["images"]]
    for rank, (label, track) in enumerate(tracks):
        rles = track.rles
        for frame in np.flatnonzero(track.areas):
            rle = rles[frame]
            x, y, w, h = mask_utils.toBbox(rle)
            found[frame].append(((x, y, x + w, y + h), label, track.score, rank, rle))
    frames = []
    for objects in found:
        bboxes, labels, scores, ids, masks = zip(*objects, strict=True) if objects else [()] * 5
        frames.append(
            InstanceData(
                bboxes=np.array(bboxes).reshape(-1, 4),
                labels=np.array(labels, int),
                scores=np.array(scores, float),
                instances_id=np.array(ids, int),
                masks=list(masks),
            )
        )
    return frames


# --- pictures -----------------------------------------------------------------------------------


def draw_frames(
    info: dict,
    instances: list[InstanceData],
    visualizer: TrackVisualizer,
    frames: Sequence[int],
    width: int,
) -> Iterator[np.ndarray]:
    """Pictures (H, width, 3), uint8 BGR, of some frames of a video."""
    for frame in frames:
        image = info["images"][frame]
        path = image["img_path"]
        data = np.fromfile(path, np.uint8) if os.path.exists(path) else np.zeros(0, np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if picture is None:
            raise ValueError(f"video {info['video_id']}: frame {path} is missing or no image")
        if picture.shape[:2] != (image["height"], image["width"]):
            raise ValueError(
                f"video {info['video_id']}: frame {path} is {picture.shape[:2]} pixels (height, "
                f"width), the JSON says {(image['height'], image['width'])}"
            )
        yield visualizer.draw(*resize_frame(picture, instances[frame], width))


def write_mp4(pictures: Iterator[np.ndarray], path: Path, fps: float) -> None:
    """Write pictures of one size as a video."""
    first = next(pictures)
    with VideoWriter(path, Fraction(fps).limit_denominator(1001), first.shape[1::-1]) as writer:
        for picture in chain([first], pictures):
            writer.write(picture)


# --- statistics ---------------------------------------------------------------------------------


def statistics(infos: list[dict], classes: tuple[str, ...]) -> dict:
    """Lengths and sizes of all tracks.

    Returns:
        dict: ``per_class`` (tracks by class name), ``track_length`` (frames in which a track is
        present), ``track_share`` (of its video's frames), ``track_size`` (square root of the mean
        mask area, in pixels), ``objects_per_video`` and ``video_length``; lists, one entry a track
        or video.
    """
    per_class = dict.fromkeys(classes, 0)
    lengths, shares, sizes, counts = [], [], [], []
    for info in infos:
        tracks: dict[int, list] = {}
        for image in info["images"]:
            for instance in image["instances"]:
                tracks.setdefault(instance["instance_id"], []).append(instance)
        for instances in tracks.values():
            per_class[classes[instances[0]["bbox_label"]]] += 1
            lengths.append(len(instances))
            shares.append(len(instances) / info["video_length"])
            areas = mask_utils.area([instance["mask"] for instance in instances])
            sizes.append(float(np.sqrt(areas.mean())))
        counts.append(len(tracks))
    return dict(
        per_class=per_class,
        track_length=lengths,
        track_share=shares,
        track_size=sizes,
        objects_per_video=counts,
        video_length=[info["video_length"] for info in infos],
    )


def plot_statistics(stats: dict, path: Path) -> None:
    """Five panels: tracks per class, their lengths, presence and sizes, objects per video."""
    names = sorted(stats["per_class"], key=stats["per_class"].get)
    size = (11, max(6.5, 0.17 * len(names) + 1))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = figure.add_gridspec(2, 3)
    bars, lengths, shares, sizes, objects = (
        figure.add_subplot(cell)
        for cell in (grid[:, 0], grid[0, 1], grid[0, 2], grid[1, 1], grid[1, 2])
    )
    bars.barh(names, [stats["per_class"][name] for name in names], color=BLUE)
    bars.set(xlabel="tracks", title="Classes")
    bars.tick_params(axis="y", labelsize=max(5, min(10, 400 / max(len(names), 1))))
    bars.margins(y=0.01)

    last = max([*stats["track_length"], *stats["video_length"]])
    bins = np.linspace(0.5, last + 0.5, min(last, 40) + 1)
    lengths.hist(stats["track_length"], bins, color=BLUE, label="tracks")
    lengths.hist(stats["video_length"], bins, color=ORANGE, histtype="step", lw=1.5, label="videos")
    lengths.set(xlabel="frames in which it is present", ylabel="number", title="Length")
    lengths.legend()
    shares.hist(stats["track_share"], np.linspace(0, 1, 21), color=BLUE)
    shares.set(xlabel="share of the video's frames", ylabel="tracks", title="Presence")

    if stats["track_size"]:
        low, high = min(stats["track_size"]), max(stats["track_size"])
        sizes.hist(stats["track_size"], np.geomspace(low * 0.99, high * 1.01, 31), color=BLUE)
        sizes.set_xscale("log", base=2)
        sizes.xaxis.set_major_formatter("{x:.0f}")
        for limit in SIZE_LIMITS:
            sizes.axvline(limit, color=ORANGE, lw=1.5)
    sizes.set(
        xlabel="square root of the mean mask area, pixels\n(lines: small | medium | large)",
        ylabel="tracks",
        title="Size",
    )
    most = max(stats["objects_per_video"])
    objects.hist(stats["objects_per_video"], np.arange(-0.5, most + 1), color=BLUE)
    for axis in (
        bars.xaxis,
        lengths.yaxis,
        shares.yaxis,
        sizes.yaxis,
        objects.xaxis,
        objects.yaxis,
    ):
        axis.get_major_locator().set_params(integer=True)
    objects.set(xlabel="objects", ylabel="videos", title="Objects per video")
    for axes in (bars, lengths, shares, sizes, objects):
        axes.spines[["top", "right"]].set_visible(False)
    write_picture(figure_pixels(figure), path)


def describe(stats: dict) -> str:
    """The statistics as text."""
    lines = [f"{sum(stats['per_class'].values())} tracks in {len(stats['video_length'])} videos"]
    for key, what in (
        ("video_length", "frames of a video"),
        ("objects_per_video", "objects in a video"),
        ("track_length", "frames of a track"),
        ("track_size", "size of a track in pixels"),
    ):
        if stats[key]:
            low, middle, high = np.percentile(stats[key], (0, 50, 100))
            lines.append(f"{what}: {low:.0f} to {high:.0f}, median {middle:.0f}")
    lines += [f"  {name}: {count}" for name, count in stats["per_class"].items()]
    return "\n".join(lines)


def draw_clips(config: str, settings: dict, out: Path, count: int, columns: int, width: int):
    """Write the first training clips of a config, as its pipeline gives them, as contact sheets.

    Args:
        config: Config file or name.
        settings: Settings that replace those of the config.
        out: Folder to write to.
        count: Number of clips.
        columns: Pictures in a row of a sheet.
        width: Width of each frame in pixels.

    Yields:
        Path: Each file that was written.
    """
    cfg = load_config(config, settings)
    init_default_scope("mmdet")
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(
        cfg.train_dataloader.sampler, default_args=dict(dataset=dataset, seed=0)
    )
    visualizer = TrackVisualizer(dataset.metainfo["classes"])
    out.mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(islice(iter(sampler), count)):
        clip = dataset[index]
        sheet = Section()
        size = clip["inputs"].shape[-2:]
        for frame, sample in zip(clip["inputs"], clip["data_samples"], strict=True):
            picture = np.ascontiguousarray(frame.permute(1, 2, 0).numpy(), np.uint8)
            instances = _as_instances(sample.gt_instances)
            sheet.pictures.append(visualizer.draw(*resize_frame(picture, instances, width)))
            sheet.captions.append(f"frame {sample.frame_id}")
        sheet.title = f"clip {number}, {size[1]} x {size[0]} pixels"
        path = out / f"clip_{number:03d}.png"
        write_picture(contact_sheet([sheet], columns), path)
        yield path


def _as_instances(truth: InstanceData) -> InstanceData:
    masks = truth.masks.to_ndarray()
    return InstanceData(
        bboxes=getattr(truth.bboxes, "tensor", truth.bboxes).numpy(),
        labels=truth.labels.numpy(),
        instances_id=truth.instances_ids.numpy(),
        masks=[mask_utils.encode(np.asfortranarray(mask, np.uint8)) for mask in masks],
    )
