"""A web page that segments videos: upload one or record it, and see its tracks."""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

try:
    import gradio as gr
except ImportError:
    sys.exit("the page needs Gradio: install it with `pip install 'mmvis-plugin[web]'`")

from gradio_client.utils import is_http_url_like
from web_requests import (
    MEGABYTE,
    TABLE,
    Limits,
    ModelCache,
    ModelChoice,
    Outcome,
    RequestError,
    segment_upload,
)

from mmvis_plugin.apis import VideoError, list_configs
from mmvis_plugin.utils.checkpoint import CheckpointError, forbid_unsafe_loading

EXAMPLES = """examples:
  python demo/web_demo.py
  python demo/web_demo.py --model configs/maskprop/maskprop_r50_ytvis19.py r50.pth --device cuda:0
  python demo/web_demo.py --host 0.0.0.0 --max-size 200 --max-seconds 120 --max-frames 3600

The page is for this machine alone unless --host says otherwise. It offers the models for which
weights are shipped and those of --model; a visitor cannot name files. Whoever gets hold of the
random address of a file of another visitor could read it until it is removed (--keep); put a
server with encryption and accounts in front of a page that is open to the world.
"""
DEFAULT_MODEL = "maskprop_r18_shapes"
WEBCAM = {"video": {"width": {"ideal": 1280}, "height": {"ideal": 720}}}
QUEUE = 16  # requests that wait at most
UPDATE_EVERY = 0.25  # seconds between two reports of progress
CLEAN_EVERY = 60  # seconds

logger = logging.getLogger("web_demo")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    limits = Limits()
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        nargs="+",
        action="append",
        default=[],
        metavar=("CONFIG", "CHECKPOINT"),
        help="offer this model as well: config, file or name, and weights; repeatable",
    )
    parser.add_argument("--device", help="e.g. cpu or cuda:0; default: a GPU if there is one")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    for name, unit in (("size", "MB"), ("seconds", "S"), ("frames", "N")):
        default = limits.megabytes if name == "size" else getattr(limits, name)
        parser.add_argument(
            f"--max-{name}",
            type=int if name == "frames" else float,
            default=default,
            metavar=unit,
            help=f"bound on an upload's {name} (%(default)s)",
        )
    parser.add_argument(
        "--keep", type=int, default=3600, metavar="S", help="remove files after (%(default)s)"
    )
    parser.add_argument(
        "--max-models", type=int, default=2, metavar="N", help="models in memory (%(default)s)"
    )
    args = parser.parse_args(argv)
    if any(len(model) > 2 for model in args.model):
        parser.error("--model takes a config and at most one checkpoint")
    if min(args.max_size, args.max_seconds, args.max_frames, args.keep, args.max_models) <= 0:
        parser.error("--max-size, --max-seconds, --max-frames, --max-models, --keep: 1 or more")
    return args


def find_models(extra: list[list[str]]) -> dict[str, ModelChoice]:
    """What can be asked for: configs whose weights are shipped, and those of the command line."""
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


def without_addresses(move_to_cache: Callable) -> Callable:
    """The function with which a component takes files in, for files of the visitor alone.

    A program may name an address in the place of a file, and Gradio would fetch what is there, of
    any size.
    """

    async def move(path):
        if is_http_url_like(str(path)):
            raise gr.Error("Addresses are not fetched: upload the video.", print_exception=False)
        return await move_to_cache(path)

    return move


