"""Each format against its slow form, and what a sink leaves behind in every kind of ending."""

import csv
import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from fake_segmentor import make_frame, write_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmvis_plugin.apis import (
    CSVSink,
    FrameResult,
    FrameTiming,
    IdMapSink,
    JSONSink,
    MOTSSink,
    VideoReader,
    VideoSink,
    VISInferencer,
)
from mmvis_plugin.apis.sinks.id_maps import id_map
from mmvis_plugin.files import temporary_path
from mmvis_plugin.visualization import TrackVisualizer, default_enlargement
from mmvis_plugin.ytvis.rle import encode_masks

ROOT = Path(__file__).resolve().parents[2]
SIZE = (24, 16)  # width, height
FPS = Fraction(10)
FINISHED = ("t.mp4", "t.json", "t.csv", "t.txt", "ids")
PARTIAL = ("t.partial.mp4", "t.partial.json", "t.partial.csv", "t.partial.txt", "ids.partial")


def make_video(tracks=None, size=SIZE, classes=("ball", "box", "cone")):
    return SimpleNamespace(
        name="v",
        fps=FPS,
        size=size,
        classes=classes,
        category_ids=tuple(range(1, len(classes) + 1)),
        tracks=tracks,
        complete=True,
    )


def make_result(video, index, objects, image=None):
    """Result of a frame; ``objects`` are (id, label, score, (H, W) mask)."""
    masks = [np.asarray(mask, bool) for *_, mask in objects]
    rles = encode_masks(np.stack(masks)) if masks else []
    boxes = np.array([mask_utils.toBbox(rle) for rle in rles]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        labels=torch.tensor([label for _, label, _, _ in objects], dtype=torch.long),
        scores=torch.tensor([score for _, _, score, _ in objects], dtype=torch.float32),
        instances_id=torch.tensor([id_ for id_, *_ in objects], dtype=torch.long),
        masks=rles,
    )
    image = np.full((*video.size[::-1], 3), 100, np.uint8) if image is None else image
    return FrameResult(video, index, image, FrameTiming(index / FPS, 1 / FPS), instances)


def rectangle(x1, y1, x2, y2, size=SIZE):
    mask = np.zeros(size[::-1], bool)
    mask[y1:y2, x1:x2] = True
    return mask


def write_all(sink, results):
    with sink:
        for result in results:
            sink.write(result)
    return sink


def all_sinks(folder):
    return [
        VideoSink(folder / "t.mp4"),
        JSONSink(folder / "t.json"),
        CSVSink(folder / "t.csv"),
        MOTSSink(folder / "t.txt"),
        IdMapSink(folder / "ids"),
    ]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def read_table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def decode(segmentation):
    return mask_utils.decode(dict(segmentation, counts=segmentation["counts"].encode()))


@st.composite
def videos(draw):
    """Frames of (id, label, score, mask), in which tracks come, go and change their class."""
    frames = []
    for _ in range(draw(st.integers(1, 8))):
        ids = draw(st.lists(st.integers(0, 4), unique=True, max_size=4))
        objects = []
        for id_ in ids:
            x, y = draw(st.integers(0, 20)), draw(st.integers(0, 12))
            width, height = draw(st.integers(0, 12)), draw(st.integers(1, 8))
            label, score = draw(st.integers(0, 2)), draw(st.integers(1, 8)) / 8
            objects.append((id_, label, score, rectangle(x, y, x + width, y + height)))
        frames.append(objects)
    return frames


def present(frames):
    """Per track: frame -> (label, score, mask) where it is listed; the slow form."""
    tracks = defaultdict(dict)
    for index, objects in enumerate(frames):
        for id_, label, score, mask in objects:
            tracks[id_][index] = (label, score, mask)
    return tracks


def majority(labels):
    counts = Counter(labels)
    return min(label for label, n in counts.items() if n == max(counts.values()))


