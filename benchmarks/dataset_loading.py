"""Compare how fast YTVISDataset and MMDetection's YouTubeVISDataset get ready, and how fast it is.

Both read the same synthetic training set of the size of YouTube-VIS 2019: YTVISDataset the official
JSON, MMDetection's class the JSON that its converter makes of it (the time of the conversion is not
counted). Each reads in a process of its own, from the file to the dataset ready for a data loader.
Masks are compressed RLE, or as lists of run lengths, as the official training files have them.

Then frames are drawn through the training pipeline of configs/_base_/datasets/ytvis19.py with
worker processes, clips of two 1280 x 720 frames, resized to 640 x 360 with their masks.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import cv2
import harness
import numpy as np
from synthetic import Scene, make_annotations

ROOT = Path(__file__).resolve().parents[1]
# Of the training set of YouTube-VIS 2019.
NUM_VIDEOS, NUM_FRAMES, NUM_OBJECTS = 2238, 61845, 3774
EXAMPLE = """example:
  python benchmarks/dataset_loading.py
  python benchmarks/dataset_loading.py --masks lists --workers 4
"""


# --- the data ---------------------------------------------------------------------------------


def make_dataset(num_videos: int, masks: str, seed: int = 0) -> dict:
    """Give an official JSON with as many frames and objects per video as YouTube-VIS 2019 has."""
    from mmdet.datasets import YouTubeVISDataset

    YouTubeVISDataset.set_dataset_classes("2019")
    names = YouTubeVISDataset.METAINFO["classes"]
    frames = np.full(num_videos, NUM_FRAMES // NUM_VIDEOS)
    frames[: round(num_videos * (NUM_FRAMES / NUM_VIDEOS % 1))] += 1
    objects = np.full(num_videos, NUM_OBJECTS // NUM_VIDEOS)
    objects[: round(num_videos * (NUM_OBJECTS / NUM_VIDEOS % 1))] += 1
    content = {
        "info": {},
        "videos": [],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "annotations": [],
    }
    for index, (length, count) in enumerate(zip(frames.tolist(), objects.tolist(), strict=True)):
        scene = Scene(videos=1, frames=length, classes=len(names), objects=count)
        part = make_annotations(scene, seed=seed + index)
        (video,) = part["videos"]
        video.update(
            id=index + 1, file_names=[f"{index:05d}/{frame:05d}.jpg" for frame in range(length)]
        )
        content["videos"].append(video)
        for annotation in part["annotations"]:
            del annotation["blobs"]
            annotation.update(id=len(content["annotations"]) + 1, video_id=video["id"])
            if masks == "lists":
                annotation["segmentations"] = [
                    mask and uncompressed(mask) for mask in annotation["segmentations"]
                ]
            content["annotations"].append(annotation)
    return content


def uncompressed(rle: dict) -> dict:
    """Give a compressed RLE as a list of run lengths."""
    from mmvis_plugin.ytvis.rle import decode_runs

    height, width = rle["size"]
    bounds = decode_runs([rle["counts"]]).bounds
    runs = np.diff(bounds, prepend=0, append=height * width)
    return {"size": [height, width], "counts": runs.tolist()}


def write_dataset(folder: Path, num_videos: int, masks: str, num_with_frames: int = 8) -> str:
    """Write the dataset in both layouts, and in ``small`` its videos that have all their frames.

    Returns:
        str: How large it is.
    """
    from mmvis_plugin.datasets.converters import ytvis_to_cocovid

    content = make_dataset(num_videos, masks)
    small = {
        **content,
        "videos": content["videos"][:num_with_frames],
        "annotations": [a for a in content["annotations"] if a["video_id"] <= num_with_frames],
    }
    (folder / "small").mkdir()
    for place, some in ((folder, content), (folder / "small", small)):
        (place / "train.json").write_text(json.dumps(some))
        converted = ytvis_to_cocovid(place / "train.json").content
        (place / "train_coco.json").write_text(json.dumps(converted))
    write_frames(folder / "frames", content, num_with_frames)
    (folder / "small" / "frames").symlink_to(folder / "frames")
    num_frames = sum(video["length"] for video in content["videos"])
    return f"{num_videos} videos, {num_frames} frames, {len(content['annotations'])} objects"


def write_frames(folder: Path, content: dict, num_videos: int) -> None:
    """Write noisy JPEG frames of some videos, and an empty first frame of the others."""
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 255, (90, 160, 3), dtype=np.uint8), (1280, 720))
    for index, video in enumerate(content["videos"]):
        for frame, name in enumerate(video["file_names"]):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if index < num_videos:
                cv2.imwrite(str(path), np.roll(noise, 7 * frame, axis=1))
            elif frame == 0:
                path.touch()


# --- measuring --------------------------------------------------------------------------------


def ours(folder: Path):
    """Build YTVISDataset as a training run does."""
    from mmvis_plugin.datasets import YTVISDataset

    return YTVISDataset(
        data_root=str(folder), ann_file="train.json", data_prefix=dict(img_path="frames/")
    )


def mmdet(folder: Path):
    """Build MMDetection's dataset as a training run does."""
    from mmdet.datasets import YouTubeVISDataset

    return YouTubeVISDataset(
        "2019",
        data_root=str(folder),
        ann_file="train_coco.json",
        data_prefix=dict(img_path="frames/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[],
    )


DATASETS = {"mmvis_plugin": ours, "mmdet": mmdet}


def measure(name: str, folder: Path, repeats: int) -> tuple[float, float, int]:
    """Fastest processor time of building a dataset, in this process, its peak in MB and masks."""
    from mmdet.utils import register_all_modules

    register_all_modules()
    small = folder / "small"
    DATASETS[name](small)  # imports, and compiles what is compiled
    seconds, peaks = [], []
    for _ in range(repeats):
        harness.reset_peak_memory()
        time_taken, dataset = harness.timed(lambda: DATASETS[name](folder))
        seconds.append(time_taken.processor)
        peaks.append(harness.peak_memory() / harness.MEGABYTE)
        objects = sum(
            len(image["instances"])
            for video in range(len(dataset))
            for image in dataset.get_data_info(video)["images"]
        )
    return min(seconds), max(peaks), objects


def frames_per_second(folder: Path, workers: int, num_clips: int) -> float:
    """Draw clips through the training pipeline of the YouTube-VIS configs."""
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.runner import Runner

    import mmvis_plugin  # noqa: F401  (registers)

    register_all_modules()
    cfg = Config.fromfile(ROOT / "configs/_base_/datasets/ytvis19.py").train_dataloader
    cfg.num_workers, cfg.persistent_workers = workers, workers > 0
    cfg.dataset.update(data_root=str(folder), ann_file="train.json")
    cfg.dataset.data_prefix = dict(img_path="frames/")
    loader = iter(Runner.build_dataloader(cfg, seed=0))
    next(loader)  # the workers have started
    start, frames = time.perf_counter(), 0
    for batch, _ in zip(loader, range(num_clips // cfg.batch_size), strict=False):
        frames += sum(len(clip) for clip in batch["inputs"])
    return frames / (time.perf_counter() - start)


def main() -> None:
    parser = harness.make_parser(__doc__, EXAMPLE)
    harness.add_option(
        parser, "--videos", harness.positive, "N", "videos of the training set", NUM_VIDEOS
    )
    parser.add_argument(
        "--masks",
        choices=["compressed", "lists"],
        default="compressed",
        help="compressed RLE, or lists of run lengths (default: %(default)s)",
    )
    harness.add_option(
        parser, "--repeats", harness.positive, "N", "runs of each; the fastest counts", 3
    )
    harness.add_option(
        parser, "--workers", harness.whole, "N", "processes that draw clips, 0 for the main one", 2
    )
    harness.add_option(
        parser, "--clips", harness.whole, "N", "clips to draw through the pipeline, 0 for none", 200
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = write_dataset(folder, args.videos, args.masks)
        print(f"{counts}, masks: {args.masks}. CPU seconds: the fastest of {args.repeats}")
        outcome = {
            dataset: harness.in_own_process(measure, dataset, folder, args.repeats)
            for dataset in DATASETS
        }
        slowest = outcome["mmdet"][0]
        harness.print_table(
            ["dataset", "seconds", "peak MB", "masks", "faster"],
            (
                [name, f"{seconds:.2f}", f"{peak:.0f}", str(masks), f"{slowest / seconds:.1f}x"]
                for name, (seconds, peak, masks) in outcome.items()
            ),
        )
        if args.clips:
            speed = frames_per_second(folder / "small", args.workers, args.clips)
            print(f"training pipeline, {args.workers} workers: {speed:.1f} frames per second")


if __name__ == "__main__":
    main()
