"""The page itself, in Gradio: what is on it, and what it says when a request goes wrong.

What a request does is in web_requests.py, the command line in web_demo.py.
"""

import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.status import HTTP_507_INSUFFICIENT_STORAGE
from web_limits import MEGABYTE, Limits, ModelChoice, RequestError, require_room
from web_requests import TABLE, ModelCache, Outcome, segment_upload

from mmvis_plugin.apis import VideoError
from mmvis_plugin.apis.releases import find_release
from mmvis_plugin.config import find_config

WEBCAM = {"video": {"width": {"ideal": 1280}, "height": {"ideal": 720}}}
QUEUE = 16  # requests that wait at most
# What went wrong with one video is no news when the next one is there.
CLOSE_MESSAGES = "() => document.querySelectorAll('.toast-close').forEach(b => b.click())"
UPDATE_EVERY = 0.25  # seconds between two reports of progress

logger = logging.getLogger("web_demo")


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


class RefuseWhenFull:
    """Middleware that refuses uploads while the server keeps as many files as it may.

    Args:
        app: What answers all other requests.
        folder: Where uploads and results are kept.
        limits: Bounds on them.
    """

    def __init__(self, app: Callable, folder: Path, limits: Limits):
        self._app, self._folder, self._limits = app, folder, limits

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/upload"):
            try:
                require_room(self._folder, self._limits)
            except RequestError as error:
                refusal = PlainTextResponse(str(error), HTTP_507_INSUFFICIENT_STORAGE)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
        # In Gradio's folder, where it leaves files as they are: elsewhere it would copy them to an
        # address made of their content.
        folder = cache / secrets.token_hex(32)
        folder.mkdir(mode=0o700)
        try:
            yield from show(explain_errors(work(upload, model, score_thr, folder)), progress)
        except BaseException:  # of a visitor who leaves, too
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def work(upload, model, score_thr, folder):
        require_room(cache, limits)
        yield from segment_upload(upload, model, score_thr, models, limits, folder)

    cache = Path(get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)

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
                entries = [(menu_entry(name, choice), name) for name, choice in choices.items()]
                model = gr.Dropdown(entries, label="Method and weights")
                score_thr = gr.Slider(0, 1, 0.3, step=0.05, label="Minimum score")
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
        upload.change(None, js=CLOSE_MESSAGES)
    return page.queue(max_size=QUEUE)


def menu_entry(name: str, choice: ModelChoice) -> str:
    """A model in the menu, with what it knows where that is known."""
    release = find_release(find_config(choice.config))
    if choice.checkpoint or release is None:
        return name
    if release.knows_shapes_only:
        return f"{name} (painted shapes only, nothing real; output delay: {release.delay})"
    return f"{name} ({release.dataset}; output delay: {release.delay})"


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
        app_kwargs={"middleware": [Middleware(RefuseWhenFull, Path(get_upload_folder()), limits)]},
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=[],
        # The default theme has the visitor's browser fetch fonts from elsewhere.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        prevent_thread_lock=prevent_thread_lock,
        quiet=prevent_thread_lock,
    )
