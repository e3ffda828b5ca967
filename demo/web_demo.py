"""A web page that segments videos: upload one or record it, and see its tracks."""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from web_limits import Limits, ModelChoice

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import command_line as cli

EXAMPLES = """examples:
  python demo/web_demo.py
  python demo/web_demo.py --model masktrack_rcnn_r50_ytvis19
  python demo/web_demo.py --model configs/maskprop/maskprop_r50_ytvis19.py r50.pth --device cuda:0
  python demo/web_demo.py --host 0.0.0.0 --max-size 200 --max-seconds 120 --max-frames 3600

The page is for this machine alone unless --host says otherwise. It offers the models for which
weights are shipped and those of --model; a visitor cannot name files. Whoever gets hold of the
random address of a file of another visitor could read it until it is removed (--keep); put a
server with encryption and accounts in front of a page that is open to the world.
"""
DEFAULT_MODEL = "maskprop_r18_shapes"
CLEAN_EVERY = 60  # seconds


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    limits = Limits()
    parser = cli.make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--model",
        nargs="+",
        action="append",
        default=[],
        metavar=("CONFIG", "CHECKPOINT"),
        help="offer this model as well: config, file or name, and weights; repeatable",
    )
    cli.add_accept_licence(parser)
    cli.add_device(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="serve the page at this address (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=7860,
        metavar="N",
        help="serve the page at this port (default: %(default)s)",
    )
    for name, unit, what in (
        ("size", "MB", "size of an upload in megabytes"),
        ("seconds", "S", "length of an upload in seconds"),
        ("frames", "N", "length of an upload in frames"),
        ("stored", "MB", "sum of the uploads and results that are kept, in megabytes"),
    ):
        default = limits.megabytes if name == "size" else getattr(limits, name)
        parser.add_argument(
            f"--max-{name}",
            type=cli.positive if name == "frames" else cli.amount,
            default=default,
            metavar=unit,
            help=f"largest {what} (default: %(default)s)",
        )
    parser.add_argument(
        "--keep",
        type=cli.positive,
        default=3600,
        metavar="S",
        help="remove uploads and results after so many seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--max-models",
        type=cli.positive,
        default=2,
        metavar="N",
        help="models to keep in memory (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if any(len(model) > 2 for model in args.model):
        parser.error("--model takes a config and at most one checkpoint")
    for config, *checkpoint in args.model:
        try:
            cli.config(config)
            cli.checkpoint(*checkpoint) if checkpoint else None
        except argparse.ArgumentTypeError as error:
            parser.error(f"--model: {error}")
    return args


def find_models(extra: list[list[str]]) -> dict[str, ModelChoice]:
    """What can be asked for: configs whose weights are shipped, and those of the command line."""
    from mmvis_plugin.apis import list_configs

    shipped = sorted(
        list_configs(with_weights=True), key=lambda name: (name != DEFAULT_MODEL, name)
    )
    choices = {name: ModelChoice(name) for name in shipped}
    for config, *checkpoint in extra:
        names = [Path(config).stem, *(Path(path).stem for path in checkpoint)]
        name = ", ".join(names)
        if name in choices:
            raise SystemExit(f"error: --model {config}: there is a model named {name} already")
        choices[name] = ModelChoice(config, *checkpoint)
    return choices


def import_page() -> ModuleType:
    """The module that needs Gradio, which an installation without the extra [web] lacks.

    Raises:
        SystemExit: If it does; the message says how to install it.
    """
    try:
        import web_page
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in ("gradio", "gradio_client"):
            raise
        raise SystemExit(
            "error: the page needs Gradio; install it in the repository: pip install -e '.[web]'"
        ) from None
    return web_page


def remove_old_files(folder: Path, seconds: float) -> None:
    """Remove what has been in a folder for longer than that.

    Gradio's own cleaning (``delete_cache``) leaves videos and pictures that a request gave.
    """
    oldest = time.time() - seconds
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        with suppress(OSError):  # another upload of the same file may be just coming
            if path.stat().st_ctime < oldest:
                path.rmdir() if path.is_dir() else path.unlink()


def keep_clean(folder: Path, seconds: float) -> None:
    """Remove old files again and again, in a thread of its own."""

    def clean():
        while True:
            time.sleep(min(CLEAN_EVERY, seconds))
            with suppress(OSError):  # a folder may vanish while it is looked through
                remove_old_files(folder, seconds)

    threading.Thread(target=clean, name="clean", daemon=True).start()


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    web_page = import_page()
    from web_models import make_examples
    from web_requests import ModelCache

    limits = Limits(args.max_size, args.max_seconds, args.max_frames, stored=args.max_stored)
    choices = find_models(args.model)
    if not choices:
        raise ValueError("no weights are shipped here: name a model (--model)")
    models = ModelCache(choices, args.device, args.max_models, args.accept_licence)
    # A folder of this server alone, which nobody else on this machine can look into.
    cache = os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="mmvis_web_")
    films = Path(tempfile.mkdtemp(prefix="mmvis_examples_"))
    try:
        for name in reversed(choices):
            with models.borrow(name):  # what cannot be loaded is told now
                pass
        keep_clean(Path(cache), args.keep)
        examples = make_examples(films)
        page = web_page.build_page(choices, models, limits, args.max_models, examples)
        web_page.launch(page, limits, args.host, args.port)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(films, ignore_errors=True)


if __name__ == "__main__":
    cli.run(main)