class TestJSON:
    @settings(max_examples=30, deadline=None)
    @given(frames=videos())
    def test_tracks_over_all_frames(self, tmp_path_factory, frames):
        path = tmp_path_factory.mktemp("json") / "t.json"
        video = make_video()
        write_all(
            JSONSink(path, video_id=7), [make_result(video, i, o) for i, o in enumerate(frames)]
        )
        entries = json.loads(path.read_text())
        assert names(path.parent) == ["t.json"]
        assert [e["score"] for e in entries] == sorted((e["score"] for e in entries), reverse=True)
        tracks = present(frames)
        assert len(entries) == len(tracks)

        def key(category, score, masks):
            return category, score, tuple(None if m is None else m.tobytes() for m in masks)

        wanted = Counter(
            key(
                majority(label for label, _, _ in seen.values()) + 1,
                np.mean([score for _, score, _ in seen.values()]),
                [seen[i][2].astype(np.uint8) if i in seen else None for i in range(len(frames))],
            )
            for seen in tracks.values()
        )
        got = Counter(
            key(e["category_id"], e["score"], [m and decode(m) for m in e["segmentations"]])
            for e in entries
        )
        assert got == wanted
        assert all(entry["video_id"] == 7 for entry in entries)
        sizes = [m["size"] for e in entries for m in e["segmentations"] if m]
        assert all(size == [16, 24] for size in sizes)

    def test_the_methods_last_word_and_category_ids(self, tmp_path):
        final = InstanceData(
            instances_id=torch.tensor([3, 9]),
            labels=torch.tensor([2, 0]),
            scores=torch.tensor([0.25, 0.5]),
        )
        video = make_video()
        sink = JSONSink(tmp_path / "t.json", category_ids={"ball": 11, "box": 22, "cone": 33})
        with sink:
            # Track 4 is in the end of a class that nobody asked for.
            mask = rectangle(1, 1, 5, 5)
            sink.write(make_result(video, 0, [(3, 0, 0.9, mask), (4, 0, 0.9, mask)]))
            video.tracks = final
        (entry,) = json.loads((tmp_path / "t.json").read_text())
        assert (entry["category_id"], entry["score"]) == (33, 0.25)

    def test_category_ids_are_those_of_the_training_data(self, tmp_path):
        config, checkpoint = write_inputs(tmp_path, category_ids=(2, 1))
        with (
            VISInferencer(config, checkpoint, "cpu") as inferencer,
            JSONSink(tmp_path / "t.json") as sink,
        ):
            for result in inferencer([make_frame(number) for number in range(5)]):
                sink.write(result)
        (entry,) = json.loads((tmp_path / "t.json").read_text())
        assert inferencer.classes[1] == "box" and entry["category_id"] == 1

    def test_class_without_a_category_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="no category id for the classes box, cone"):
            write_all(
                JSONSink(tmp_path / "t.json", category_ids={"ball": 1}),
                [make_result(make_video(), 0, [])],
            )
        assert names(tmp_path) == []

    def test_frames_that_were_not_written_are_empty(self, tmp_path):
        video = make_video()
        whole = rectangle(2, 2, 9, 9)
        results = [make_result(video, index, [(0, 1, 0.5, whole)]) for index in (5, 6, 8)]
        write_all(JSONSink(tmp_path / "t.json"), results)
        (entry,) = json.loads((tmp_path / "t.json").read_text())
        there = [segmentation is not None for segmentation in entry["segmentations"]]
        assert there == [False] * 5 + [True, True, False, True]

    def test_no_tracks(self, tmp_path):
        video = make_video()
        write_all(JSONSink(tmp_path / "t.json"), [make_result(video, i, []) for i in range(3)])
        assert json.loads((tmp_path / "t.json").read_text()) == []


