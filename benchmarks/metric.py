"""Compare YTVISMetric with MMDetection's YouTubeVISMetric, from dense masks to the table.

Both take the same predictions, frame by frame or video by video as each expects them: dense boolean
masks as a model returns them, a new copy for each video. Each runs in a process of its own. The
processor's time for making the masks is not counted; memory is the most that the process held, with
the masks of the video at hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import harness
import numpy as np
import torch
from pycocotools import mask as mask_utils
from synthetic import Scene, write_scene

EXAMPLE = """example:
  python benchmarks/metric.py --videos 60 --tracks 10
"""


def make_metric(name: str, folder: Path, classes: list[str]):
    """Build a metric of either package."""
    if name == "mmdet":
        from mmdet.evaluation import YouTubeVISMetric

        metric = YouTubeVISMetric()
    else:
        from mmvis_plugin.evaluation import YTVISMetric

        metric = YTVISMetric(ann_file=str(folder / "gt.json"))
    metric.dataset_meta = {"classes": classes}
    return metric


def predictions(gt: dict, results: list[dict]) -> Iterator[list]:
    """Give the frames of each video as a video model returns them, with dense masks."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    tracks, objects = defaultdict(list), defaultdict(list)
    for table, items in ((tracks, results), (objects, gt["annotations"])):
        for item in items:
            table[item["video_id"]].append(item)
    image_id = 0
    for video in gt["videos"]:
        frames = []
        for t in range(video["length"]):
            present = [
                (n, track, track["segmentations"][t])
                for n, track in enumerate(tracks[video["id"]])
                if track["segmentations"][t]
            ]
            masks = mask_utils.decode([mask for _, _, mask in present]).transpose(2, 0, 1)
            sample = DetDataSample(
                metainfo=dict(
                    img_id=image_id,
                    video_id=video["id"],
                    frame_id=t,
                    ori_video_length=video["length"],
                    ori_shape=(video["height"], video["width"]),
                    # MMDetection's metric takes the annotations from the samples.
                    instances=[
                        dict(
                            bbox_label=item["category_id"] - 1,
                            bbox=corners(item["bboxes"][t]),
                            mask=dict(item["segmentations"][t]),
                            instance_id=item["id"],
                            ignore_flag=0,
                        )
                        for item in objects[video["id"]]
                        if item["segmentations"][t]
                    ],
                )
            )
            sample.pred_track_instances = InstanceData(
                instances_id=torch.tensor([n for n, _, _ in present]),
                labels=torch.tensor([track["category_id"] - 1 for _, track, _ in present]),
                scores=torch.tensor([track["score"] for _, track, _ in present]),
                bboxes=torch.zeros(len(present), 4),
                masks=torch.from_numpy(np.ascontiguousarray(masks)).bool(),
            )
            frames.append(sample)
            image_id += 1
        yield frames


def corners(box: list[float]) -> list[float]:
    """Give x1, y1, x2, y2 of x, y, width, height."""
    x, y, width, height = box
    return [x, y, x + width, y + height]


def measure(name: str, folder: Path) -> list[str]:
    """Row of the table: one metric on the files of a folder, in this process."""
    from mmdet.structures import TrackDataSample

    gt = json.loads((folder / "gt.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    classes = [category["name"] for category in gt["categories"]]
    harness.reset_peak_memory()
    metric = make_metric(name, folder, classes)
    seconds = [harness.timed(lambda: metric.process({}, []))[0]]  # reads the annotations
    old_numpy = mock.patch.object(np, "float", float, create=True)
    with contextlib.redirect_stdout(io.StringIO()), old_numpy:
        for frames in predictions(gt, results):
            sample = TrackDataSample()
            sample.video_data_samples = frames
            # MMEngine's Evaluator gives the samples as dicts.
            seconds.append(
                harness.timed(lambda sample=sample: metric.process({}, [sample.to_dict()]))[0]
            )
        last, figures = harness.timed(lambda: metric.evaluate(len(gt["videos"])))
    total = harness.combine([*seconds, last], sum).processor
    key = "youtube_vis/segm_mAP" if name == "mmdet" else "ytvis/AP"
    peak = harness.peak_memory() / harness.MEGABYTE
    return [name, f"{total:.2f}", f"{peak:.0f}", f"{figures[key]:.4f}"]


def main() -> None:
    parser = harness.make_parser(__doc__, EXAMPLE)
    harness.add_option(parser, "--videos", harness.positive, "N", "videos of the dataset", 60)
    harness.add_option(parser, "--frames", harness.positive, "N", "frames of a video", 25)
    harness.add_option(parser, "--tracks", harness.positive, "N", "results of a video", 10)
    args = parser.parse_args()
    scene = Scene(videos=args.videos, frames=args.frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder, scene, args.tracks)
        print(f"{scene}, {args.tracks} tracks per video")
        harness.print_table(
            ["metric", "CPU seconds", "peak MB", "AP"],
            (
                harness.in_own_process(measure, metric, folder)
                for metric in ("mmvis_plugin", "mmdet")
            ),
        )


if __name__ == "__main__":
    main()
