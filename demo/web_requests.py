"""What a request to the web page does: a bounded upload in, files with its tracks out.

Nothing here knows of the page (web_page.py) or of who asks.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
from web_limits import MEGABYTE, Limits, ModelChoice, RequestError
from web_results import FILE, KeptVideo, keep_frame, kept_video, replay

from mmvis_plugin.apis import CSVSink, JSONSink, MOTSSink, VideoSink, VISInferencer
from mmvis_plugin.apis.track_bars import read_rows, read_track_table
from mmvis_plugin.files import write_picture
from mmvis_plugin.video.containers import find_film, open_container
from mmvis_plugin.visualization.timeline import figure_pixels, plot_timeline

# Containers that hold one video each. FFmpeg also reads playlists, which name further files of
# this machine and of the network: an upload must not.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf"
MOST_OF_IT = 0.8  # share of the announced length below which a film is incomplete
# Of the table of tracks: its headings, and the columns of CSVSink they stand for.
TABLE = {
    "Track": "track_id",
    "Class": "class",
    "Score": "score",
    "From (s)": "first_time",
    "To (s)": "last_time",
    "Frames": "length",
    "Mean area (pixels)": "mean_area",
}


@dataclass
class _LoadedModel:
    """A model, who waits for it or uses it, and whose turn it is."""

    inferencer: VISInferencer | None = None
    num_users: int = 0
    turn: Lock = field(default_factory=Lock)


class ModelFacts(NamedTuple):
    """What is known of a model once it was loaded: its classes, and its own minimum score."""

    classes: tuple[str, ...]
    shown_score: float


class ModelCache:
    """Models on demand: the last few that were asked for stay loaded.

    Args:
        choices: The models, by the name under which they are asked for.
        device: Where they run, see :class:`VISInferencer`.
        size: Models to keep. One that is in use is kept beyond that.
        accept_licence: See :class:`VISInferencer`.

    Attributes:
        facts (dict[str, ModelFacts]): Of each model that was loaded at some time.
    """

    def __init__(
        self,
        choices: Mapping[str, ModelChoice],
        device: str | None,
        size: int,
        accept_licence: bool = False,
    ):
        self._choices = choices
        self._settings = dict(device=device, accept_licence=accept_licence)
        self._size = size
        self.facts: dict[str, ModelFacts] = {}
        self._models: OrderedDict[str, _LoadedModel] = OrderedDict()  # the last used at the end
        self._lock = Lock()

    @contextmanager
    def borrow(self, name: str) -> Iterator[VISInferencer]:
        """Have a model to oneself; whoever asks for the same one waits.

        Raises:
            RequestError: If there is no model of this name.
            FileNotFoundError, CheckpointError, ValueError: See :class:`VISInferencer`.
        """
        if name not in self._choices:
            raise RequestError(f"There is no model {name!r} here.")
        model = self._enter(name)
        try:
            with model.turn:
                if model.inferencer is None:
                    model.inferencer = VISInferencer(*self._choices[name], **self._settings)
                    loaded = model.inferencer
                    self.facts[name] = ModelFacts(loaded.classes, loaded.shown_score)
                yield model.inferencer
        finally:
            with self._lock:
                model.num_users -= 1

    def _enter(self, name: str) -> _LoadedModel:
        with self._lock:
            model = self._models.setdefault(name, _LoadedModel())
            self._models.move_to_end(name)
            model.num_users += 1
            idle = [other for other, loaded in self._models.items() if not loaded.num_users]
            for other in idle[: max(len(self._models) - self._size, 0)]:
                del self._models[other]
            return model


class Progress(NamedTuple):
    """How far a request is: frames that are done, and all of them where the file tells."""

    what: str
    done: int
    total: int | None


class Outcome(NamedTuple):
    """What a request gives.

    Attributes:
        summary: A line on what was read and found.
        video: The video with its tracks drawn on it, MP4.
        timeline: When each track is there, PNG.
        table: A row a track, under the headings of ``TABLE``.
        files: What can be downloaded: the video; the tracks in the official results format, JSON;
            a table of them, CSV; and their masks in the style of MOTS, TXT.
    """

    summary: str
    video: Path
    timeline: Path
    table: list[list[str]]
    files: list[Path]


def segment_upload(
    upload: str | os.PathLike | None,
    model: str,
    models: ModelCache,
    limits: Limits,
    folder: Path,
) -> Iterator[Progress | KeptVideo]:
    """Segment an uploaded video.

    Args:
        upload: The file.
        model: Name of a model in ``models``.
        models: The models.
        limits: Bounds on the upload.
        folder: Empty folder for the results, from which :func:`draw_results` takes them.

    Yields:
        Progress after each frame, and the video with its results at last.

    Raises:
        RequestError: If the upload is over the limits or there is no such model.
        VideoError: If it cannot be read.
    """
    if not upload:
        raise RequestError("There is no video yet: upload one, or record one with the webcam.")
    upload = Path(upload)
    check_upload(upload, limits)
    yield Progress("Segmenting", 0, None)
    with ExitStack() as stack:
        inferencer = stack.enter_context(models.borrow(model))
        file = stack.enter_context(open(folder / FILE, "w"))
        # One frame more than allowed tells a video that is too long from one that just is not.
        video = stack.enter_context(inferencer(upload, end=limits.frames + 1))
        if video.size[0] * video.size[1] > limits.pixels:  # the header may have told another size
            raise too_large(limits)
        for result in video:
            if result.index >= limits.frames or result.timing.start > limits.seconds:
                raise too_long(limits)
            keep_frame(file, result.instances)
            yield Progress("Segmenting", result.index + 1, video.expected_frames)
    kept = kept_video(video, upload, folder, result.index + 1)
    yield kept


def draw_results(
    kept: KeptVideo, score_thr: float, classes: Sequence[str], folder: Path
) -> Iterator[Progress | Outcome]:
    """Draw the results of a video and write them in all formats; no model is asked.

    Args:
        kept: The video, as :func:`segment_upload` gives it.
        score_thr: Objects that score less in a frame are left out, but in the JSON.
        classes: Names of the classes to keep; none for all.
        folder: Empty folder for the files.

    Yields:
        Progress after each frame, and the outcome at last.

    Raises:
        RequestError: If the video or its results have been removed.
    """
    if not (kept.path.is_file() and (kept.folder / FILE).is_file()):
        raise RequestError("This video is no longer kept here: upload it again.")
    stem = folder / f"{kept.path.stem}_tracks"
    sinks = (
        VideoSink(stem.with_name(f"{stem.name}.mp4"), score_thr),
        JSONSink(stem.with_name(f"{stem.name}.json")),
        CSVSink(stem.with_name(f"{stem.name}.csv"), score_thr),
        MOTSSink(stem.with_name(f"{stem.name}.txt"), score_thr),
    )
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        for result in replay(kept, classes):
            for sink in sinks:
                sink.write(result)
            yield Progress("Drawing", result.index + 1, kept.num_read)
    files = [sink.written for sink in sinks]
    timeline = folder / f"{kept.path.stem}_timeline.png"
    bars = read_track_table(files[2])
    # The rate that browsers write into their recordings (1000 a second) is not theirs.
    seconds = sum(result.timing)
    figure = plot_timeline(bars, kept.num_read, float(kept.num_read / seconds))
    write_picture(figure_pixels(figure), timeline)
    summary = summarize(kept, seconds, len(bars), score_thr)
    yield Outcome(summary, files[0], timeline, read_table(files[2]), files)


def check_upload(path: Path, limits: Limits) -> None:
    """Make sure that an upload is a video within the limits, as far as its header tells.

    No frame is decoded. What the header does not tell, or tells wrongly, shows while frames are
    read.

    Raises:
        RequestError: If it is not.
    """
    if path.stat().st_size > limits.megabytes * MEGABYTE:
        raise RequestError(f"The file is too large: {limits} are allowed here.")
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "file",
        "max_pixels": str(limits.pixels),  # FFmpeg reserves no memory for more
    }
    try:
        with open_container(str(path), options=options) as container:
            stream = find_film(container)
            if stream is None:
                raise RequestError("There is no video in this file.")
            seconds = (container.duration or 0) / av.time_base
            # FFmpeg gives no size where it is more than max_pixels.
            size_fits = 0 < stream.width * stream.height <= limits.pixels
            known = stream.codec_context is not None  # otherwise the reader says what is missing
            num_frames = stream.frames or count_packets(container, stream, limits.frames + 1)
    except av.error.FFmpegError as error:
        raise RequestError(
            "This is not a video, it is damaged, or it is of a kind that is not read here "
            "(MP4, MOV, WebM, Matroska, AVI and MPEG are)."
        ) from error
    if seconds > limits.seconds or num_frames > limits.frames:
        raise too_long(limits)
    if known and not size_fits:
        raise too_large(limits)


def count_packets(container, stream, most: int) -> int:
    """Number of a video's packets (each a frame) up to a bound or the first that is damaged."""
    packets = (packet for packet in container.demux(stream) if packet.size)
    number = 0
    with suppress(av.error.FFmpegError):
        for _ in islice(packets, most):
            number += 1
    return number


