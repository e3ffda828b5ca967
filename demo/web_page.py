"""The page itself, in Gradio: what is on it, and what it says when a request goes wrong.

What a request does is in web_requests.py, the command line in web_demo.py.
"""

import html
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.status import HTTP_507_INSUFFICIENT_STORAGE
from web_limits import MEGABYTE, Limits, ModelChoice, RequestError, require_room
from web_models import Example, describe, known_classes, menu_entry
from web_requests import TABLE, ModelCache, Outcome, Progress, draw_results, segment_upload
from web_results import KeptVideo

from mmvis_plugin.apis import VideoError
from mmvis_plugin.visualization.colors import track_color

WEBCAM = {"video": {"width": {"ideal": 1280}, "height": {"ideal": 720}}}
QUEUE = 16  # requests that wait at most
# What went wrong with one video is no news when the next one is there.
CLOSE_MESSAGES = "() => document.querySelectorAll('.toast-close').forEach(b => b.click())"
NUM_PANES = 2  # a model, and one that is compared with it
UPDATE_EVERY = 0.25  # seconds between two reports of progress

STYLE = """
.legend table { width: 100%; border-collapse: collapse; font-size: 0.9em; }
.legend th, .legend td { text-align: left; padding: 0.25em 0.5em 0.25em 0; white-space: nowrap; }
.legend { overflow-x: auto; }
.result:has(.empty) { display: none !important; }
#examples .grid-wrap { height: auto; max-height: none; min-height: 0; }
#examples { min-height: 0; }
.chip { display: inline-block; width: 0.9em; height: 0.9em; border-radius: 0.2em;
  margin-right: 0.5em; vertical-align: -0.1em; }
"""

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


class Pane(NamedTuple):
    """Where the result of one model is shown."""

    kept: gr.State
    summary: gr.Markdown
    video: gr.Video
    legend: gr.HTML
    timeline: gr.Image
    files: gr.File