class TestCSV:
    @settings(max_examples=30, deadline=None)
    @given(frames=videos())
    def test_rows_are_the_tracks(self, tmp_path_factory, frames):
        path = tmp_path_factory.mktemp("csv") / "t.csv"
        video = make_video()
        results = [make_result(video, i, objects) for i, objects in enumerate(frames)]
        write_all(CSVSink(path, score_thr=0.5), results)
        drawn = [[o for o in objects if o[2] >= 0.5] for objects in frames]
        tracks = present(drawn)
        rows = read_table(path)
        assert [int(row["track_id"]) for row in rows] == sorted(tracks)
        for row in rows:
            seen = tracks[int(row["track_id"])]
            first, last = min(seen), max(seen)
            assert (int(row["first_frame"]), int(row["last_frame"])) == (first, last)
            assert float(row["first_time"]) == pytest.approx(first / 10, abs=1e-3)
            assert float(row["last_time"]) == pytest.approx(last / 10, abs=1e-3)
            assert int(row["length"]) == len(seen)
            areas = [int(seen[i][2].sum()) if i in seen else 0 for i in range(first, last + 1)]
            assert [int(area) for area in row["areas"].split()] == areas
            assert float(row["mean_area"]) == pytest.approx(sum(areas) / len(seen), abs=0.06)
            mean = np.mean([score for _, score, _ in seen.values()])
            assert float(row["mean_score"]) == pytest.approx(mean, abs=1e-4)
            assert row["class"] == video.classes[majority(label for label, _, _ in seen.values())]

    def test_no_tracks_is_a_table_without_rows(self, tmp_path):
        write_all(CSVSink(tmp_path / "t.csv"), [make_result(make_video(), 0, [])])
        assert (tmp_path / "t.csv").read_text().strip() == ",".join(CSVSink.columns)


class TestFrames:
    @settings(max_examples=30, deadline=None)
    @given(frames=videos())
    def test_mots_lines_and_id_maps_give_each_pixel_to_the_best(self, tmp_path_factory, frames):
        folder = tmp_path_factory.mktemp("frames")
        video = make_video()
        results = [make_result(video, i, objects) for i, objects in enumerate(frames)]
        write_all(MOTSSink(folder / "t.txt", score_thr=0.5), results)
        write_all(IdMapSink(folder / "ids", score_thr=0.5), results)
        lines = [line.split(" ") for line in (folder / "t.txt").read_text().splitlines()]
        assert [int(line[0]) for line in lines] == sorted(int(line[0]) for line in lines)
        assert names(folder / "ids") == [f"{i:06d}.png" for i in range(len(frames))]
        for index, objects in enumerate(frames):
            owner = np.zeros(SIZE[::-1], int)
            for id_, _, score, mask in sorted(objects, key=lambda o: o[2]):
                if score >= 0.5:
                    owner[mask] = id_ + 1
            ids = cv2.imread(str(folder / f"ids/{index:06d}.png"), cv2.IMREAD_UNCHANGED)
            assert ids.dtype == np.uint16
            np.testing.assert_array_equal(ids, owner)
            here = [line for line in lines if int(line[0]) == index]
            assert {int(line[1]) + 1 for line in here} == set(owner[owner > 0].tolist())
            for _, id_, class_id, height, width, counts in here:
                assert (int(height), int(width)) == (16, 24)
                rle = {"size": [16, 24], "counts": counts.encode()}
                np.testing.assert_array_equal(mask_utils.decode(rle), owner == int(id_) + 1)
                assert int(class_id) == next(o[1] for o in objects if o[0] == int(id_)) + 1

    def test_ids_beyond_16_bits_are_an_error(self):
        video = make_video()
        last = make_result(video, 0, [(65534, 0, 0.9, rectangle(0, 0, 2, 2))])
        assert id_map(last.tracks, SIZE).max() == 65535
        with pytest.raises(ValueError, match="track 65535"):
            id_map(make_result(video, 0, [(65535, 0, 0.9, rectangle(0, 0, 2, 2))]).tracks, SIZE)

    def test_what_a_killed_run_left_is_in_nobodys_way(self, tmp_path):
        sink = IdMapSink(tmp_path / "ids")
        left = temporary_path(tmp_path / "ids")
        left.mkdir()
        (left / "000009.png").touch()
        write_all(sink, [make_result(make_video(), 0, [])])
        assert names(tmp_path / "ids") == ["000000.png"]

    def test_a_link_is_refused_before_the_work(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "ids").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError, match="ids is a link: name the folder"):
            IdMapSink(tmp_path / "ids")

    def test_only_a_folder_of_id_maps_is_replaced(self, tmp_path):
        folder = tmp_path / "v1.0_ids"
        video = make_video()
        write_all(IdMapSink(folder), [make_result(video, i, []) for i in range(5)])
        write_all(IdMapSink(folder), [make_result(video, i, []) for i in range(2)])
        assert names(folder) == ["000000.png", "000001.png"]
        (folder / "thesis.tex").write_text("precious")
        with pytest.raises(FileExistsError, match="thesis.tex"):
            IdMapSink(folder)
        assert (folder / "thesis.tex").exists() and names(tmp_path) == ["v1.0_ids"]


