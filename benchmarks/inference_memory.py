"""Does a long video take more memory than a short one? And do its tracks keep their ids?

A generated ShapesVIS video runs forwards and backwards for as long as asked, through the inferencer
and into all formats that grow with a video: official JSON, the table of tracks, MOTS text and the
MP4 with tracks. The largest resident memory of the process is read after the first frames and again
after the last file is closed. Each config has a process of its own.

Models for which no weights are shipped run with random ones and without a score threshold, so that
there are tracks to remember. For those with weights, the ids are held against the objects of the
video: a switch is an object whose mask carries another id than in the frame before.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

import harness
import pycocotools.mask as mask_utils
import torch

from mmvis_plugin.apis import (
    CSVSink,
    FrameResult,
    JSONSink,
    MOTSSink,
    VideoSink,
    VISInferencer,
    build_video_segmentor,
)
from mmvis_plugin.datasets.shapes_vis import generate_video
from mmvis_plugin.files import write_json
from mmvis_plugin.ytvis.categories import SHAPES
from mmvis_plugin.ytvis.rle import encode_masks

EXAMPLE = """example:
  python benchmarks/inference_memory.py maskprop_r18_shapes masktrack_rcnn_r18_shapes
exit code 1 if the memory of a model grows by more than 5 per cent"""
SINKS = {"tracks.json": JSONSink, "tracks.csv": CSVSink, "tracks.txt": MOTSSink}
CLIP_LENGTH, CLIP_SIZE = 24, (96, 128)
MOST_GROWTH = 0.05
SAME = 0.5  # mask overlap (IoU) from which on a track is taken to be an object


def main() -> int:
    args = parse_args()
    rows = []
    for config in args.configs:
        rows.append(harness.in_own_process(measure, config, args.frames, args.short))
        harness.say(json.dumps(rows[-1]))
    after = f"MB after {args.short} frames", f"after {args.frames}"
    more = "growth", "tracks a frame", "tracks", "id switches"
    harness.print_table(["config", "weights", *after, *more], map(row_of, rows))
    if args.out:
        write_json(rows, args.out, indent=2)
    return int(any(growth(row) > MOST_GROWTH for row in rows))


def parse_args() -> argparse.Namespace:
    parser = harness.make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "configs",
        nargs="+",
        metavar="config",
        help="a file, or the name of a config that comes with the package",
    )
    harness.add_option(parser, "--frames", harness.positive, "N", "length of the video", 3000)
    harness.add_option(
        parser, "--short", harness.positive, "N", "frames after which memory is first read", 300
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures as JSON")
    return parser.parse_args()


def measure(config: str, num_frames: int, short: int) -> dict:
    """Memory and switches over a video; ``short`` is the frame at which memory is first read."""
    inferencer = VISInferencer(build_model(config))
    length = (CLIP_LENGTH, CLIP_LENGTH)
    clip = generate_video(7, "valid", 0, length, CLIP_SIZE, len(SHAPES), version=1)
    objects = [encode_masks(masks) for masks in clip.masks]
    switches = Switches()
    ids, num_seen, memory = set(), 0, {}
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sinks = [stack.enter_context(sink(Path(folder, name))) for name, sink in SINKS.items()]
        sinks.append(stack.enter_context(VideoSink(Path(folder, "tracks.mp4"))))
        frames = (clip.frames[n] for n in there_and_back(num_frames))
        results = zip(there_and_back(num_frames), inferencer(frames), strict=True)
        for number, result in results:
            for sink in sinks:
                sink.write(result)
            switches.add(objects[number], result)
            ids.update(track.id for track in result.tracks)
            num_seen += len(result.tracks)
            if result.index + 1 == short:
                memory["short_mb"] = harness.peak_memory() / harness.MEGABYTE
        stack.close()
        memory["long_mb"] = harness.peak_memory() / harness.MEGABYTE
    return {
        "config": config,
        "weights": "shipped" if inferencer.model.weights else "random",
        "frames": [short, num_frames],
        **memory,
        "tracks_per_frame": num_seen / num_frames,
        "tracks": len(ids),
        "switches": switches.count,
        "object_frames": switches.num_followed,
        "processor_ms_per_frame": 1000 * (time.process_time() - start) / num_frames,
    }


def build_model(config: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_video_segmentor(config, require_weights=False)
    if not model.weights:
        cfg = model.cfg.copy()
        cfg.model = without_thresholds(cfg.model.to_dict())
        model = build_video_segmentor(cfg, require_weights=False)
    return model


def without_thresholds(config):
    """The config with every ``score_thr`` at 0."""
    if isinstance(config, dict):
        return {k: 0.0 if k == "score_thr" else without_thresholds(v) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(map(without_thresholds, config))
    return config


def there_and_back(num_frames: int) -> Iterator[int]:
    """Frames of the clip, forwards and backwards without end, so that objects move on steadily."""
    forwards = range(CLIP_LENGTH)
    return islice(cycle([*forwards, *forwards[-2:0:-1]]), num_frames)


class Switches:
    """Counts objects that carry another id than in the frame before."""

    def __init__(self):
        self.count = self.num_followed = 0
        self._before: dict[int, int] = {}

    def add(self, objects: list[dict], result: FrameResult) -> None:
        """Take a frame, with the masks of its objects."""
        now = {}
        rles = [track.rle for track in result.tracks]
        if rles:
            overlaps = mask_utils.iou(rles, objects, [False] * len(objects))
            for number, best in enumerate(overlaps.argmax(axis=0)):
                if overlaps[best, number] >= SAME:
                    now[number] = result.tracks[best].id
        both = now.keys() & self._before.keys()
        self.num_followed += len(both)
        self.count += sum(now[number] != self._before[number] for number in both)
        self._before = now


def growth(row: dict) -> float:
    return row["long_mb"] / row["short_mb"] - 1


def row_of(row: dict) -> list[str]:
    known = row["weights"] == "shipped"
    return [
        Path(row["config"]).stem,
        row["weights"],
        f"{row['short_mb']:.0f}",
        f"{row['long_mb']:.0f}",
        f"{growth(row):+.1%}",
        f"{row['tracks_per_frame']:.1f}",
        str(row["tracks"]),
        f"{row['switches']} of {row['object_frames']}" if known else "-",
    ]


if __name__ == "__main__":
    sys.exit(main())
