"""Segment videos: draw their tracks and write them in formats that other tools read."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import command_line as cli

if TYPE_CHECKING:  # PyTorch is loaded when the arguments are right
    from mmvis_plugin.apis import FrameResult, Sink, VideoStream, VISInferencer

EXAMPLES = """examples:
  python demo/video_demo.py street.mp4 masktrack_rcnn_r50_ytvis19 --out tracks.mp4
  python demo/video_demo.py street.mp4 mmdet::rtmdet/rtmdet-ins_s_8xb32-300e_coco \\
      --linker bytetrack --classes person car --out tracks.mp4
  python demo/video_demo.py clip.mp4 CONFIG.py CHECKPOINT.pth --out tracks.mp4 --out tracks.json
  python demo/video_demo.py frames/ CONFIG.py CHECKPOINT.pth --out tracks.mp4 --fps 30000/1001
  python demo/video_demo.py a.mp4 CONFIG.py CHECKPOINT.pth --input b.mp4 --out-dir results
  python demo/video_demo.py 0 CONFIG.py CHECKPOINT.pth --out camera.mp4 --show  (Ctrl-C ends it)

Each track has one colour and is drawn with mask, box, class, id and score in every frame. A
label shows what the model gives that very frame; the summary at the end counts each track once,
under its final class. Ctrl-C ends a video in order: files are closed and hold the frames until
then, and those of a video that had not ended are named so, as in tracks.partial.mp4.
"""

# What --out-dir writes: what is added to the video's name, by format.
ENDINGS = {
    "mp4": "_tracks.mp4",
    "json": "_tracks.json",
    "csv": "_tracks.csv",
    "txt": "_tracks.txt",
    "png": "_ids",
    "cvat": "_cvat.xml",
    "coco": "_coco.json",
    "vos": "_vos",
    "labelme": "_labelme",
}
RESULTS = ("mp4", "json", "csv", "txt", "png")
FORMATS_HELP = (
    "mp4: video with tracks; json: official YouTube-VIS results, with all scores; csv: table of "
    "tracks; txt: MOTS style; png: folder of id maps, 16 bits. To annotate: cvat: CVAT for video "
    "1.1; coco: video JSON of MMDetection; vos: folder of indexed PNGs; labelme: folder of frames "
    "and polygons"
)

LINKERS = ("iou-plus", "seq", "sort", "deepsort", "bytetrack", "ocsort")
NOTHING_YET = "stopped before the first frame; nothing was written"
ESCAPE = 27
NAMES_SHOWN = 8  # of the classes that a model knows


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.make_parser(__doc__, EXAMPLES)
    cli.add_video(parser, ", camera index, or address (rtsp://, http://)")
    cli.add_model(parser)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        type=cli.source,
        metavar="VIDEO",
        help="a further video; repeatable",
    )
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help="file to write, its format by the ending: .mp4, .json, .csv, .txt, .xml (CVAT), "
        "_coco.json, or a folder: _vos, _labelme, others for id maps; repeatable",
    )
    parser.add_argument(
        "--out-dir",
        metavar="FOLDER",
        help="folder for files in all formats, named after the videos",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=ENDINGS,
        default=list(RESULTS),
        help=f"what --out-dir writes (default: {' '.join(RESULTS)}); {FORMATS_HELP}",
    )
    parser.add_argument(
        "--cvat-shapes",
        choices=("polygon", "mask"),
        default="polygon",
        help="what CVAT gets: polygons, which it tracks, or exact masks of single frames "
        "(default: %(default)s)",
    )
    parser.add_argument("--show", action="store_true", help="show it in a window; q ends it")
    parser.add_argument(
        "--linker",
        choices=LINKERS,
        help="track the objects of an image instance segmenter, which CONFIG is then: a config of "
        "your own, or one of MMDetection's (mmdet::FOLDER/NAME)",
    )
    cli.add_score_thr(parser, what="in pictures and tables", default=None)
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="keep these classes only")
    cli.add_frame_range(parser)
    parser.add_argument(
        "--fps", type=cli.rate, metavar="RATE", help="frame rate of images (default: 10)"
    )
    parser.add_argument(
        "--enlarge",
        type=cli.positive,
        metavar="N",
        help="draw at N times the size (default: what brings the shorter side to 256 pixels)",
    )
    parser.add_argument(
        "--trails",
        type=cli.whole,
        default=0,
        metavar="N",
        help="draw the path of each track over the last N frames, 0 for none "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--labels",
        choices=("id", "class", "full", "none"),
        default="full",
        help="what labels name; full: class, id and score (default: %(default)s)",
    )
    parser.add_argument(
        "--font",
        type=cli.existing,
        metavar="FILE.ttf",
        help="font of the labels (default: one that has the letters of the class names)",
    )
    parser.add_argument(
        "--batch-size",
        type=cli.positive,
        metavar="N",
        help="frames per call of the model (default: 8 on a GPU, 1 on the CPU)",
    )
    parser.add_argument("--autocast", action="store_true", help="run in mixed precision")
    parser.add_argument("--channels-last", action="store_true", help="store channels innermost")
    args = parser.parse_args(argv)
    problem = find_problem(args)
    if problem:
        parser.error(problem)
    return args


def find_problem(args: argparse.Namespace) -> str | None:
    """What is wrong with the arguments together."""
    if not (args.out or args.out_dir or args.show):
        return "nothing to do: give --out, --out-dir or --show"
    if "::" in args.config and not args.linker:
        return f"{args.config} is an image model: add a linker, such as --linker bytetrack"
    if args.out and args.input:
        return "--out is for one video; with --input use --out-dir"
    for out in args.out:
        if Path(out).suffix.lower() not in {".mp4", ".json", ".csv", ".txt", ".xml", ""}:
            return (
                f"--out {out}: the name must end in .mp4, .json, .csv, .txt or .xml, or be a folder"
            )
    if args.end is not None and args.end <= args.start:
        return f"--end {args.end} must come after --start {args.start}"
    for out in args.out:
        if is_input(Path(out), args):
            return f"--out {out}: this would replace the input"
    return None


def is_input(target: Path, args: argparse.Namespace) -> bool:
    """Whether a target is an input, or the folder of one: ``shots`` for ``shots/*.png``."""
    inputs = [Path(video).resolve() for video in [args.video, *args.input]]
    return any(target.resolve() in (path, *path.parents) for path in inputs)


@dataclass
class Run:
    """What is known of a video while it is segmented, for the summary.

    Attributes:
        video: The video, once it is open.
        sinks: Where its results go.
        num_frames: Results so far.
        votes: How many frames gave each drawn track each label; it grows with tracks, not frames.
        signal: Number of the signal that stopped it, 0 for none.
        seconds: How long it took.
    """

    video: VideoStream | None = None
    sinks: list[Sink] = field(default_factory=list)
    num_frames: int = 0
    votes: dict[int, Counter] = field(default_factory=lambda: defaultdict(Counter))
    signal: int = 0
    seconds: float = 0.0

    def add(self, result: FrameResult, score_thr: float) -> None:
        from mmvis_plugin.apis.results import visible_tracks

        self.num_frames += 1
        for track in visible_tracks(result, score_thr):
            self.votes[track.id][track.label] += 1

    def labels(self) -> Counter:
        """Number of tracks per label; the table of tracks has the same ones."""
        from mmvis_plugin.apis.results import final_tracks

        return Counter(label for _, label, _ in final_tracks(self.votes, self.video))


def run(args: argparse.Namespace) -> int:
    """Segment all videos and return the exit code: the worst of theirs."""
    from mmvis_plugin.apis import VISInferencer
    from mmvis_plugin.config import PROGRAM_ERRORS, naming_settings

    names: set[str] = set()
    codes = [0]
    settings = cli.read_settings(args.cfg_options)
    if args.show:
        require_display()
    with (
        VISInferencer(
            args.config,
            args.checkpoint,
            args.device,
            batch_size=args.batch_size,
            autocast=args.autocast,
            channels_last=args.channels_last,
            cfg_options=settings,
            linker=args.linker,
            accept_licence=args.accept_licence,
        ) as inferencer,
        # PyTorch raises a RuntimeError for a model whose parts do not fit together.
        naming_settings(inferencer.model.cfg, settings, (*PROGRAM_ERRORS, RuntimeError)),
    ):
        if args.score_thr is None:
            args.score_thr = inferencer.shown_score
        for number, source in enumerate([args.video, *args.input], 1):
            codes.append(segment(inferencer, source, number, names, args))
            if codes[-1] > cli.SIGNAL_CODES:  # the user wants no further video either
                break
    return max(codes)


def segment(
    inferencer: VISInferencer, source: str, number: int, names: set[str], args: argparse.Namespace
) -> int:
    """Segment a video, say what came of it, and return its exit code.

    Args:
        inferencer: The model.
        source: The video.
        number: Of the video among the inputs, from 1.
        names: Those of the outputs of videos before; this one's is added.
        args: The command line.
    """
    this, error = Run(), None
    start = time.perf_counter()
    try:
        with inferencer(
            source,
            fps=args.fps,
            start=args.start,
            end=args.end,
            stride=args.stride,
            classes=args.classes,
        ) as this.video:
            targets = find_targets(free_name(this.video.name, names), args)
            follow(this, [make_sink(path, number, args) for path in targets], args)
    except KeyboardInterrupt as stop:
        this.signal = getattr(stop, "signal", signal.SIGINT)
    except tuple(cli.loaded_classes(cli.INPUT_ERRORS)) as caught:
        error = caught
    this.seconds = time.perf_counter() - start
    if this.num_frames:
        print(summary(this, args.score_thr))
    if error is not None:
        cli.say(f"error: {cli.message_of(error)}")
        return 1
    if this.signal and not this.num_frames:
        cli.say(NOTHING_YET)
    is_end = this.num_frames and this.video.is_camera  # how else would a camera end
    return cli.SIGNAL_CODES + this.signal if this.signal and not is_end else 0


def follow(this: Run, sinks: list[Sink], args: argparse.Namespace) -> None:
    """Draw the results of a video and hand them on."""
    this.sinks = sinks
    video = this.video
    with ExitStack() as stack:
        stack.enter_context(stopping_in_order(this))  # also while the sinks are closed
        stack.enter_context(finishing(sinks))
        window = stack.enter_context(Window(video, args)) if args.show else None
        for result in cli.progress(video, "frame", video.expected_frames, video.name):
            for sink in sinks:
                sink.write(result)
            this.add(result, args.score_thr)
            if window and not window.show(result):
                video.stop()


@contextmanager
def finishing(sinks: list[Sink]) -> Iterator[None]:
    """Close all sinks at the end; what goes wrong with one leaves the others' files whole."""
    errors, partial, interrupted = [], True, True
    try:
        yield
        partial = interrupted = False
    except OSError as error:  # as of a full disk, which other sinks may meet, too
        errors.append(error)
        interrupted = False
    finally:
        for sink in sinks:
            try:
                sink.close(partial)
            except BaseException as error:  # Ctrl-C for the second time, too
                errors.append(error)
        if errors and not interrupted:
            if all(isinstance(error, OSError) for error in errors):
                raise OSError("; ".join(dict.fromkeys(map(cli.message_of, errors))))
            raise errors[0]


@contextmanager
def stopping_in_order(this: Run) -> Iterator[None]:
    """Let a first Ctrl-C, SIGTERM or SIGHUP end the video in order, and a second one at once."""

    def stop(number: int, frame) -> None:
        this.signal = number
        this.video.stop()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in cli.ENDING_SIGNALS}
    handled = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


# --- outputs ----------------------------------------------------------------------------------


def free_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another video has it; it is taken then."""
    numbered = (f"{name}_{number}" for number in count(2))
    free = next(candidate for candidate in chain([name], numbered) if candidate not in taken)
    taken.add(free)
    return free


def find_targets(name: str, args: argparse.Namespace) -> list[Path]:
    """Files to write for a video whose outputs go by this name.

    Raises:
        ValueError: If one of them is an input.
    """
    targets = [Path(out) for out in args.out]
    if args.out_dir:
        targets += [Path(args.out_dir, name + ENDINGS[format_]) for format_ in args.formats]
    # Each file once, however it is spelled: two sinks would write into it.
    targets = list({target.resolve(): target for target in targets}.values())
    for target in targets:
        if is_input(target, args):
            raise ValueError(f"{target}: this would replace an input")
    return targets


def make_sink(path: Path, video_id: int, args: argparse.Namespace) -> Sink:
    """The sink for a format, by the file's ending."""
    from mmvis_plugin import apis

    name = path.name.lower()
    if name.endswith(".mp4"):
        return apis.VideoSink(
            path, args.score_thr, args.enlarge, args.trails, args.font, args.labels
        )
    if name.endswith(".xml"):
        return apis.CVATSink(path, args.score_thr, args.cvat_shapes)
    if name.endswith(".json") and not name.endswith("_coco.json"):
        return apis.JSONSink(path, video_id)
    sinks = {
        ".csv": apis.CSVSink,
        ".txt": apis.MOTSSink,
        "_coco.json": apis.COCOVideoSink,
        "_vos": apis.VOSSink,
        "_labelme": apis.LabelMeSink,
    }
    found = (sink for ending, sink in sinks.items() if name.endswith(ending))
    return next(found, apis.IdMapSink)(path, args.score_thr)


class Window:
    """A window that shows the video with its tracks."""

    def __init__(self, video: VideoStream, args: argparse.Namespace):
        from mmvis_plugin.visualization import TrackVisualizer, default_enlargement

        enlarge = args.enlarge or default_enlargement(video.size)
        self._visualizer = TrackVisualizer(
            video.classes,
            args.score_thr,
            enlarge=enlarge,
            trails=args.trails,
            font=args.font,
            labels=args.labels,
        )
        self._title = f"{video.name} (q ends it)"

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *exc_info) -> None:
        import cv2

        cv2.destroyAllWindows()

    def show(self, result: FrameResult) -> bool:
        """Show a frame; returns whether the user wants more."""
        import cv2

        cv2.imshow(self._title, self._visualizer.draw(result.image, result.instances))
        return cv2.waitKey(1) & 0xFF not in (ord("q"), ESCAPE)


def require_display() -> None:
    """Make sure that a window can be opened: OpenCV ends the process where it cannot."""
    import cv2

    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise ValueError("--show: there is no display here; write a video instead (--out)")
    try:
        cv2.namedWindow("tracks")
        cv2.destroyAllWindows()
    except cv2.error as error:
        raise ValueError(
            "--show: this OpenCV cannot open windows (opencv-python-headless?); write a video "
            "instead (--out)"
        ) from error


def summary(this: Run, score_thr: float) -> str:
    """What was read and found in a video, how fast, and where it is written."""
    video = this.video
    width, height = video.size
    lines = [
        f"{video.source}: {this.num_frames} frames of {width} x {height} at "
        f"{float(video.fps):.3f} frames/s, segmented at {this.num_frames / this.seconds:.1f} "
        "frames/s"
    ]
    labels = this.labels()
    if labels:
        names = (f"{video.classes[label]} {n}" for label, n in labels.most_common())
        lines.append(f"tracks: {labels.total()} ({', '.join(names)})")
    else:
        lines.append(
            f"tracks: none, nothing scored {score_thr:g} or more; the model knows: "
            f"{list_classes(video.classes)}"
        )
    if video.num_broken:
        lines.append(f"note: {video.num_broken} frames cannot be decoded and are left out")
    written = [sink for sink in this.sinks if sink.written]
    if written:
        lines.append(f"written: {', '.join(str(sink.written) for sink in written)}")
    if any(sink.written != sink.path for sink in written):
        lines.append(f"note: these are partial, they hold the first {this.num_frames} frames only")
    elif video.num_frames and this.num_frames + video.num_broken < video.num_frames:
        lines.append(
            f"note: the source announces {video.num_frames} frames, {this.num_frames} could be read"
        )
    return "\n".join(lines)


def list_classes(names: Sequence[str]) -> str:
    """The first of some names, and how many there are if these are not all."""
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown}, ... ({len(names)} classes)"


def main(argv: list[str] | None = None) -> int:
    return run(parse_args(argv))


if __name__ == "__main__":
    cli.run(main)