class TestVideo:
    def test_pictures_and_times(self, tmp_path):
        size = (320, 256)
        video = make_video(size=size)
        objects = [(0, 1, 0.9, rectangle(100, 100, 200, 200, size))]
        results = [make_result(video, i, objects) for i in range(4)]
        write_all(VideoSink(tmp_path / "t.mp4"), results)
        picture = TrackVisualizer(video.classes).draw(results[0].image, results[0].instances)
        with VideoReader(tmp_path / "t.mp4") as reader:
            assert (reader.size, reader.fps, reader.num_frames) == (size, FPS, 4)
            for frame in reader:
                assert np.abs(frame.astype(int) - picture).mean() < 4

    def test_small_frames_are_enlarged_unless_told_otherwise(self, tmp_path):
        video = make_video(size=(128, 96))
        results = [make_result(video, 0, [])]
        for enlarge, size in ((None, (384, 288)), (1, (128, 96)), (2, (256, 192))):
            write_all(VideoSink(tmp_path / "t.mp4", enlarge=enlarge), results)
            assert VideoReader(tmp_path / "t.mp4").size == size
        with pytest.raises(ValueError, match="enlarged 0 times"):
            VideoSink(tmp_path / "t.mp4", enlarge=0)
        sizes = ((128, 96), (256, 255), (640, 256), (1280, 720), (10, 1))
        assert [default_enlargement(size) for size in sizes] == [3, 2, 1, 1, 256]