def build_page(
    choices: dict[str, ModelChoice], models: ModelCache, limits: Limits, at_once: int
) -> gr.Blocks:
    """The page.

    Args:
        choices: The models it offers, by name.
        models: The same, loaded on demand.
        limits: Bounds on an upload.
        at_once: Requests that are worked on at the same time; of one model it is one.
    """

    def respond(upload, model, score_thr, progress=gr.Progress()):  # noqa: B008 Gradio's way
        with tempfile.TemporaryDirectory(prefix="mmvis_request_") as folder:
            steps = segment_upload(upload, model, score_thr, models, limits, Path(folder))
            yield from show(explain_errors(steps), progress)

    with gr.Blocks(title="Video instance segmentation", analytics_enabled=False) as page:
        gr.Markdown(f"# Video instance segmentation\nVideos of {limits}.")
        with gr.Row():
            with gr.Column():
                upload = gr.Video(
                    label="Video",
                    sources=["upload", "webcam"],
                    webcam_options=gr.WebcamOptions(mirror=False, constraints=WEBCAM),
                    include_audio=True,  # to take it out would need FFmpeg's program
                )
                # On the object: Gradio writes a file beside a module that derives a component.
                take_in = without_addresses(upload.async_move_resource_to_block_cache)
                upload.async_move_resource_to_block_cache = take_in
                model = gr.Dropdown([*choices], label="Method and weights")
                score_thr = gr.Slider(0, 1, 0.3, step=0.05, label="Least score shown")
                start = gr.Button("Segment", variant="primary")
                stop = gr.Button("Cancel")
            with gr.Column():
                video = gr.Video(
                    label="Tracks", interactive=False, autoplay=True, loop=True, elem_id="tracks"
                )
                summary = gr.Markdown()
                tracks = gr.File(label="Tracks in the official format (JSON)", interactive=False)
        timeline = gr.Image(label="Timeline", interactive=False, format="png")
        table = gr.Dataframe(
            headers=[*TABLE], label="Table of tracks", interactive=False, elem_id="table"
        )
        running = start.click(
            respond,
            [upload, model, score_thr],
            [summary, video, timeline, table, tracks],
            concurrency_limit=at_once,
            show_progress_on=[video],
            api_name="segment",
        )
        stop.click(None, cancels=[running])
    return page.queue(max_size=QUEUE)


def explain_errors(steps: Iterator) -> Iterator:
    """The same steps; what goes wrong is told to the visitor, or to the log where it is ours."""
    try:
        yield from steps
    except (RequestError, VideoError) as error:
        # Messages name a file by its path, which is nobody's business.
        raise gr.Error(without_folders(str(error)), duration=None, print_exception=False) from error
    except Exception as error:
        logger.exception("a request failed")
        message = "This request failed by a fault of the server, which is in its log."
        raise gr.Error(message, duration=None, print_exception=False) from error


def without_folders(message: str) -> str:
    return " ".join(word.rsplit(os.sep, 1)[-1] for word in message.split(" "))


def show(steps: Iterator, progress: gr.Progress) -> Iterator[tuple]:
    """Values for the page's outputs; between them Gradio can end a request that is cancelled."""
    due = 0.0
    for step in steps:
        if isinstance(step, Outcome):
            video, timeline, tracks = map(str, (step.video, step.timeline, step.tracks))
            yield step.summary, video, timeline, step.table, tracks
        elif time.monotonic() >= due:
            due = time.monotonic() + UPDATE_EVERY
            progress((step.done, step.total), desc="Segmenting", unit="frames")
            yield (gr.skip(),) * 5


def launch(
    page: gr.Blocks, limits: Limits, host: str, port: int | None, prevent_thread_lock: bool = False
) -> tuple:
    """Serve a page; only what Gradio keeps of its uploads and results can be read by address."""
    return page.launch(
        server_name=host,
        server_port=port,
        max_file_size=int(limits.megabytes * MEGABYTE),
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=[],
        # The default theme has the visitor's browser fetch fonts from elsewhere.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        prevent_thread_lock=prevent_thread_lock,
        quiet=prevent_thread_lock,
    )


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
            remove_old_files(folder, seconds)

    threading.Thread(target=clean, name="clean", daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    forbid_unsafe_loading()
    args = parse_args(argv)
    limits = Limits(args.max_size, args.max_seconds, args.max_frames)
    choices = find_models(args.model)
    if not choices:
        print("error: no weights are shipped here: name a model (--model)", file=sys.stderr)
        return 1
    models = ModelCache(choices, args.device, args.max_models)
    # A folder of this server alone, which nobody else on this machine can look into.
    cache = os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="mmvis_web_")
    try:
        for name in reversed(choices):
            with models.borrow(name):  # what cannot be loaded is told now
                pass
        keep_clean(Path(cache), args.keep)
        page = build_page(choices, models, limits, args.max_models)
        launch(page, limits, args.host, args.port)
    except (OSError, ValueError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
