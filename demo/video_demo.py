"""Segment a video and write it with its tracks painted on."""

import argparse
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from mmengine.config import DictAction
from mmengine.structures import InstanceData
from tqdm import tqdm

from mmvis_plugin.apis import VideoReader, VideoWriter, build_video_segmentor, segment_video
from mmvis_plugin.utils.checkpoint import CheckpointError, forbid_unsafe_loading
from mmvis_plugin.visualization import TrackVisualizer

EXAMPLES = """examples:
  python demo/video_demo.py clip.mp4 configs/maskprop/maskprop_r18_shapes.py --out tracks.mp4
  python demo/video_demo.py frames/ CONFIG.py CHECKPOINT.pth --out tracks.mp4 --fps 30000/1001
  python demo/video_demo.py 0 CONFIG.py CHECKPOINT.pth --out camera.mp4    (Ctrl-C ends it)

Each track has one colour for its identity, and mask, box, class, id and score in every frame. A
label shows what the model gives that very frame; the summary at the end counts each track once,
under its final class. Ctrl-C closes the file properly: it holds the frames until then.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", help="video file, folder of frames, or camera index")
    parser.add_argument("config", help="config of the model")
    parser.add_argument(
        "checkpoint", nargs="?", help="weights, file or URL; default: those shipped for the config"
    )
    parser.add_argument("--out", required=True, metavar="OUT.mp4", help="video to write")
    parser.add_argument(
        "--score-thr", type=float, default=0.3, help="draw what scores at least this (default 0.3)"
    )
    parser.add_argument("--device", help="e.g. cpu or cuda:0; default: a GPU if there is one")
    parser.add_argument(
        "--fps", type=Fraction, help="frame rate of a folder of frames (default 10)"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="settings for the config, KEY=VALUE"
    )
    args = parser.parse_args(argv)
    if Path(args.out).suffix.lower() != ".mp4":
        parser.error(f"--out {args.out}: the name of the video must end in .mp4")
    if args.fps is not None and args.fps <= 0:
        parser.error(f"--fps {args.fps}: the frame rate must be positive")
    if Path(args.video).is_file() and Path(args.out).resolve() == Path(args.video).resolve():
        parser.error(f"--out {args.out}: this would replace the input")
    return args


class TrackTally:
    """Counts the drawn tracks of a video; what it holds grows with tracks, not with frames."""

    def __init__(self, score_thr: float):
        self._score_thr = score_thr
        self._votes: dict[int, Counter] = defaultdict(Counter)

    def add(self, instances: InstanceData) -> None:
        drawn = instances.scores >= self._score_thr
        ids = instances.instances_id[drawn].tolist()
        for instance_id, label in zip(ids, instances.labels[drawn].tolist(), strict=True):
            self._votes[instance_id][label] += 1

    def count(self, tracks: InstanceData | None) -> Counter:
        """Tracks per label: the method's own final label, or the one most frames gave."""
        final = {i: votes.most_common(1)[0][0] for i, votes in self._votes.items()}
        if tracks is not None:
            decided = zip(tracks.instances_id.tolist(), tracks.labels.tolist(), strict=True)
            final.update((i, label) for i, label in decided if i in final)
        return Counter(final.values())


def run(args: argparse.Namespace) -> int:
    """Run the demo and return the exit code."""
    with VideoReader(args.video, args.fps) as reader:
        model = build_video_segmentor(args.config, args.checkpoint, args.device, args.cfg_options)
        tally = TrackTally(args.score_thr)
        visualizer = TrackVisualizer(model.dataset_meta["classes"], args.score_thr)
        timings = deque()
        video = segment_video(model, _timed(reader, timings))
        interrupted = False
        start = time.perf_counter()
        with VideoWriter(args.out, reader.fps, reader.size) as writer:
            try:
                for frame, sample in tqdm(video, total=reader.num_frames, unit="frame"):
                    tally.add(sample.pred_track_instances)
                    picture = visualizer.draw(frame, sample.pred_track_instances)
                    writer.write(picture, timings.popleft())
            except KeyboardInterrupt:
                interrupted = True
        seconds = time.perf_counter() - start
        counts = tally.count(video.tracks)
        print(summary(writer, reader, seconds, counts, visualizer, interrupted))
        return 130 if interrupted and not reader.is_camera else 0


def _timed(reader: VideoReader, timings: deque) -> Iterator[np.ndarray]:
    """The reader's frames; their timings queue up for the writer, which may come later."""
    for frame in reader:
        timings.append(reader.timing)
        yield frame


def summary(
    writer: VideoWriter,
    reader: VideoReader,
    seconds: float,
    counts: Counter,
    visualizer: TrackVisualizer,
    interrupted: bool,
) -> str:
    """What was written, how fast, and the number of tracks of each class."""
    width, height = reader.size
    lines = [
        f"{writer.path}: {writer.num_frames} frames of {width} x {height} at "
        f"{float(reader.fps):.3f} frames/s, segmented at {writer.num_frames / seconds:.1f} frames/s"
    ]
    if interrupted:
        lines.append("stopped before the end: the video is complete up to its last frame only")
    elif reader.num_frames and writer.num_frames != reader.num_frames:
        lines.append(
            f"note: the source announces {reader.num_frames} frames, {writer.num_frames} could be "
            "read"
        )
    names = (f"{visualizer.classes[label]} {n}" for label, n in counts.most_common())
    if counts:
        lines.append(f"tracks: {counts.total()} ({', '.join(names)})")
    else:
        lines.append(f"tracks: none, nothing scored {visualizer.score_thr:g} or more")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    forbid_unsafe_loading()
    args = parse_args(argv)
    try:
        return run(args)
    except (OSError, ValueError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped before the first frame; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
