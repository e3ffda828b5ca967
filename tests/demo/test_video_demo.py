import importlib.util
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from fake_segmentor import CONFIG

from mmvis_plugin.apis import VideoReader, VideoWriter
from mmvis_plugin.visualization import track_color

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "video_demo.py"
FPS = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("video_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inputs(tmp_path):
    """Config and checkpoint of the fake model, and a video of a red square."""
    config, checkpoint = tmp_path / "red.py", tmp_path / "red.pth"
    config.write_text(CONFIG.format(look_ahead=3))
    torch.save(
        {
            "state_dict": {"score": torch.tensor(0.9)},
            "meta": {"dataset_meta": {"classes": ["ball", "box"]}},
        },
        checkpoint,
    )
    with VideoWriter(tmp_path / "in.mp4", FPS, (90, 70)) as writer:
        for number in range(12):
            writer.write(make_frame(number))
    return tmp_path / "in.mp4", config, checkpoint


def make_frame(number, red=True):
    frame = np.full((70, 90, 3), 100, np.uint8)
    if red:
        frame[25:45, 10 + 3 * number : 30 + 3 * number] = (0, 0, 255)
    return frame


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
    code = demo.main([str(arg) for arg in args])
    return code, *capsys.readouterr()


def test_video_in_video_out(demo, inputs, tmp_path, capsys):
    out = tmp_path / "new" / "out.mp4"

    code, printed, _ = run(demo, capsys, *inputs, "--out", out, "--device", "cpu")

    assert code == 0
    assert facts(out) == facts(inputs[0])
    assert f"{out}: 12 frames of 90 x 70 at 29.970 frames/s" in printed
    # The frames are labelled ball, but the method's final word on the track is box.
    assert "tracks: 1 (box 1)" in printed
    color = np.array(track_color(0))
    for number, frame in enumerate(VideoReader(out)):
        inside = frame[40, 20 + 3 * number]
        assert np.abs(inside - (0.55 * np.array([0, 0, 255]) + 0.45 * color)).max() < 30
        assert np.abs(frame[65, 5].astype(int) - 100).max() < 8


def test_without_detections_the_video_is_written_all_the_same(demo, inputs, tmp_path, capsys):
    plain = tmp_path / "plain.mp4"
    with VideoWriter(plain, FPS, (90, 70)) as writer:
        for number in range(5):
            writer.write(make_frame(number, red=False))
    out = tmp_path / "out.mp4"
    code, printed, _ = run(demo, capsys, plain, *inputs[1:], "--out", out)
    assert code == 0 and facts(out) == facts(plain)
    assert "tracks: none" in printed
    # The same holds where all scores are too low to be drawn.
    code, printed, _ = run(demo, capsys, *inputs, "--out", out, "--score-thr", "0.95")
    assert code == 0 and "tracks: none, nothing scored 0.95 or more" in printed


def test_folder_with_its_own_rate_and_options(demo, inputs, tmp_path, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(11):
        cv2.imwrite(str(folder / f"{number}.png"), make_frame(number))
    out = tmp_path / "out.mp4"
    args = ["--fps", "24000/1001", "--cfg-options", "model.look_ahead=0"]
    code, _, _ = run(demo, capsys, folder, *inputs[1:], "--out", out, *args)
    assert code == 0
    assert facts(out)[1:] == (Fraction(24000, 1001), 11, 11 * Fraction(1001, 24000), 11)


def test_ctrl_c_leaves_a_video_of_the_frames_so_far(demo, inputs, tmp_path, capsys, monkeypatch):
    build = demo.build_video_segmentor

    def build_interrupted(*args):
        model = build(*args)
        model.interrupt_at = 8
        return model

    monkeypatch.setattr(demo, "build_video_segmentor", build_interrupted)
    out = tmp_path / "out.mp4"
    code, printed, _ = run(demo, capsys, *inputs, "--out", out)
    assert code == 130 and "stopped before the end" in printed
    assert facts(out)[2] == facts(out)[4] == 8 - 3


def test_bad_input_is_one_line(demo, inputs, tmp_path, capsys):
    video, config, checkpoint = inputs
    out = tmp_path / "out.mp4"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    (tmp_path / "empty").mkdir()
    poisoned = tmp_path / "poisoned.pth"
    torch.save({"state_dict": {}, "meta": Fraction(1, 2)}, poisoned)
    for args, message in (
        ((tmp_path / "nothing.mp4", config, checkpoint), "nothing.mp4"),
        ((broken, config, checkpoint), "broken.mp4"),
        ((tmp_path / "empty", config, checkpoint), "empty"),
        ((video, tmp_path / "nothing.py", checkpoint), "nothing.py"),
        ((video, config, tmp_path / "nothing.pth"), "nothing.pth"),
        ((video, config, poisoned), "poisoned.pth"),
        ((video, config), "ships no trained weights"),
        ((video, config, checkpoint, "--device", "cuda:77"), "cuda:77"),
    ):
        code, _, error = run(demo, capsys, *args, "--out", out)
        last = error.strip().splitlines()[-1]
        assert code == 1 and last.startswith("error: ") and message in last
        assert "Traceback" not in error and not out.exists()


def test_bad_arguments_are_refused_before_any_work(demo, inputs, tmp_path, capsys):
    for args in (
        ["--out", tmp_path / "out.avi"],
        ["--out", inputs[0]],
        ["--out", tmp_path / "out.mp4", "--fps", "0"],
        ["--out", tmp_path / "out.mp4", "--fps", "many"],
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