class Requests:
    """What the page's buttons and switches do.

    Args:
        choices: The models it offers, by name.
        models: The same, loaded on demand.
        limits: Bounds on an upload.
        cache: Gradio's folder, where it leaves files as they are: elsewhere it would copy them to
            an address made of their content.
    """

    def __init__(
        self, choices: dict[str, ModelChoice], models: ModelCache, limits: Limits, cache: Path
    ):
        self._choices, self._models = choices, models
        self._limits, self._cache = limits, cache

    def segment(self, upload, model, second, score_thr, classes, progress=gr.Progress()):  # noqa: B008 Gradio's way
        """Segment the upload with one model or two; yields the values of two panes."""
        names = [model, second] if second else [model]
        titles = [menu_entry(name, self._choices[name]) if second else "" for name in names]
        requests = [
            self._segment(upload, name, title, score_thr, classes)
            for name, title in zip(names, titles, strict=True)
        ]
        yield from self._panes(requests, progress)

    def draw(self, first, second, score_thr, classes, progress=gr.Progress()):  # noqa: B008
        """Draw what was segmented with another minimum score or other classes."""
        kept = [video for video in (first, second) if video]
        yield from self._panes([self._draw(video, score_thr, classes) for video in kept], progress)

    def _panes(self, requests: list[Iterator], progress: gr.Progress) -> Iterator[list]:
        """Values for the page's outputs; between them Gradio can end what is cancelled."""
        values, due = [], 0.0
        for number, steps in enumerate(requests, 1):
            of = f" ({number} of {len(requests)})" if len(requests) > 1 else ""
            for step in explain_errors(steps):
                if isinstance(step, Progress):
                    if time.monotonic() >= due:
                        due = time.monotonic() + UPDATE_EVERY
                        what = f"{step.what}{of}"
                        progress((step.done, step.total), desc=what, unit="frames")
                        yield [gr.skip()] * NUM_PANES * len(Pane._fields)
                else:
                    values += step
        # A pane without a result is emptied: it is of another video.
        yield values + [None] * (NUM_PANES * len(Pane._fields) - len(values))

    def _segment(self, upload, model, title, score_thr, classes) -> Iterator[Progress | list]:
        require_room(self._cache, self._limits)
        folder = self._new_folder()
        try:
            for step in segment_upload(upload, model, self._models, self._limits, folder):
                if isinstance(step, KeptVideo):
                    step.title = title
                    yield from self._draw(step, score_thr, classes)
                else:
                    yield step
        except BaseException:  # of a visitor who leaves, too
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _draw(self, kept, score_thr, classes) -> Iterator[Progress | list]:
        require_room(self._cache, self._limits)
        folder = self._new_folder()
        try:
            for step in draw_results(kept, score_thr, classes, folder):
                yield step if isinstance(step, Progress) else pane_values(kept, step)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if kept.drawn:  # a visitor who tries many scores has the files of one
            shutil.rmtree(kept.drawn, ignore_errors=True)
        kept.drawn = folder

    def _new_folder(self) -> Path:
        folder = self._cache / secrets.token_hex(32)
        folder.mkdir(mode=0o700)
        return folder

    def choose(self, model, second):
        """What the page says of the chosen models, their classes, and the first one's threshold."""
        facts = self._models.facts
        about = describe(self._choices[model], facts.get(model))
        if second:
            about += f"\n\n*{menu_entry(second, self._choices[second])}*  \n"
            about += describe(self._choices[second], facts.get(second))
        known = known_classes([model, second], facts)
        score_thr = facts[model].shown_score if model in facts else 0.3
        return (
            about,
            gr.Dropdown(choices=known, value=[], multiselect=True),
            score_thr,
            gr.Column(visible=bool(second)),
        )

    def take_example(self, examples: list[Example], event: gr.SelectData):
        """A film to try, copied to an address of its own like an upload."""
        try:
            require_room(self._cache, self._limits)
        except RequestError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return str(shutil.copy(examples[event.index].film, self._new_folder()))


def pane_values(kept: KeptVideo, outcome: Outcome) -> list:
    """What a pane shows of an outcome, in the order of its fields."""
    files = list(map(str, outcome.files))
    video, timeline = str(outcome.video), str(outcome.timeline)
    summary = f"**{kept.title}:** {outcome.summary}" if kept.title else outcome.summary
    return [kept, summary, video, legend(outcome.table), timeline, files]


