"""When each track of a video is there: one bar a track."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmvis_plugin.ytvis.json_file import read_json

from .colors import ink_on, track_color
from .contact_sheet import write_picture
from .labels import default_font, font_file

if TYPE_CHECKING:  # Matplotlib is loaded when something is plotted
    from matplotlib.figure import Figure

BAR_HEIGHT = 0.72  # of the distance of two rows
GAP_COLOR = "0.65"


class TrackBar(NamedTuple):
    """A track in a timeline.

    Attributes:
        id: Identity, which gives the colour.
        class_name: The track's class.
        score: The track's score, in [0, 1].
        runs: First frame and frame after the last of each stretch in which it is present, in order.
    """

    id: int
    class_name: str
    score: float
    runs: list[tuple[int, int]]

    @property
    def length(self) -> int:
        """Frames in which it is present."""
        return sum(stop - first for first, stop in self.runs)


def runs_of(present: Sequence[bool], first: int = 0) -> list[tuple[int, int]]:
    """Stretches of frames in which something is true.

    Args:
        present: Of each frame, whether it is.
        first: Number of the first of these frames.

    Returns:
        list[tuple[int, int]]: First frame and frame after the last of each stretch.
    """
    runs = []
    for is_present, group in groupby(present, key=bool):
        stop = first + sum(1 for _ in group)
        if is_present:
            runs.append((first, stop))
        first = stop
    return runs


def read_track_table(path: str | os.PathLike) -> list[TrackBar]:
    """Tracks of a table that :class:`~mmvis_plugin.apis.CSVSink` wrote.

    Args:
        path: The table, which has the identities that a video of the same run is painted with.

    Raises:
        ValueError: If it is no such table; the message says which row is wrong.
    """
    bars = []
    for row in read_rows(path):
        try:
            areas = [int(area) for area in row["areas"].split()]
            runs = runs_of(areas, int(row["first_frame"]))
            score = float(row["score"])
            bars.append(TrackBar(int(row["track_id"]), row["class"], score, runs))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: row {len(bars) + 1} is not that of a table of tracks, which has the "
                f"columns track_id, class, score, first_frame and areas ({error!r})"
            ) from error
    return bars


def read_rows(path: str | os.PathLike) -> Iterator[dict[str, str]]:
    """Rows of a table of tracks, by the names of its columns."""
    # The areas of a track of some minutes are more than the 131,072 characters of the default.
    csv.field_size_limit(2**31 - 1)
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def read_results(
    path: str | os.PathLike, video_id: int | None = None, classes: dict[int, str] | None = None
) -> tuple[list[TrackBar], int]:
    """Tracks of a video in official YouTube-VIS results.

    The format has no identities: a track's is its rank by score, as in the pictures of
    ``tools/analysis_tools/browse_ytvis.py --results``.

    Args:
        path: JSON as ``tools/test.py --out`` and ``JSONSink`` write it.
        video_id: Which video; it may be left out where the results are of one.
        classes: Class name by category id. Without it, or for ids that are not in it, the id
            stands for the name.

    Returns:
        tuple[list[TrackBar], int]: The tracks by falling score, and the video's number of frames,
        0 where there are no tracks.

    Raises:
        ValueError: If the file is no such JSON, or holds several videos and none is chosen.
    """
    try:
        entries = read_json(path)
        videos = sorted({entry["video_id"] for entry in entries})
        if video_id is None and len(videos) > 1:
            raise ValueError(f"{path} has {len(videos)} videos ({videos[0]}, ...): choose one")
        wanted = videos[0] if video_id is None and videos else video_id
        entries = [entry for entry in entries if entry["video_id"] == wanted]
        bars = []
        for entry in sorted(entries, key=lambda entry: -entry["score"]):
            category = entry["category_id"]
            name = (classes or {}).get(category, f"category {category}")
            runs = runs_of(entry["segmentations"])
            bars.append(TrackBar(len(bars), name, entry["score"], runs))
        return bars, max((len(entry["segmentations"]) for entry in entries), default=0)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a JSON of results ({error!r})") from error


def plot_timeline(
    bars: Sequence[TrackBar],
    num_frames: int,
    fps: float | None = None,
    max_tracks: int = 60,
    title: str = "",
) -> Figure:
    """One bar a track in the colour of its identity, from the first to appear to the last.

    Where a track is absent between two stretches there is a thin grey line.

    Args:
        bars: The tracks; those without a frame are left out.
        num_frames: Length of the video.
        fps: Its frame rate, for a second axis in seconds.
        max_tracks: Draw only the so many longest; the title tells how many there are.
        title: Of the plot, for example the video's name.

    Returns:
        Figure: Of Matplotlib; frame ``t`` reaches from ``t`` to ``t + 1`` on the x axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    present = [bar for bar in bars if bar.runs]
    shown = sorted(present, key=lambda bar: -bar.length)[:max_tracks]
    shown.sort(key=lambda bar: (bar.runs[0][0], bar.id))
    if len(shown) < len(present):
        title = f"{title} (the {len(shown)} longest of {len(present)} tracks)".lstrip()

    figure = Figure(figsize=(10, 1.3 + 0.26 * max(len(shown), 2)), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for row, bar in enumerate(shown):
        color = np.array(track_color(bar.id)[::-1]) / 255
        axes.hlines(row, bar.runs[0][0], bar.runs[-1][1], colors=GAP_COLOR, lw=1, zorder=1)
        spans = [(first, stop - first) for first, stop in bar.runs]
        below = row - BAR_HEIGHT / 2
        axes.broken_barh(spans, (below, BAR_HEIGHT), facecolors=[color], lw=0, zorder=2)
        _write_id(axes, bar, row, num_frames)
    # Names are names, whatever dollar signs are in them.
    names = [f"{bar.class_name} {bar.score:.2f}" for bar in shown]
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if (font := font_file(name)) != default_font():
            label.set_font(Path(font))
    axes.set_title(title, parse_math=False)
    axes.set(xlim=(0, max(num_frames, 1)), xlabel="frame")
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="0.9", zorder=0)
    axes.set_axisbelow(True)
    if not shown:
        axes.text(0.5, 0.5, "no tracks", transform=axes.transAxes, ha="center", va="center")
    if fps:
        seconds = axes.secondary_xaxis(
            "top", functions=(lambda frame: frame / fps, lambda second: second * fps)
        )
        seconds.set_xlabel("seconds")
        seconds.spines["top"].set_visible(False)
    return figure


def _write_id(axes, bar: TrackBar, row: int, num_frames: int) -> None:
    """Write a track's id on the longest stretch of its bar, or beside it where it is too short."""
    first, stop = max(bar.runs, key=lambda run: run[1] - run[0])
    text = str(bar.id)
    if (stop - first) / max(num_frames, 1) > 0.02 * len(text):
        ink = str(ink_on(track_color(bar.id)) / 255)
        axes.text((first + stop) / 2, row, text, ha="center", va="center", color=ink, size=8)
    else:
        axes.annotate(
            text, (bar.runs[-1][1], row), (3, 0), textcoords="offset points", va="center", size=8
        )


def write_timeline(figure: Figure, path: str | os.PathLike) -> None:
    """Write a plot as PNG, under a temporary name that is replaced at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[..., :3]
    write_picture(rgb[..., ::-1], path)
