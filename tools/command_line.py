"""What the command lines of tools/, demo/ and benchmarks/ share.

Only the standard library is imported here, so that a script prints its help, or says what is wrong
with its arguments, before PyTorch is loaded. A script imports what it needs of the package in the
function that uses it. Scripts in other folders begin with::

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
"""

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from argument_types import (  # noqa: F401 (the scripts take all from here)
    amount,
    checkpoint,
    config,
    existing,
    picture,
    positive,
    rate,
    score,
    setting,
    source,
    whole,
)

DEFAULT_DEVICE = "a GPU if there is one"
SIGNAL_CODES = 128  # exit codes above this are signals, as in the shell
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# What wrong input and a full disk raise; anything else is a mistake in the program. They are
# looked up among the modules that are loaded when an error is there.
INPUT_ERRORS = (
    "builtins.OSError",
    "builtins.ValueError",
    "sqlite3.Error",
    "av.error.FFmpegError",
    "torch.cuda.OutOfMemoryError",
    "mmvis_plugin.checkpoint.CheckpointError",
)


# --- running ----------------------------------------------------------------------------------


class Stopped(KeyboardInterrupt):
    """A signal asks the program to end; ``signal`` is its number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = number


def run(main: Callable[[], int | None], known: Collection[str] = INPUT_ERRORS) -> None:
    """Run a script and exit: 0, or what ``main`` returns.

    An error that ``known`` names is printed in one line, with exit code 1. Ctrl-C, SIGTERM and
    SIGHUP (a lost connection) let ``main`` clean up, and end the program in one line and with the
    signal's exit code, also where a library turns the interruption into an error of its own.

    Args:
        main: The script.
        known: Dotted names of exceptions that are due to the user's input.

    Raises:
        SystemExit: Always, with the exit code.
    """
    forbid_unsafe_loading()
    logging.raiseExceptions = False  # a full disk is no reason for a traceback a line
    received: list[int] = []
    try:
        with signals_raised(received):
            code = main() or 0
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        code = stopped_by(getattr(stop, "signal", signal.SIGINT))
    except BrokenPipeError:  # the reader of the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = SIGNAL_CODES + signal.SIGPIPE
    except Exception as error:
        if received:
            code = stopped_by(received[0])
        elif isinstance(error, tuple(loaded_classes(known))):
            code = 1
            say(f"error: {message_of(error)}")
        else:
            raise
    sys.exit(code)


def stopped_by(number: int) -> int:
    """Say which signal ended the program, and return its exit code."""
    say(f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}")
    return SIGNAL_CODES + number


@contextmanager
def signals_raised(received: list[int] | None = None) -> Iterator[None]:
    """Within this context, Ctrl-C, SIGTERM and SIGHUP raise :class:`Stopped` in this process.

    A signal that was ignored, as `nohup` does with SIGHUP, stays ignored. Child processes end at
    once, as if the handler were not there.

    Args:
        received: Takes the numbers of the signals that came.
    """
    owner = os.getpid()

    def stop(number: int, frame) -> None:
        if os.getpid() == owner:
            if received is not None:
                received.append(number)
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    usual = (signal.SIG_DFL, signal.default_int_handler)
    handled = {number: handler for number, handler in before.items() if handler in usual}
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def loaded_classes(names: Iterable[str]) -> Iterator[type]:
    """The classes of these dotted names whose modules are loaded."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        if found := getattr(sys.modules.get(module), attribute, None):
            yield found


def message_of(error: Exception) -> str:
    """The message of an error in one line, also where a worker of a data loader raised it.

    PyTorch raises such an error anew and puts the worker's traceback in front of its message.

    Args:
        error: Any exception.
    """
    text = str(error)
    if re.match(r"Caught \w+ in .*\nOriginal Traceback", text):
        text = re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
    return " ".join(text.split()) or type(error).__name__


