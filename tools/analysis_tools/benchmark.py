"""Measure models on a video: speed, latency, parameters, operations and memory."""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import command_line

EXAMPLES = """examples:
  python tools/analysis_tools/benchmark.py maskprop_r18_shapes masktrack_rcnn_r18_shapes
  python tools/analysis_tools/benchmark.py configs/maskprop/maskprop_r50_ytvis19.py \\
      --size 720 1280 --frames 96 --autocast --out benchmark.json
  python tools/analysis_tools/benchmark.py CONFIG.py --checkpoint CHECKPOINT.pth --video street.mp4

Each config runs in a process of its own. Its columns:
  input        height x width the model sees, after the config's test pipeline and padding
  model f/s    frames a second through the model: normalisation to run-length encoded masks
  total f/s    from a video file to a video file with tracks, reading and writing beside the model
  latency      from handing a frame to the model until its result: frames that had to follow it,
               and milliseconds (median and largest) at full speed, one frame a call
  params       millions of parameters
  G mult-adds  billions of multiply-adds a frame, the "FLOPs" of the papers: those of convolutions,
               matrix products and attention, as PyTorch counts them; not those of mmcv's own
               operators (RoIAlign, deformable convolution)
  memory       GPU: largest sum of tensors; CPU: largest resident memory of the process
Models for which there are no weights run with random ones: what they find, and the time that
takes, differs from a trained model's.
"""
CLIP_SIZE = (96, 128)  # of the generated video, before it is brought to --size
CLIP_LENGTH = 24
MEGA, GIGA = 1e6, 1e9


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_line.make_parser(__doc__, EXAMPLES)
    positive = command_line.positive
    parser.add_argument(
        "configs",
        nargs="+",
        type=command_line.config,
        metavar="config",
        help="config file, or name of a config that comes with the package",
    )
    parser.add_argument(
        "--checkpoint",
        type=command_line.checkpoint,
        metavar="FILE",
        help="weights of a single config: a file or an address (default: its released weights)",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=positive,
        default=(720, 1280),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the video, in which generated shapes move (default: 720 1280)",
    )
    command_line.add_option(parser, "--frames", positive, "N", "length of the video", 48)
    command_line.add_option(
        parser,
        "--video",
        command_line.source,
        "FILE",
        "measure on this video instead; --size does not apply",
    )
    command_line.add_device(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="frames a call (default: 8 on a GPU, 1 on the CPU)",
    )
    parser.add_argument("--autocast", action="store_true", help="run in mixed precision")
    parser.add_argument("--channels-last", action="store_true", help="store channels innermost")
    parser.add_argument("--out", metavar="FILE.json", help="write the figures as JSON")
    command_line.add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.checkpoint and len(args.configs) > 1:
        parser.error("--checkpoint is for a single config")
    return args


# --- in the process of a config ---------------------------------------------------------------


def measure(config: str, video: str, options: dict) -> dict:
    """All figures of a model.

    Args:
        config: Config file or name.
        video: The video to measure on.
        options: ``frames``, ``checkpoint``, ``device``, ``batch_size``, ``autocast``,
            ``channels_last`` and ``cfg_options`` of the command line.

    Returns:
        Figures by name; ``error`` alone where the model cannot be built or run.
    """
    try:
        return {"config": config, **_measure(video, config, options)}
    except Exception as error:
        return {"config": config, "error": f"{type(error).__name__}: {error}"}