class TestEndings:
    def results(self, count, video=None):
        video = video or make_video()
        return [make_result(video, i, [(0, 0, 0.9, rectangle(2, 2, 9, 9))]) for i in range(count)]

    def check_frames(self, folder, files, count):
        video, results, table, text, ids = (folder / name for name in files)
        with VideoReader(video) as reader:
            assert sum(1 for _ in reader) == count
        assert [len(e["segmentations"]) for e in json.loads(results.read_text())] == [count]
        assert [row["length"] for row in read_table(table)] == [str(count)]
        assert len(text.read_text().splitlines()) == count
        assert len(names(ids)) == count

    def test_whole(self, tmp_path):
        for sink in all_sinks(tmp_path / "new"):
            write_all(sink, self.results(5))
            assert sink.written == sink.path and sink.num_frames == 5
        assert names(tmp_path / "new") == sorted(FINISHED)
        self.check_frames(tmp_path / "new", FINISHED, 5)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
    def test_an_exception_leaves_what_there_is_under_another_name(self, tmp_path, error):
        for name in FINISHED[:-1]:
            (tmp_path / name).write_text("of an earlier run")
        for sink in all_sinks(tmp_path):
            with pytest.raises(error), sink:
                for result in self.results(5):
                    sink.write(result)
                raise error
            assert sink.written == sink.partial_path
        assert names(tmp_path) == sorted([*FINISHED[:-1], *PARTIAL])
        self.check_frames(tmp_path, PARTIAL, 5)
        assert (tmp_path / "t.json").read_text() == "of an earlier run"

    def test_a_video_that_was_not_drawn_to_its_end_is_partial(self, tmp_path):
        video = make_video()
        for sink in all_sinks(tmp_path):
            with sink:
                for result in self.results(3, video):
                    sink.write(result)
                video.complete = False
        assert names(tmp_path) == sorted(PARTIAL)

    def test_no_frame_no_file(self, tmp_path):
        for sink in all_sinks(tmp_path):
            write_all(sink, [])
            assert sink.written is None
        for sink in all_sinks(tmp_path):
            with pytest.raises(KeyError), sink:
                raise KeyError
        assert names(tmp_path) == []

    def test_error_in_the_sinks_thread_reaches_the_caller(self, tmp_path, monkeypatch):
        def draw(self, frame, instances):
            raise ArithmeticError("no picture")

        monkeypatch.setattr(TrackVisualizer, "draw", draw)
        with pytest.raises(ArithmeticError, match="no picture"):
            write_all(VideoSink(tmp_path / "t.mp4"), self.results(50))
        assert names(tmp_path) == []

    def test_file_that_cannot_be_renamed(self, tmp_path, monkeypatch):
        def replace(source, target):
            raise PermissionError(f"{target}")

        monkeypatch.setattr(os, "replace", replace)
        for sink in all_sinks(tmp_path):
            with pytest.raises(PermissionError):
                write_all(sink, self.results(2))
            assert sink.written is None
        assert names(tmp_path) == []
        assert not any(thread.name.startswith("sink") for thread in threading.enumerate())

    def test_misuse_is_named(self, tmp_path):
        for sink, name in (
            (VideoSink, "a.avi"),
            (JSONSink, "a.txt"),
            (CSVSink, "a"),
            (MOTSSink, ""),
        ):
            with pytest.raises(ValueError, match="must end in"):
                sink(tmp_path / name)
        (tmp_path / "folder.mp4").mkdir()
        with pytest.raises(ValueError, match="is a folder"):
            VideoSink(tmp_path / "folder.mp4")
        sink = JSONSink(tmp_path / "t.json")
        with pytest.raises(ValueError, match="one video"), sink:
            sink.write(self.results(1)[0])
            sink.write(self.results(1)[0])
        with pytest.raises(ValueError, match="closed"):
            sink.write(self.results(1)[0])


STREAM = """
import resource, sys
sys.path.insert(0, {here!r})
from fake_segmentor import make_frame
from mmvis_plugin.apis import *
count, folder = int(sys.argv[1]), sys.argv[2]
frames = (make_frame(number) for number in range(count))
with VISInferencer(*sys.argv[3:5], device="cpu") as inferencer, \\
        JSONSink(folder + "/t.json") as a, CSVSink(folder + "/t.csv") as b, \\
        VideoSink(folder + "/t.mp4", enlarge=1) as c:
    for result in inferencer(frames):
        for sink in (a, b, c):
            sink.write(result)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_video(tmp_path):
    """Peak memory with official JSON, table and video of 3000 frames and of 300."""
    inputs = write_inputs(tmp_path)
    peaks = []
    for count in (300, 3000):
        command = [sys.executable, "-c", STREAM.format(here=str(Path(__file__).parent))]
        command += [str(count), str(tmp_path), *map(str, inputs)]
        environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
        output = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert output.returncode == 0, output.stderr[-3000:]
        peaks.append(int(output.stdout.split()[-1]))
        (entry,) = json.loads((tmp_path / "t.json").read_text())
        assert len(entry["segmentations"]) == count and all(entry["segmentations"])
    assert peaks[1] <= 1.05 * peaks[0]
