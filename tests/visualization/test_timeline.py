import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mmvis_plugin.apis.track_bars import read_results, read_track_table
from mmvis_plugin.files import write_picture
from mmvis_plugin.visualization import track_color
from mmvis_plugin.visualization.timeline import TrackBar, figure_pixels, plot_timeline, runs_of


def pixels(figure):
    """The plot as RGB, and a function from frame and row to column and line."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]

    def place(frame, row):
        x, y = figure.axes[0].transData.transform((frame, row))
        return round(x), round(picture.shape[0] - y)

    return picture, place


def rgb(track):
    return track_color(track)[::-1]


def test_bars_reach_from_frame_to_frame_with_their_gaps():
    bars = [
        TrackBar(5, "ball", 0.9, [(10, 20), (40, 60)]),
        TrackBar(2, "box", 0.8, [(0, 100)]),
    ]
    picture, place = pixels(plot_timeline(bars, 100))
    # By first frame: track 2 in the first row, track 5 in the second.
    for row, track, runs in ((0, 2, [(0, 100)]), (1, 5, [(10, 20), (40, 60)])):
        present = np.zeros(100, bool)
        for first, stop in runs:
            present[first:stop] = True
        # Above the middle, where the ids and the lines of the gaps are.
        for frame in range(100):
            x, y = place(frame + 0.5, row - 0.3)
            is_bar = tuple(picture[y, x]) == rgb(track)
            assert is_bar == present[frame], (track, frame)
    # The gap between the stretches has a thin line in the middle, what is outside has none.
    x, y = place(30.5, 1)
    column = picture[y - 8 : y + 8, x]
    assert 1 <= (column.max(axis=1) < 200).sum() <= 4
    x, y = place(80.5, 1)
    assert (picture[y - 8 : y + 8, x] > 200).all()


def test_ids_stand_on_their_bars():
    with_id, without = (
        pixels(plot_timeline([TrackBar(id_, "ball", 0.9, [(20, 80)])], 100))
        for id_ in (8, 40)  # of one colour
    )
    picture, place = with_id
    (left, top), (right, bottom) = place(45, -0.3), place(55, 0.3)
    box = slice(top, bottom), slice(left, right)
    letters = (picture[box] != rgb(8)).any(axis=-1)
    assert 10 < letters.sum() < 0.5 * letters.size
    assert (picture[box] != without[0][box]).any()


def test_the_longest_tracks_are_chosen_and_the_title_says_so():
    bars = [TrackBar(i, "ball", 0.5, [(0, i + 1)]) for i in range(9)]
    figure = plot_timeline(bars, 10, max_tracks=3, title="clip")
    axes = figure.axes[0]
    assert axes.get_title() == "clip (the 3 longest of 9 tracks)"
    picture, place = pixels(figure)
    colors = [tuple(picture[place(0.5, row - 0.3)[::-1]]) for row in range(3)]
    assert colors == [rgb(6), rgb(7), rgb(8)]


def test_labels_tell_class_and_score_and_seconds_are_beside_frames():
    bars = [TrackBar(0, "ball", 0.876, [(0, 3)])]
    axes = plot_timeline(bars, 50, fps=25).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ball 0.88"]
    (seconds,) = axes.child_axes
    assert seconds.get_xlabel() == "seconds"
    forward, back = seconds._functions
    assert forward(50) == 2 and back(2) == 50


def test_without_tracks_the_plot_says_so():
    for bars in ([], [TrackBar(0, "ball", 0.5, [])]):
        axes = plot_timeline(bars, 10).axes[0]
        assert [text.get_text() for text in axes.texts] == ["no tracks"]


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5))
def test_runs_are_the_frames_where_it_is_true(present, first):
    runs = runs_of(present, first)
    frames = [frame for a, b in runs for frame in range(a, b)]
    assert frames == [first + i for i, value in enumerate(present) if value]
    assert all(b1 < a2 for (_, b1), (a2, _) in zip(runs, runs[1:], strict=False))


def test_table_of_tracks(tmp_path):
    path = tmp_path / "tracks.csv"
    path.write_text(
        "track_id,class,score,first_frame,areas\n7,ball,0.9100,3,5 0 0 6 7\n2,box,0.5,0,1\n"
    )
    bars = read_track_table(path)
    assert bars == [
        TrackBar(7, "ball", 0.91, [(3, 4), (6, 8)]),
        TrackBar(2, "box", 0.5, [(0, 1)]),
    ]
    assert bars[0].length == 3
    for text in ("a,b\n1,2\n", "track_id,class,score,first_frame,areas\n7,ball,x,3,5\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="tracks.csv: row 1 is not that of a table of tracks"):
            read_track_table(path)


def test_table_of_a_track_of_an_hour(tmp_path):
    areas = ("123456 " * 108_000).strip()
    path = tmp_path / "tracks.csv"
    path.write_text(f"track_id,class,score,first_frame,areas\n7,ball,0.9,0,{areas}\n")
    assert read_track_table(path) == [TrackBar(7, "ball", 0.9, [(0, 108_000)])]


def test_dollar_signs_are_no_formula():
    figure = plot_timeline([TrackBar(0, "a$_$b", 0.5, [(0, 9)])], 10, title="c$_$d.mp4")
    pixels(figure)
    assert figure.axes[0].get_title() == "c$_$d.mp4"


def test_results_go_by_score(tmp_path):
    rle = {"size": [2, 2], "counts": "04"}
    entries = [
        dict(video_id=1, category_id=2, score=0.4, segmentations=[None, rle, rle, None]),
        dict(video_id=1, category_id=1, score=0.8, segmentations=[rle, None, None, rle]),
        dict(video_id=5, category_id=1, score=0.9, segmentations=[rle]),
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    bars, num_frames = read_results(path, 1, {1: "ball"})
    assert num_frames == 4
    assert bars == [
        TrackBar(0, "ball", 0.8, [(0, 1), (3, 4)]),
        TrackBar(1, "category 2", 0.4, [(1, 3)]),
    ]
    assert read_results(path, 9) == ([], 0)
    with pytest.raises(ValueError, match=r"has 2 videos \(1, ...\): choose one"):
        read_results(path)
    for text in ("{", "3", '[{"video_id": 1}]'):
        path.write_text(text)
        with pytest.raises(ValueError, match="results.json.* not (valid|a) JSON"):
            read_results(path)


def test_plot_is_written_in_its_colours(tmp_path):
    path = tmp_path / "new" / "plot.png"
    plot = plot_timeline([TrackBar(1, "ball", 0.5, [(0, 10)])], 10)
    write_picture(figure_pixels(plot), path)
    with Image.open(path) as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20)}
    assert rgb(1) in colors
    assert [p.name for p in path.parent.iterdir()] == ["plot.png"]
    with pytest.raises(ValueError, match="plot.jpg: the name of the picture must end in .png"):
        write_picture(figure_pixels(plot), tmp_path / "plot.jpg")
