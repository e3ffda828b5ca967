import json
import os
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch
from fake_segmentor import make_frame, write_file, write_inputs
from mmengine.structures import InstanceData
from scripts import load_script

from mmvis_plugin.apis import JSONSink, TrackedObject, VideoReader, VideoSink, VideoWriter
from mmvis_plugin.visualization import track_color

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "video_demo.py"
FPS = Fraction(30000, 1001)
OUTPUTS = ["in_ids", "in_tracks.csv", "in_tracks.json", "in_tracks.mp4", "in_tracks.txt"]


@pytest.fixture(scope="module")
def demo():
    return load_script("demo/video_demo.py")


@pytest.fixture
def inputs(tmp_path):
    """A video of a red square, and config and checkpoint of a model that finds it."""
    return write_video(tmp_path / "in.mp4"), *write_inputs(tmp_path, score=0.9)


def write_video(path, count=12, red=True):
    with VideoWriter(path, FPS, (90, 70)) as writer:
        for number in range(count):
            writer.write(make_frame(number, red=red))
    return path


def facts(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return (
            (stream.width, stream.height),
            stream.average_rate,
            stream.frames,
            stream.duration * stream.time_base,
            sum(1 for _ in container.decode(stream)),
        )


def run(demo, capsys, *args):
    with pytest.raises(SystemExit) as stop:
        demo.cli.run(lambda: demo.main([str(arg) for arg in args]))
    return stop.value.code, *capsys.readouterr()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestOutputs:
    def test_formats_for_annotation_tools(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "out"
        formats = ["--formats", "cvat", "coco", "vos", "labelme"]
        code, *_ = run(demo, capsys, *inputs, "--out-dir", out, *formats, "--device", "cpu")
        assert code == 0
        written = ["in_coco.json", "in_cvat.labels.json", "in_cvat.xml", "in_labelme", "in_vos"]
        assert names(out) == written
        assert len(json.loads((out / "in_coco.json").read_text())["annotations"]) > 0
        assert "<polygon" in (out / "in_cvat.xml").read_text()
        assert len(names(out / "in_vos")) == 12 and len(names(out / "in_labelme")) == 24

    def test_video_in_video_out(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "new" / "out.mp4"
        args = ["--out", out, "--enlarge", 1, "--device", "cpu"]
        code, printed, _ = run(demo, capsys, *inputs, *args)

        assert code == 0
        assert facts(out) == facts(inputs[0])
        assert f"{inputs[0]}: 12 frames of 90 x 70 at 29.970 frames/s" in printed
        assert f"written: {out}" in printed
        # The frames are labelled ball, but the method's final word on the track is box.
        assert "tracks: 1 (box 1)" in printed
        color = np.array(track_color(0))
        for number, frame in enumerate(VideoReader(out)):
            inside = frame[40, 20 + 3 * number]
            assert np.abs(inside - (0.55 * np.array([0, 0, 255]) + 0.45 * color)).max() < 30
            assert np.abs(frame[65, 5].astype(int) - 100).max() < 8

    def test_small_video_is_enlarged(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "out.mp4"
        assert run(demo, capsys, *inputs, "--out", out)[0] == 0
        assert facts(out)[0] == (4 * 90, 4 * 70)

    def test_every_format_at_once(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "results"
        code, printed, _ = run(demo, capsys, *inputs, "--out-dir", out)
        assert code == 0 and names(out) == OUTPUTS
        assert all(str(out / name) in printed for name in OUTPUTS)
        (entry,) = json.loads((out / "in_tracks.json").read_text())
        assert (entry["video_id"], entry["category_id"]) == (1, 2)
        assert len(entry["segmentations"]) == 12 and all(entry["segmentations"])
        assert "0,box,0.9000,0.9000,0,11,0.000,0.367,12," in (out / "in_tracks.csv").read_text()
        assert (out / "in_tracks.txt").read_text().startswith("0 0 1 70 90 ")
        assert names(out / "in_ids") == [f"{number:06d}.png" for number in range(12)]

    def test_named_files(self, demo, inputs, tmp_path, capsys):
        files = ["a.mp4", "b.json", "c.csv", "d.txt", "e"]
        outs = [arg for name in files for arg in ("--out", tmp_path / "o" / name)]
        assert run(demo, capsys, *inputs, *outs)[0] == 0
        assert names(tmp_path / "o") == files

    def test_names_that_look_numbered(self, demo):
        taken = set()
        given = [demo.free_name(name, taken) for name in ("a", "a", "a_2", "a")]
        assert given == ["a", "a_2", "a_2_2", "a_3"] and taken == set(given)

    def test_several_videos(self, demo, inputs, tmp_path, capsys):
        (tmp_path / "other").mkdir()
        same_name = write_video(tmp_path / "other" / "in.mp4", count=5)
        damaged = tmp_path / "damaged.mp4"
        damaged.write_bytes(b"no video")
        out = tmp_path / "results"
        args = ["--input", damaged, "--input", same_name, "--out-dir", out, "--formats", "json"]
        code, printed, error = run(demo, capsys, *inputs, *args)
        # The damaged one does not keep the others from being done, and is not forgotten.
        assert code == 1 and "error: " in error and "damaged.mp4" in error
        assert names(out) == ["in_2_tracks.json", "in_tracks.json"]
        for name, length, video_id in (("in", 12, 1), ("in_2", 5, 3)):
            (entry,) = json.loads((out / f"{name}_tracks.json").read_text())
            assert len(entry["segmentations"]) == length and entry["video_id"] == video_id

    def test_format_that_is_asked_for_twice(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "out"
        formats = ["--out-dir", out, "--formats", "mp4", "mp4"]
        again = ["--out", out / "in_tracks.mp4", "--out", f"{out}/./in_tracks.mp4"]
        code, _, error = run(demo, capsys, *inputs, *formats, *again)
        assert code == 0 and "error" not in error and names(out) == ["in_tracks.mp4"]
        assert facts(out / "in_tracks.mp4")[2::2] == (12, 12)

    def test_part_of_a_video(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "out.mp4"
        args = ["--out", out, "--start", 2, "--end", 11, "--stride", 3]
        code, printed, _ = run(demo, capsys, *inputs, *args)
        assert code == 0 and "3 frames of 90 x 70 at 9.990 frames/s" in printed
        assert facts(out)[1:] == (FPS / 3, 3, 9 / FPS, 3)

    def test_classes(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "out.json"
        code, printed, _ = run(demo, capsys, *inputs, "--out", out, "--classes", "box")
        assert code == 0 and json.loads(out.read_text()) == [] and "tracks: none" in printed
        code, _, error = run(demo, capsys, *inputs, "--out", out, "--classes", "cat")
        assert code == 1 and "error: the model has no class cat; it knows ball, box" in error

    def test_switches(self, demo, inputs, tmp_path, capsys):
        args = ["--out", tmp_path / "o.json", "--batch-size", 4, "--autocast", "--channels-last"]
        assert run(demo, capsys, *inputs, *args)[0] == 0
        (entry,) = json.loads((tmp_path / "o.json").read_text())
        assert len(entry["segmentations"]) == 12

    def test_progress_tells_rate_and_time_left(self, demo, inputs, tmp_path, capsys):
        _, _, error = run(demo, capsys, *inputs, "--out", tmp_path / "out.json")
        assert "12/12" in error and "frame/s" in error and "<00:00" in error

    def test_progress_where_the_file_tells_its_duration_alone(self, demo, inputs, tmp_path, capsys):
        video = tmp_path / "in.mkv"
        write_file(video, 12)
        out = tmp_path / "out.json"
        _, printed, error = run(demo, capsys, video, *inputs[1:], "--out", out)
        assert "12/12" in error and "<00:00" in error and "note" not in printed


class TestSources:
    def test_folder_with_its_own_rate_and_options(self, demo, inputs, tmp_path, capsys):
        folder = tmp_path / "frames"
        folder.mkdir()
        for number in range(11):
            cv2.imwrite(str(folder / f"{number}.png"), make_frame(number))
        wanted = (Fraction(24000, 1001), 11, 11 * Fraction(1001, 24000), 11)
        for source in (folder, folder / "*.png"):
            out = tmp_path / "out.mp4"
            args = ["--fps", "24000/1001", "--cfg-options", "model.look_ahead=0"]
            code, _, _ = run(demo, capsys, source, *inputs[1:], "--out", out, *args)
            assert code == 0 and facts(out)[1:] == wanted

    def test_camera_is_counted_and_ended_by_the_user(self, demo, inputs, tmp_path, capsys, camera):
        out = tmp_path / "out.mp4"
        camera(stop_at=20)
        code, printed, error = run(demo, capsys, 0, *inputs[1:], "--out", out)
        assert code == 0 and "partial" not in printed
        assert 17 <= facts(out)[4] <= 24
        assert "frame/s" in error and "%" not in error.split("camera0")[-1]

    def test_without_detections_all_is_written_all_the_same(self, demo, inputs, tmp_path, capsys):
        plain = write_video(tmp_path / "plain.mp4", count=5, red=False)
        out = tmp_path / "results"
        code, printed, _ = run(demo, capsys, plain, *inputs[1:], "--out-dir", out)
        assert code == 0 and "tracks: none" in printed
        assert facts(out / "plain_tracks.mp4")[2] == 5
        assert json.loads((out / "plain_tracks.json").read_text()) == []
        assert len((out / "plain_tracks.csv").read_text().splitlines()) == 1
        assert (out / "plain_tracks.txt").read_text() == ""
        assert len(names(out / "plain_ids")) == 5
        # The same holds where all scores are too low to be drawn.
        args = ["--out", tmp_path / "o.mp4", "--score-thr", "0.95"]
        code, printed, _ = run(demo, capsys, *inputs, *args)
        nothing = "tracks: none, nothing scored 0.95 or more; the model knows: ball, box\n"
        assert code == 0 and nothing in printed

    def test_broken_frame_in_the_middle_of_a_file(self, demo, inputs, tmp_path, capsys):
        broken = tmp_path / "broken.avi"
        count = write_broken_video(broken)
        out = tmp_path / "out.mp4"
        code, printed, _ = run(demo, capsys, broken, *inputs[1:], "--out", out)
        assert code == 0 and "note: 1 frames cannot be decoded and are left out" in printed
        # The frames after it keep their times: the video is as long as the source.
        assert facts(out)[2:] == (count - 1, Fraction(count, 10), count - 1)

    def test_broken_image_in_a_folder(self, demo, inputs, tmp_path, capsys, caplog):
        folder = tmp_path / "frames"
        folder.mkdir()
        for number in range(6):
            cv2.imwrite(str(folder / f"{number}.png"), make_frame(number))
        (folder / "3.png").write_bytes(b"\x89PNG no more")
        out = tmp_path / "out.mp4"
        code, printed, _ = run(demo, capsys, folder, *inputs[1:], "--out", out)
        assert code == 0 and "note: 1 frames cannot be decoded" in printed
        assert "3.png cannot be decoded and is left out" in caplog.text
        assert facts(out)[4] == 5

    def test_size_that_changes(self, demo, inputs, tmp_path, capsys):
        folder = tmp_path / "frames"
        folder.mkdir()
        for number in range(8):
            cv2.imwrite(str(folder / f"{number}.png"), make_frame(number, (90 + number // 6, 70)))
        out = tmp_path / "results"
        code, printed, error = run(demo, capsys, folder, *inputs[1:], "--out-dir", out)
        assert code == 1
        assert "error: " in error and "6.png is 91 x 70 pixels" in error
        assert "partial, they hold the first 6 frames only" in printed
        assert names(out) == [
            "frames_ids.partial",
            *(f"frames_tracks.partial.{ending}" for ending in ("csv", "json", "mp4", "txt")),
        ]
        assert facts(out / "frames_tracks.partial.mp4")[4] == 6
        (entry,) = json.loads((out / "frames_tracks.partial.json").read_text())
        assert len(entry["segmentations"]) == 6

    def test_truncated_file(self, demo, inputs, tmp_path, capsys):
        whole = write_video(tmp_path / "whole.mp4", count=40)
        data = whole.read_bytes()
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(data[: data.index(b"mdat") + len(data[data.index(b"mdat") :]) // 2])
        out = tmp_path / "out.mp4"
        code, printed, _ = run(demo, capsys, cut, *inputs[1:], "--out", out)
        assert code == 0 and "note: " in printed
        assert 5 < facts(out)[4] < 40

    def test_bad_input_is_one_line(self, demo, inputs, tmp_path, capsys):
        video, config, checkpoint = inputs
        out = tmp_path / "out.mp4"
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video at all" * 100)
        unknown = tmp_path / "unknown.mp4"
        unknown.write_bytes(video.read_bytes().replace(b"avc1", b"zzzz"))
        (tmp_path / "empty").mkdir()
        poisoned = tmp_path / "poisoned.pth"
        torch.save({"state_dict": {}, "meta": Fraction(1, 2)}, poisoned)
        for args, message in (
            ((tmp_path / "nothing.mp4", config, checkpoint), "nothing.mp4"),
            ((broken, config, checkpoint), "broken.mp4"),
            ((unknown, config, checkpoint), "unknown.mp4"),
            ((tmp_path / "empty", config, checkpoint), "empty"),
            ((tmp_path / "*.jpg", config, checkpoint), "nothing matches"),
            ((video, config, checkpoint, "--start", 12), "there is no frame in it from 12"),
            ((video, tmp_path / "nothing.py", checkpoint), "nothing.py"),
            ((video, config, tmp_path / "nothing.pth"), "nothing.pth"),
            ((video, config, poisoned), "poisoned.pth"),
            ((video, config), "no trained weights are released"),
            ((video, config, checkpoint, "--device", "cuda:77"), "cuda:77"),
        ):
            code, _, error = run(demo, capsys, *args, "--out", out)
            last = error.strip().splitlines()[-1]
            assert code in (1, 2) and last.startswith("error: ") and message in last, (args, error)
            assert "Traceback" not in error and not out.exists()

    def test_output_over_an_input_is_refused(self, demo, inputs, tmp_path, capsys):
        second = write_video(tmp_path / "in_tracks.mp4", count=3)
        before = second.read_bytes()
        args = ["--input", second, "--out-dir", tmp_path]
        code, _, error = run(demo, capsys, *inputs, *args)
        assert code == 1 and "in_tracks.mp4: this would replace an input" in error
        assert second.read_bytes() == before

    def test_folder_of_the_input_images_is_not_replaced(self, demo, inputs, tmp_path, capsys):
        shots = tmp_path / "shots"
        shots.mkdir()
        for number in range(3):  # named as id maps are
            cv2.imwrite(str(shots / f"{number:06d}.png"), make_frame(number))
        before = (shots / "000000.png").read_bytes()
        for source in (shots, shots / "*.png", shots / "000000.png"):
            code, _, error = run(demo, capsys, source, *inputs[1:], "--out", shots)
            assert code == 2 and "this would replace the input" in error
        assert (shots / "000000.png").read_bytes() == before and len(names(shots)) == 3

    def test_one_target_spelled_in_two_ways(self, demo, inputs, tmp_path, capsys):
        (tmp_path / "folder").mkdir()
        spellings = [tmp_path / "out.json", tmp_path / "folder" / ".." / "out.json"]
        options = [option for target in spellings for option in ("--out", target)]
        code, _, error = run(demo, capsys, *inputs, *options)
        assert code == 0, error
        assert len(json.loads((tmp_path / "out.json").read_text())) == 1

    def test_one_target_that_cannot_be_finished(self, demo, inputs, tmp_path, capsys, monkeypatch):
        def full(self, path):
            raise OSError("No space left on device")

        monkeypatch.setattr(VideoSink, "_save", full)
        targets = [tmp_path / "o" / name for name in ("a.json", "b.mp4", "c.csv")]
        options = [option for target in targets for option in ("--out", target)]
        code, printed, error = run(demo, capsys, *inputs, *options)
        full = "b.mp4 cannot be written: No space left on device"
        assert code == 1 and f"error: {tmp_path}/o/{full}\n" in error
        assert "partial" not in printed
        assert names(tmp_path / "o") == ["a.json", "c.csv"]

    def test_a_full_disk_names_all_targets(self, inputs, tmp_path):
        """Files may hold 3,000 bytes: too little for what is kept for results and table."""
        targets = [tmp_path / "o" / name for name in ("a.json", "b.mp4", "c.csv")]
        command = [sys.executable, DEMO, *inputs, "--device", "cpu"]
        command += [f"--out={target}" for target in targets]
        tests = Path(__file__).parents[1] / "apis"
        done = subprocess.run(
            list(map(str, command)),
            env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(tests)])),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-3000:]
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ") and last.count(" cannot be written: ") >= 2
        assert str(targets[0]) in last and str(targets[2]) in last
        assert not [path for path in (tmp_path / "o").iterdir() if "partial" not in path.name]

    def test_target_that_cannot_be_written(self, demo, inputs, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        code, _, error = run(demo, capsys, *inputs, "--out", tmp_path / "file" / "out.mp4")
        assert code == 1 and "error: " in error and "Traceback" not in error


class TestInterruption:
    def interrupt(self, inputs, tmp_path, signals):
        """Run the demo on a long video and send signals; returns code, output and folder."""
        # Slow enough to be interrupted and endless enough not to end by itself.
        config, checkpoint = write_inputs(tmp_path, delay=0.01)
        video = write_video(tmp_path / "long.mp4", count=600)
        out = tmp_path / "results"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests/apis")])
        process = subprocess.Popen(
            [sys.executable, DEMO, video, config, checkpoint, "--out-dir", out, "--device", "cpu"],
            env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        folder = None
        while process.poll() is None:
            folder = next(out.glob(".long_ids.*"), None) if out.exists() else None
            if folder and len(list(folder.iterdir())) >= 100:
                break
        for number in signals:
            process.send_signal(number)
        printed, error = process.communicate(timeout=120)
        return process.returncode, printed, error, out

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_after_100_frames_leaves_readable_files(self, inputs, tmp_path, number):
        code, printed, error, out = self.interrupt(inputs, tmp_path, [number])
        assert code == 128 + number and "Traceback" not in error
        assert names(out) == [
            "long_ids.partial",
            *(f"long_tracks.partial.{ending}" for ending in ("csv", "json", "mp4", "txt")),
        ]
        count = len(names(out / "long_ids.partial"))
        assert 100 <= count < 600
        assert f"partial, they hold the first {count} frames only" in printed
        assert facts(out / "long_tracks.partial.mp4")[2::2] == (count, count)
        (entry,) = json.loads((out / "long_tracks.partial.json").read_text())
        assert len(entry["segmentations"]) == count
        assert f",{count}," in (out / "long_tracks.partial.csv").read_text()
        assert len((out / "long_tracks.partial.txt").read_text().splitlines()) == count

    def test_a_signal_while_files_are_closed(self, demo, inputs, tmp_path, capsys, monkeypatch):
        """All frames are there: the files are finished and keep their names."""
        save = JSONSink._save

        def interrupted(self, path):
            os.kill(os.getpid(), signal.SIGINT)
            save(self, path)

        monkeypatch.setattr(JSONSink, "_save", interrupted)
        targets = [tmp_path / "o" / name for name in ("a.json", "b.csv")]
        options = [option for target in targets for option in ("--out", target)]
        code, printed, _ = run(demo, capsys, *inputs, *options)
        assert code == 130 and "partial" not in printed
        assert names(tmp_path / "o") == ["a.json", "b.csv"]

    def test_interruption_in_the_model(self, demo, inputs, tmp_path, capsys):
        out = tmp_path / "out.mp4"
        args = ["--out", out, "--cfg-options", "model.interrupt_at=8"]
        code, printed, _ = run(demo, capsys, *inputs, *args)
        assert code == 130 and "first 5 frames only" in printed
        assert not out.exists()
        assert facts(tmp_path / "out.partial.mp4")[2::2] == (8 - 3, 8 - 3)

    def test_interruption_before_the_first_result(self, demo, inputs, tmp_path, capsys):
        args = ["--out-dir", tmp_path / "o", "--cfg-options", "model.interrupt_at=2"]
        code, _, error = run(demo, capsys, *inputs, *args)
        assert code == 130 and "nothing was written" in error
        assert names(tmp_path / "o") == []


class TestWindow:
    def test_it_shows_the_picture_until_q(self, demo, inputs, monkeypatch, capsys, tmp_path):
        shown = []
        monkeypatch.setenv("DISPLAY", ":0")
        for name in ("namedWindow", "destroyAllWindows"):
            monkeypatch.setattr(cv2, name, lambda *args: None)
        monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture))
        monkeypatch.setattr(cv2, "waitKey", lambda delay: ord("q") if len(shown) == 4 else -1)
        code, printed, _ = run(demo, capsys, *inputs, "--show", "--enlarge", 1)
        # q ends the video; what is in the method's look-ahead is still shown.
        assert code == 0 and 4 <= len(shown) < 12
        assert all(picture.shape == (70, 90, 3) for picture in shown)

    def test_without_a_display(self, demo, inputs, monkeypatch, capsys):
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        code, _, error = run(demo, capsys, *inputs, "--show")
        assert code == 1 and "error: --show: there is no display here" in error
        monkeypatch.setenv("DISPLAY", ":0")

        def no_windows(*args):
            raise cv2.error("The function is not implemented")

        monkeypatch.setattr(cv2, "namedWindow", no_windows)
        code, _, error = run(demo, capsys, *inputs, "--show")
        assert code == 1 and "error: --show: this OpenCV cannot open windows" in error


class TestSummary:
    """A track is counted under the class that it has in the files."""

    def counted(self, demo, labels, tracks):
        this = demo.Run(SimpleNamespace(tracks=tracks))
        mask = {"size": [2, 2], "counts": "04"}
        for label in labels:
            track = TrackedObject(7, label, "", 0.9, (0, 0, 2, 2), mask)
            unsure = track._replace(id=8, score=0.1)
            this.add(SimpleNamespace(tracks=[track, unsure]), score_thr=0.3)
        return this.labels()

    def test_of_classes_with_as_many_frames_the_first_in_the_list(self, demo):
        assert self.counted(demo, [3, 3, 1, 1], None) == {1: 1}
        assert self.counted(demo, [3, 3, 1], None) == {3: 1}

    def test_what_the_method_did_not_decide_on_is_left_out(self, demo):
        decided = InstanceData(
            instances_id=torch.tensor([7]), labels=torch.tensor([2]), scores=torch.tensor([0.9])
        )
        assert self.counted(demo, [3, 3, 1], decided) == {2: 1}
        assert self.counted(demo, [3, 3, 1], decided[:0]) == {}


def test_of_many_classes_some_are_named(demo):
    assert demo.list_classes(tuple("abcdefgh")) == "a, b, c, d, e, f, g, h"
    assert demo.list_classes(tuple("abcdefghi")) == "a, b, c, d, e, f, g, h, ... (9 classes)"


def test_bad_arguments_are_refused_before_any_work(demo, inputs, tmp_path, capsys):
    out = ["--out", tmp_path / "out.mp4"]
    for args in (
        [],
        ["--out", tmp_path / "out.avi"],
        ["--out", inputs[0]],
        [*out, "--input", inputs[0]],
        [*out, "--fps", "0"],
        [*out, "--fps", "many"],
        [*out, "--start", "-1"],
        [*out, "--start", "5", "--end", "5"],
        [*out, "--stride", "0"],
        [*out, "--enlarge", "0"],
        [*out, "--batch-size", "0"],
        [*out, "--score-thr", "nan"],
        [*out, "--input", "missing.mp4"],
        [*out, "--fps", "1/0"],
        [*out, "--cfg-options", "model"],
        ["--out-dir", tmp_path, "--formats", "gif"],
    ):
        with pytest.raises(SystemExit) as stop:
            demo.main([str(arg) for arg in (*inputs, *args)])
        assert stop.value.code == 2


def test_help_has_examples(demo, capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed and "--out tracks.mp4" in printed


def write_broken_video(path, count=20):
    """A file of independent frames (MJPEG), of which one is overwritten with rubbish."""
    write_file(path, count, "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == count
    start, end = starts[count // 2], starts[count // 2 + 1]
    data[start : end - 16] = bytes(end - 16 - start)
    path.write_bytes(data)
    return count


@pytest.fixture
def camera(monkeypatch):
    """Function that puts an endless camera in place, at whose n-th frame the user hits Ctrl-C."""

    def install(stop_at):
        class Camera:
            def __init__(self, index):
                self.count = 0

            def isOpened(self):
                return True

            def get(self, prop):
                return 25.0

            def read(self):
                self.count += 1
                if self.count == stop_at:
                    os.kill(os.getpid(), signal.SIGINT)
                return True, make_frame(self.count)

            def release(self):
                pass

        monkeypatch.setattr(cv2, "VideoCapture", Camera)

    return install