def legend(rows: list[list[str]]) -> str:
    """The tracks as an HTML table, each with the colour that it has in the video."""
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in TABLE)
    lines = []
    for track, name, *rest in rows:
        blue, green, red = track_color(int(track))
        chip = f'<span class="chip" style="background: rgb({red}, {green}, {blue})"></span>'
        cells = [f"{chip}{html.escape(track)}", html.escape(name.replace("_", " "))]
        cells += map(html.escape, rest)
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def build_page(
    choices: dict[str, ModelChoice],
    models: ModelCache,
    limits: Limits,
    at_once: int,
    examples: Sequence[Example] = (),
) -> gr.Blocks:
    """The page.

    Args:
        choices: The models it offers, by name.
        models: The same, loaded on demand.
        limits: Bounds on an upload.
        at_once: Requests that are worked on at the same time; of one model it is one.
        examples: Films to try.
    """
    cache = Path(get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)
    requests = Requests(choices, models, limits, cache)
    first = next(iter(choices))
    about, _, score, _ = requests.choose(first, None)
    entries = [(menu_entry(name, choice), name) for name, choice in choices.items()]

    with gr.Blocks(title="Video instance segmentation", analytics_enabled=False) as page:
        gr.Markdown(
            "# Video instance segmentation\nFind the objects in a video and follow each one: its "
            f"outline, class and identity in every frame.\nVideos of {limits}."
        )
        with gr.Row():
            with gr.Column():
                upload = make_upload()
                if examples:
                    gr.set_static_paths([example.picture for example in examples])
                    gr.Markdown("No video at hand? Try a film of painted shapes:")
                    films = gr.Gallery(
                        [str(example.picture) for example in examples],
                        show_label=False,
                        columns=len(examples),
                        object_fit="cover",
                        allow_preview=False,
                        interactive=False,
                        buttons=[],
                        elem_id="examples",
                    )
            with gr.Column():
                model = gr.Dropdown(entries, value=first, label="Model")
                about = gr.Markdown(about, elem_id="about")
                second = gr.Dropdown(
                    [("no other model", ""), *entries], value="", label="Compare with"
                )
                with gr.Row():
                    start = gr.Button("Segment", variant="primary")
                    stop = gr.Button("Cancel")
        with gr.Row():
            score_thr = gr.Slider(
                *(0, 1, score),
                step=0.05,
                label="Minimum score",
                min_width=300,
                info="Objects that score less are not shown. The model does not run again.",
            )
            classes = gr.Dropdown(
                known_classes([first], models.facts),
                value=[],
                multiselect=True,
                label="Classes",
                min_width=300,
                info="Show these only; all if none is chosen.",
            )
        with gr.Row():
            with gr.Column():
                panes = [make_pane("tracks")]
            with gr.Column(visible=False) as other:
                panes.append(make_pane("tracks2"))

        outputs = [part for pane in panes for part in pane]
        running = start.click(
            requests.segment,
            [upload, model, second, score_thr, classes],
            outputs,
            concurrency_limit=at_once,
            show_progress_on=[pane.video for pane in panes],
            api_name="segment",
        )
        drawing = gr.on(
            [score_thr.input, classes.input],
            requests.draw,
            [*(pane.kept for pane in panes), score_thr, classes],
            outputs,
            concurrency_limit=at_once,
            show_progress_on=[pane.video for pane in panes],
            trigger_mode="always_last",
            api_visibility="private",
        )
        stop.click(None, cancels=[running, drawing])
        gr.on(
            [model.change, second.change],
            requests.choose,
            [model, second],
            [about, classes, score_thr, other],
            api_visibility="private",
            show_progress="hidden",
        )
        if examples:

            def take(event: gr.SelectData):
                return requests.take_example(examples, event)

            films.select(take, None, upload, api_visibility="private", show_progress="hidden")
        upload.change(None, js=CLOSE_MESSAGES)
    return page.queue(max_size=QUEUE)


def make_upload() -> gr.Video:
    upload = gr.Video(
        label="Video",
        sources=["upload", "webcam"],
        webcam_options=gr.WebcamOptions(mirror=False, constraints=WEBCAM),
        include_audio=True,  # to take it out would need FFmpeg's program
        height=300,
    )
    # On the object: Gradio writes a file beside a module that derives a component.
    take_in = without_addresses(upload.async_move_resource_to_block_cache)
    upload.async_move_resource_to_block_cache = take_in
    return upload


def make_pane(name: str) -> Pane:
    """The parts of a pane, from top to bottom; ``name`` is the id of its video."""
    kept = gr.State()
    video = gr.Video(label="Tracks", interactive=False, autoplay=True, loop=True, elem_id=name)
    summary = gr.Markdown()
    table = gr.HTML(elem_id=f"{name}-legend", elem_classes="legend")
    timeline = gr.Image(
        label="Timeline",
        interactive=False,
        format="png",
        buttons=["fullscreen"],
        elem_classes="result",
    )
    files = gr.File(
        label="Downloads: video (MP4), YouTube-VIS results (JSON), table (CSV), MOTS (TXT)",
        file_count="multiple",
        interactive=False,
        elem_id=f"{name}-files",
        elem_classes="result",
    )
    return Pane(kept, summary, video, table, timeline, files)


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
        css=STYLE,
        prevent_thread_lock=prevent_thread_lock,
        quiet=prevent_thread_lock,
    )