def _measure(video: str, config: str, options: dict) -> dict:
    from peak_memory import peak_memory, reset_peak_memory

    from mmvis_plugin.apis import VISInferencer, build_video_segmentor

    model = build_video_segmentor(
        config,
        options["checkpoint"],
        options["device"],
        command_line.read_settings(options["cfg_options"]),
        require_weights=False,
    )
    inferencer = VISInferencer(
        model,
        batch_size=options["batch_size"],
        autocast=options["autocast"],
        channels_last=options["channels_last"],
    )
    has_weights = model.weights is not None
    frames = options["frames"]
    for _ in inferencer(video, end=min(frames, 8)):  # warm up
        pass
    reset_peak_memory(inferencer.device)
    return {
        "weights": "trained" if has_weights else "random",
        "device": _device_name(inferencer.device),
        "batch_size": inferencer.batch_size,
        "autocast": options["autocast"],
        "channels_last": options["channels_last"],
        **measure_model(inferencer, video, frames),
        "total_fps": measure_total(inferencer, video, frames),
        "peak_memory_mb": peak_memory(inferencer.device) / MEGA,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "mult_adds_per_frame": count_mult_adds(inferencer, video, frames),
    }


def measure_model(inferencer, video: str, num_frames: int) -> dict:
    """Speed of the model by itself, and latency.

    Reading and resizing are not counted. Latency is measured in a second run of one frame a call.
    """
    speed = Stopwatch(inferencer, video, num_frames, inferencer.batch_size)
    latency = Stopwatch(inferencer, video, num_frames, 1)
    milliseconds = sorted(1000 * seconds for seconds in latency.delays)
    return {
        "num_frames": speed.num_frames,
        "size": list(speed.size),
        "input_size": list(speed.input_size),
        "model_fps": speed.num_frames / speed.seconds,
        "latency_frames": max(latency.frames_waited),
        "latency_ms_median": milliseconds[len(milliseconds) // 2],
        "latency_ms_max": milliseconds[-1],
    }


class Stopwatch:
    """A run of a video through a model, on a clock that stands still while frames are read.

    Attributes:
        num_frames: Frames of the run.
        size: Their height and width.
        input_size: Height and width as the model sees them.
        seconds: Time in the model.
        delays: Per frame, seconds from handing it over until its result.
        frames_waited: Per frame, how many frames were handed over after it until then.
    """

    def __init__(self, inferencer, video: str, num_frames: int, batch_size: int):
        self._inferencer = inferencer
        self._paused = 0.0
        self._given: list[float] = []
        self.delays: list[float] = []
        self.frames_waited: list[int] = []
        start = self._now()
        run = inferencer.start_run()
        for number, (image, _, sample) in enumerate(
            run.results(self._batches(run, video, num_frames, batch_size))
        ):
            self.delays.append(self._now() - self._given[number])
            self.frames_waited.append(len(self._given) - 1 - number)
            self.size, self.input_size = image.shape[:2], sample.batch_input_shape
        self.seconds = self._now() - start
        self.num_frames = len(self.delays)

    def _now(self) -> float:
        """Seconds on the clock, when the device has done all it was given."""
        _synchronize(self._inferencer.device)
        return time.perf_counter() - self._paused

    def _batches(self, run, video: str, num_frames: int, batch_size: int) -> Iterator[list]:
        from mmvis_plugin.apis import VideoReader

        with VideoReader(video, end=num_frames) as reader:
            numbered = enumerate(reader)
            while True:
                pause = time.perf_counter()
                batch = [run.prepare(image, n) for n, image in islice(numbered, batch_size)]
                self._paused += time.perf_counter() - pause
                if not batch:
                    return
                self._given += [self._now()] * len(batch)
                yield batch


def measure_total(inferencer, video: str, num_frames: int) -> float:
    """Frames a second from the video file to a file with the tracks drawn on it."""
    from mmvis_plugin.apis import VideoSink

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with VideoSink(Path(folder, "tracks.mp4")) as sink:
            for result in inferencer(video, end=num_frames):
                sink.write(result)
        return sink.num_frames / (time.perf_counter() - start)


def count_mult_adds(inferencer, video: str, num_frames: int) -> float:
    """Multiply-adds a frame, counted while the video runs.

    MMEngine's analysis works on a trace, which drops what the result does not depend on as a
    tensor: whatever a method decides in NumPy, such as all of MaskProp's propagation. PyTorch's
    counter sees what is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    # The counter fails where a parameter that learns, such as a query, is given to a module.
    inferencer.model.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        run = Stopwatch(inferencer, video, num_frames, inferencer.batch_size)
    return counter.get_total_flops() / 2 / run.num_frames  # it counts both operations


def _device_name(device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _synchronize(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- in the process of the command ------------------------------------------------------------


def write_video(path: Path, size: tuple[int, int], num_frames: int) -> None:
    """Write moving shapes as a video, forwards and backwards for as long as it takes."""
    import cv2

    from mmvis_plugin.apis import VideoWriter
    from mmvis_plugin.datasets.shapes_vis import generate_video
    from mmvis_plugin.ytvis.categories import SHAPES

    length = (CLIP_LENGTH, CLIP_LENGTH)
    clip = generate_video(0, "valid", 0, length, CLIP_SIZE, len(SHAPES), version=1).frames
    there_and_back = cycle([*clip, *clip[-2:0:-1]])
    with VideoWriter(path, 25, size[::-1]) as writer:
        for frame in islice(there_and_back, num_frames):
            writer.write(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_CUBIC))


def measure_all(args: argparse.Namespace, video: str, report: Callable[[dict], None]) -> list[dict]:
    """Figures of all configs, each from a new process: peaks of memory are of one model alone."""
    names = ("frames", "checkpoint", "device", "batch_size", "autocast", "channels_last")
    options = {name: getattr(args, name) for name in (*names, "cfg_options")}
    rows = []
    context = multiprocessing.get_context("spawn")
    for config in args.configs:
        with ProcessPoolExecutor(1, context) as pool:
            try:
                rows.append(pool.submit(measure, config, video, options).result())
            except BrokenProcessPool:
                error = "its process was killed, as systems do when memory runs out"
                rows.append({"config": config, "error": error})
        report(rows[-1])
    return rows


COLUMNS = {
    "config": lambda row: Path(row["config"]).stem,
    "weights": lambda row: row["weights"],
    "input": lambda row: "x".join(map(str, row["input_size"])),
    "model f/s": lambda row: f"{row['model_fps']:.2f}",
    "total f/s": lambda row: f"{row['total_fps']:.2f}",
    "latency frames": lambda row: str(row["latency_frames"]),
    "ms (max)": lambda row: f"{row['latency_ms_median']:.0f} ({row['latency_ms_max']:.0f})",
    "params M": lambda row: f"{row['params'] / MEGA:.2f}",
    "G mult-adds": lambda row: f"{row['mult_adds_per_frame'] / GIGA:.2f}",
    "memory MB": lambda row: f"{row['peak_memory_mb']:.0f}",
}


def format_table(rows: list[dict]) -> str:
    """The figures as a Markdown table."""
    cells = [list(COLUMNS)]
    cells += [[column(row) for column in COLUMNS.values()] for row in rows if "error" not in row]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(map(str.ljust, line, widths)) for line in cells)
    return "\n".join(f"| {line} |" for line in lines)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmvis_plugin.apis import VideoReader
    from mmvis_plugin.files import check_writable, write_json

    def report(row: dict) -> None:
        outcome = row.get("error") or f"{row['model_fps']:.2f} frames/s"
        command_line.say(f"{row['config']}: {outcome}")

    if args.out:
        check_writable(args.out)
    with tempfile.TemporaryDirectory() as folder:
        video = args.video
        if video is None:
            video = str(Path(folder, "shapes.mp4"))
            write_video(Path(video), tuple(args.size), args.frames)
        VideoReader(video).close()  # that it cannot be read is said once, not for each config
        rows = measure_all(args, video, report)
    measured = [row for row in rows if "error" not in row]
    if measured:
        height, width = measured[0]["size"]
        print(
            f"{measured[0]['num_frames']} frames of {height} x {width} (height x width) on "
            f"{measured[0]['device']}, batches of {measured[0]['batch_size']}\n"
        )
        print(format_table(rows))
    if args.out:
        write_json(rows, args.out, indent=2)
    return int(len(measured) < len(rows))


if __name__ == "__main__":
    command_line.run(main)
