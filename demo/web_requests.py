"""What a request to the web page does: a bounded upload in, files with its tracks out.

Nothing here knows of the page (web_demo.py) or of who asks.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
from web_limits import MEGABYTE, Limits, ModelChoice, RequestError

from mmvis_plugin.apis import CSVSink, JSONSink, VideoSink, VideoStream, VISInferencer
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


class ModelCache:
    """Models on demand: the last few that were asked for stay loaded.

    Args:
        choices: The models, by the name under which they are asked for.
        device: Where they run, see :class:`VISInferencer`.
        size: Models to keep. One that is in use is kept beyond that.
    """

    def __init__(self, choices: Mapping[str, ModelChoice], device: str | None, size: int):
        self._choices = choices
        self._device = device
        self._size = size
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
                    model.inferencer = VISInferencer(*self._choices[name], device=self._device)
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

    done: int
    total: int | None


class Outcome(NamedTuple):
    """What a request gives.

    Attributes:
        summary: A line on what was read and found.
        video: The video with its tracks drawn on it, MP4.
        timeline: When each track is there, PNG.
        table: A row a track, under the headings of ``TABLE``.
        tracks: The tracks in the official results format, JSON.
    """

    summary: str
    video: Path
    timeline: Path
    table: list[list[str]]
    tracks: Path


def segment_upload(
    upload: str | os.PathLike | None,
    model: str,
    score_thr: float,
    models: ModelCache,
    limits: Limits,
    folder: Path,
) -> Iterator[Progress | Outcome]:
    """Segment an uploaded video.

    Args:
        upload: The file.
        model: Name of a model in ``models``.
        score_thr: Objects that score less in a frame are left out of picture and table.
        models: The models.
        limits: Bounds on the upload.
        folder: Empty folder for the results.

    Yields:
        Progress after each frame, and the outcome at last.

    Raises:
        RequestError: If the upload is over the limits or there is no such model.
        VideoError: If it cannot be read.
    """
    if not upload:
        raise RequestError("There is no video yet: upload one, or record one with the webcam.")
    upload = Path(upload)
    check_upload(upload, limits)
    yield Progress(0, None)
    sinks = (
        VideoSink(folder / f"{upload.stem}_tracks.mp4", score_thr),
        JSONSink(folder / f"{upload.stem}_tracks.json"),
        CSVSink(folder / f"{upload.stem}_tracks.csv", score_thr),
    )
    with models.borrow(model) as inferencer, ExitStack() as stack:
        # One frame more than allowed tells a video that is too long from one that just is not.
        video = stack.enter_context(inferencer(upload, end=limits.frames + 1))
        if video.size[0] * video.size[1] > limits.pixels:  # the header may have told another size
            raise too_large(limits)
        for sink in sinks:
            stack.enter_context(sink)
        for result in video:
            if result.index >= limits.frames or result.timing.start > limits.seconds:
                raise too_long(limits)
            for sink in sinks:
                sink.write(result)
            yield Progress(result.index + 1, video.expected_frames)
    painted, tracks, table = (sink.written for sink in sinks)
    timeline = folder / f"{upload.stem}_timeline.png"
    bars = read_track_table(table)
    num_frames = result.index + 1
    # The rate that browsers write into their recordings (1000 a second) is not theirs.
    rate = num_frames / sum(result.timing)
    write_picture(figure_pixels(plot_timeline(bars, num_frames, float(rate))), timeline)
    summary = summarize(video, num_frames, sum(result.timing), len(bars), score_thr)
    rows = read_table(table)
    table.unlink()  # the page shows it; nobody is given the file
    yield Outcome(summary, painted, timeline, rows, tracks)


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


def summarize(
    video: VideoStream, num_frames: int, seconds: Fraction, num_tracks: int, score_thr: float
) -> str:
    """What was read and found; ``seconds`` is when the last frame ends."""
    width, height = video.size
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