def say(text: str) -> None:
    """Print to standard error, which may be closed after a lost connection."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def forbid_unsafe_loading() -> None:
    """Make every later ``torch.load`` of this process and its children ``weights_only``.

    Some versions of MMEngine fall back to executing a checkpoint that does not load as plain
    weights; PyTorch's own switch, an environment variable, closes that path for checkpoints that
    are found late, for example behind a ``torchvision://`` name.
    """
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"


def progress(items: Iterable, unit: str, total: int | None = None, name: str = "") -> Iterable:
    """Show how far a loop is.

    Args:
        items: What is looped over.
        unit: What one of them is called.
        total: Their number, where ``items`` has no length.
        name: Stands in front of the bar.
    """
    from tqdm import tqdm

    return tqdm(items, name or None, total=total, unit=unit)


# --- parsers ----------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def make_parser(description: str, examples: str) -> Parser:
    """A parser whose help begins with a description and ends with examples.

    Args:
        description: What the script does, usually its ``__doc__``.
        examples: Begins with ``example:`` or ``examples:``.
    """
    return Parser(
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def picture_parser(description: str, examples: str, columns: int | None, width: int) -> Parser:
    """The parser of a tool that draws a picture of a model: VIDEO CONFIG [CHECKPOINT] --out PNG.

    Args:
        description: What the tool does.
        examples: Shown after the options.
        columns: See :func:`add_layout`.
        width: Likewise.
    """
    parser = make_parser(description, examples)
    add_video(parser)
    add_model(parser)
    add_picture(parser)
    add_layout(parser, columns, width)
    add_frame_range(parser)
    add_untrained(parser)
    return parser


def add_option(
    parser: argparse.ArgumentParser, name: str, kind, metavar: str, what: str, default=None
) -> None:
    """Add an option with one value.

    Args:
        parser: The parser.
        name: Such as ``--frames``.
        kind: Type of the value.
        metavar: What is wanted, such as ``N``.
        what: Help; the default is added.
        default: Its default; None for none.
    """
    told = "" if default is None else " (default: %(default)s)"
    parser.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{what}{told}")


# --- groups of options ------------------------------------------------------------------------


def add_video(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add ``video``.

    Args:
        parser: The parser.
        more: Other sources that the script takes, for the help.
    """
    parser.add_argument(
        "video",
        type=source,
        help=f"video file, or folder or pattern ('shots/*.jpg') of images{more}",
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` and ``--cfg-options``, which :func:`read_settings` turns into a dict."""
    parser.add_argument(
        "config",
        type=config,
        help="config file, or name of a config that comes with the package",
    )
    add_cfg_options(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, a list of texts, for :func:`read_settings`."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        type=setting,
        default=[],
        metavar="KEY=VALUE",
        help="override settings of the config: train_dataloader.batch_size=1 key=[a,b] ...",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``config``, :func:`add_checkpoint`, ``--device`` and ``--cfg-options``."""
    add_config(parser)
    add_checkpoint(parser)
    add_device(parser)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add an optional ``checkpoint``, and ``--accept-licence``."""
    parser.add_argument(
        "checkpoint",
        nargs="?",
        type=checkpoint,
        help="weights: a file or an address (default: those released for the config, downloaded "
        "once; tools/list_models.py lists them)",
    )
    add_accept_licence(parser)


def add_accept_licence(parser: argparse.ArgumentParser) -> None:
    """Add ``--accept-licence``."""
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="agree to a licence that limits the use of released weights, or to the lack of one",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        help=f"device to run on, such as cpu or cuda:0 (default: {DEFAULT_DEVICE})",
    )


def add_untrained(parser: argparse.ArgumentParser) -> None:
    """Add ``--untrained``, for :func:`open_model`."""
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="download nothing: use random weights if none come with the package",
    )


def add_run(parser: argparse.ArgumentParser, work_dir: str) -> None:
    """Add ``--work-dir``, ``--data-root`` and ``--launcher`` of training and testing.

    Args:
        parser: The parser.
        work_dir: What goes to the work directory, for the help.
    """
    parser.add_argument(
        "--work-dir",
        metavar="FOLDER",
        help=f"folder for {work_dir} (default: work_dirs/<name of the config>)",
    )
    parser.add_argument(
        "--data-root",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of the dataset; if the config has several, OLD=NEW once for each",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="launcher of a distributed run (default: %(default)s)",
    )


def add_picture(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, a picture to write."""
    parser.add_argument("--out", type=picture, required=True, metavar="F.png", help="picture")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, a JSON to write, as a ``Path``."""
    parser.add_argument("--out", type=Path, required=True, metavar="F.json", help="JSON to write")


def add_layout(parser: argparse.ArgumentParser, columns: int | None, width: int) -> None:
    """Add ``--columns`` and ``--width`` of the pictures on a sheet.

    Args:
        parser: The parser.
        columns: Default number of pictures in a row; None for the method's own.
        width: Default width of a picture in pixels.
    """
    add_option(parser, "--columns", positive, "N", "pictures in a row", columns)
    add_option(parser, "--width", positive, "PIXELS", "width of each picture", width)


def add_frame_range(parser: argparse.ArgumentParser) -> None:
    """Add ``--start``, ``--end`` and ``--stride``; that the end comes last, the reader checks."""
    add_option(parser, "--start", whole, "N", "first frame, counted from 0", 0)
    end = "frame to stop before (default: the end of the video)"
    add_option(parser, "--end", positive, "N", end)
    add_option(parser, "--stride", positive, "N", "take every N-th frame", 1)


def add_score_thr(
    parser: argparse.ArgumentParser,
    option: str = "--score-thr",
    what: str = "to draw",
    default: float | None = 0.3,
) -> None:
    """Add ``--score-thr``.

    Args:
        parser: The parser.
        option: Its name, if it is another.
        what: What the score is for.
        default: Its default; None for the model's own.
    """
    what = f"minimum score {what}" + ("" if default else " (default: the model's own)")
    add_option(parser, option, score, "SCORE", what, default)


# --- with the package -------------------------------------------------------------------------


def read_settings(texts: Iterable[str]) -> dict:
    """What ``--cfg-options`` holds, by dotted key, read as MMEngine reads it.

    Args:
        texts: KEY=VALUE each.
    """
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", nargs="*", action=DictAction, default={})
    return parser.parse_args(["--settings", *texts]).settings


def open_model(args: argparse.Namespace):
    """The model of a command line that has :func:`add_model` and :func:`add_untrained`.

    Returns:
        nn.Module: A video segmentor.

    Raises:
        FileNotFoundError, CheckpointError: See :func:`build_video_segmentor`.
    """
    from mmvis_plugin.apis import build_video_segmentor

    settings = read_settings(args.cfg_options)
    return build_video_segmentor(
        args.config,
        args.checkpoint,
        args.device,
        settings,
        require_weights=not args.untrained,
        accept_licence=args.accept_licence,
    )
