"""What the command lines of the tools that make pictures of videos have in common."""

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import av
import numpy as np
from mmengine.config import DictAction
from torch import Tensor, nn

from mmvis_plugin.apis import VideoReader, build_video_segmentor
from mmvis_plugin.apis.model_run import ModelRun
from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.visualization.contact_sheet import check_picture_path


class ModelFrame(NamedTuple):
    """A frame as it was read, and as a model gets it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        inputs: (1, 3, h, w) normalised and padded, on the model's device.
        meta: Metainfo of ``inputs``.
    """

    image: np.ndarray
    inputs: Tensor
    meta: dict

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width of ``inputs``."""
        return tuple(self.inputs.shape[-2:])


def picture_parser(
    doc: str, examples: str, frames: int, frames_help: str
) -> argparse.ArgumentParser:
    """A parser with the arguments that all these tools have: VIDEO CONFIG [CHECKPOINT] --out PNG.

    Args:
        doc: What the tool does.
        examples: Shown after the options.
        frames: Default of ``--frames``.
        frames_help: What ``--frames`` means.

    Returns:
        argparse.ArgumentParser: To which the tool adds its own.
    """
    parser = argparse.ArgumentParser(
        description=doc, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", help="video file, or folder or pattern ('shots/*.jpg') of images")
    parser.add_argument(
        "config", help="a file, or the name of a config that comes with the package"
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="weights: a file or an address (default: those shipped for the config)",
    )
    parser.add_argument("--out", required=True, metavar="FILE.png", help="picture to write")
    parser.add_argument(
        "--frames",
        type=positive,
        default=frames,
        metavar="N",
        help=f"{frames_help} (default: %(default)s)",
    )
    add_layout(parser)
    add_frame_range(parser)
    add_model_options(parser)
    add_untrained(parser)
    return parser


def add_layout(parser: argparse.ArgumentParser, columns: int = 5, width: int = 280) -> None:
    """Add ``--columns`` and ``--width`` of the pictures on a sheet.

    Args:
        parser: To which they are added.
        columns: Default of pictures in a row.
        width: Default of a picture's width in pixels.
    """
    parser.add_argument(
        "--columns",
        type=positive,
        default=columns,
        metavar="N",
        help="pictures in a row (default: %(default)s)",
    )
    parser.add_argument(
        "--width",
        type=positive,
        default=width,
        metavar="PIXELS",
        help="width of each picture (default: %(default)s)",
    )


def add_frame_range(parser: argparse.ArgumentParser) -> None:
    """Add what part of the video is read; the reader checks that it is one."""
    parser.add_argument(
        "--start",
        type=int,
        default=0,
        metavar="N",
        help="frame to begin with, counted from 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--end", type=int, metavar="N", help="frame to stop before (default: the video's end)"
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="take every N-th frame (default: %(default)s)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add how the model is built."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="where to run, such as cpu or cuda:0 (default: a GPU if there is one)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override settings of the config: model.clip_length=9 key=[a,b] ...",
    )


def add_untrained(parser: argparse.ArgumentParser) -> None:
    """Add ``--untrained``, for :func:`open_model`."""
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="where there are no weights, run with random ones instead of giving up",
    )


def add_key_frame(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--at``, the frame that the picture is about.

    Args:
        parser: To which it is added.
        what: What the frame is for this tool, for the help.
    """
    parser.add_argument(
        "--at",
        type=int,
        metavar="N",
        help=f"{what}, counted from 0 among those read (default: the middle one)",
    )


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Add ``--channel``, of features of which the norm is shown by default."""
    parser.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="show this channel, counted from 0 (default: the norm over all)",
    )


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def run_tool(show: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run a tool; what is wrong with its input is one line and exit code 1.

    Args:
        show: Makes the picture.
        args: The command line; ``args.out`` is the picture to write.

    Raises:
        SystemExit: If the input is wrong or the picture cannot be written.
    """
    try:
        check_picture_path(args.out)
        show(args)
    except (OSError, ValueError, CheckpointError, av.error.FFmpegError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"wrote {args.out}")


def open_model(args: argparse.Namespace, kind: type | None = None) -> nn.Module:
    """The model of the command line.

    Args:
        args: With what :func:`picture_parser` adds.
        kind: The class of models that the tool shows something of; None for any.

    Raises:
        ValueError: If it is of another class.
        FileNotFoundError, CheckpointError: See :func:`build_video_segmentor`.
    """
    model = build_video_segmentor(
        args.config, args.checkpoint, args.device, args.cfg_options, not args.untrained
    )
    if kind is not None and not isinstance(model, kind):
        raise ValueError(
            f"{args.config}: this shows {kind.__name__}, but the model is a {type(model).__name__}"
        )
    return model


def open_video(args: argparse.Namespace) -> VideoReader:
    """The video of the command line; its length is known, if need be by reading it once before.

    Raises:
        ValueError: If it is a camera, which has none.
        FileNotFoundError, VideoError: See :class:`VideoReader`.
    """
    part = dict(start=args.start, end=args.end, stride=args.stride)
    reader = VideoReader(args.video, **part)
    if reader.is_camera:
        reader.close()
        raise ValueError(f"{reader.source} has no end: write its video to a file first")
    if reader.num_frames is None:  # Matroska and WebM have no field for it
        with reader:
            num_frames = sum(1 for _ in reader)
        reader = VideoReader(args.video, **part)
        reader.num_frames = num_frames
    return reader


def model_frames(model: nn.Module, reader: VideoReader, stop: int) -> Iterator[ModelFrame]:
    """The first frames of a video on their way into a model, one at a time.

    Args:
        model: The model.
        reader: The video.
        stop: Number of frames.

    Raises:
        ValueError: If the video has fewer after all, because some cannot be decoded.
    """
    run = ModelRun(model)
    for number in range(stop):
        image = next(reader, None)
        if image is None:
            raise ValueError(f"{reader.source}: there are only {number} frames, not {stop}")
        inputs, metas = run.collate([run.prepare(image, number)])
        yield ModelFrame(image, inputs, metas[0])


def frame_at(number: int | None, num_frames: int) -> int:
    """The frame that ``--at`` asks for, by default the middle one.

    Args:
        number: What ``--at`` says, None for nothing.
        num_frames: Length of the video.

    Raises:
        ValueError: If the video has no such frame.
    """
    if number is None:
        return num_frames // 2
    if not 0 <= number < num_frames:
        raise ValueError(f"--at {number}: the video has frames 0 to {num_frames - 1}")
    return number
