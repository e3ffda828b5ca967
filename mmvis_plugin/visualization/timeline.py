"""When each track of a video is there: one bar a track."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .colors import ink_on, track_color
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


def figure_pixels(figure: Figure) -> np.ndarray:
    """A plot as a picture, (H, W, 3) uint8 BGR."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 2::-1]