def too_large(limits: Limits) -> RequestError:
    return RequestError(
        f"The picture is too large, or its size is not known: {limits} are allowed here."
    )


def too_long(limits: Limits) -> RequestError:
    return RequestError(f"The video is too long: {limits} are allowed here.")


def read_table(path: Path) -> list[list[str]]:
    """Rows of a table that CSVSink wrote, under the headings of ``TABLE``."""
    return [[row[column] for column in TABLE.values()] for row in read_rows(path)]


def summarize(video: KeptVideo, seconds: Fraction, num_tracks: int, score_thr: float) -> str:
    """What was read and found; ``seconds`` is when the last frame ends."""
    width, height = video.size
    num_frames = video.num_read
    summary = f"{num_frames} frames of {width} x {height}, "
    summary += f"{num_tracks} tracks" if num_tracks != 1 else "1 track"
    if not num_tracks:
        summary += f": nothing scored {score_thr:g} or more"
    if video.num_broken:
        summary += f"; {video.num_broken} frames cannot be decoded and are left out"
    missing = (video.num_frames or 0) - video.num_broken - num_frames
    if missing > 0:
        summary += f"; the file is incomplete: {missing} further frames are missing"
    # Matroska and WebM say how long they are, which their sound may be, too.
    announced = 0 if video.num_frames else (video.expected_frames or 0) / video.fps
    if seconds < MOST_OF_IT * announced:
        summary += f"; the file is incomplete: it ends after {float(seconds):.1f} of "
        summary += f"{float(announced):.1f} seconds"
    return summary + "."
