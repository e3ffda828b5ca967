"""check_ytvis.py and browse_ytvis.py, run as from the command line."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as mask_util

from mmvis_plugin.apis import VideoReader
from mmvis_plugin.visualization.contact_sheet import GAP, caption_size, resize_frame
from mmvis_plugin.visualization.labels import text_height

HEIGHT, WIDTH = 24, 32


def test_bad_arguments_are_refused(tool, tmp_path, capsys):
    for name, arguments, message in (
        ("analysis_tools/check_ytvis", ["a.json", "--decode"], "--decode needs --images"),
        ("analysis_tools/browse_ytvis", ["--out", tmp_path], "nothing to do"),
        ("analysis_tools/browse_ytvis", ["--out", tmp_path, "--stats"], "need the JSON"),
        ("analysis_tools/browse_ytvis", ["--columns", "0"], "not a whole number of 1 or more"),
    ):
        with pytest.raises(SystemExit):
            tool(name, *arguments)
        assert message in capsys.readouterr().err


# --- check_ytvis.py -----------------------------------------------------------------------------


@pytest.fixture
def copy_of_shapes(shapes, tmp_path):
    """Folder with a copy of ShapesVIS's validation part that a test may change."""
    shutil.copytree(shapes / "valid", tmp_path / "shapes" / "valid")
    shutil.copy(shapes / "valid.json", tmp_path / "shapes")
    return tmp_path / "shapes"


def test_check_passes_a_right_dataset(tool, shapes, capsys):
    images = shapes / "valid/JPEGImages"
    tool("analysis_tools/check_ytvis", shapes / "valid.json", "--images", images, "--decode")
    assert "0 errors" in capsys.readouterr().out.splitlines()[-1]


def test_check_prints_all_errors_and_fails(tool, copy_of_shapes, tmp_path, capsys):
    path = copy_of_shapes / "valid.json"
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    frame = next(t for t, box in enumerate(first["bboxes"]) if box)
    first["bboxes"][frame][0] += 50
    content["annotations"][1]["category_id"] = 99
    path.write_text(json.dumps(content))
    (copy_of_shapes / "valid/JPEGImages" / content["videos"][1]["file_names"][2]).unlink()
    report = tmp_path / "report.json"
    images = copy_of_shapes / "valid/JPEGImages"
    with pytest.raises(SystemExit) as stop:
        tool("analysis_tools/check_ytvis", path, "--images", images, "--json", report)
    assert stop.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    place = f"video {first['video_id']}: annotation {first['id']}: frame {frame}"
    start = f"warning: {place}: the box is"
    assert any(line.startswith(start) for line in lines), lines
    assert any("category_id" in line and "99" in line for line in lines), "\n".join(lines)
    missing = f"error: video {content['videos'][1]['id']}: frame 2: "
    assert any(line.startswith(missing) and "does not exist" in line for line in lines)
    assert ": 2 errors, 3 warnings" in lines[-1]
    written = json.loads(report.read_text())
    assert written["num_errors"] == 2
    assert all(p["message"] in "\n".join(lines) for p in written["problems"])
    assert any(p["frame"] == frame and "the box is" in p["message"] for p in written["problems"])


def test_report_of_a_check_that_cannot_be_written(tool, shapes, tmp_path, capsys, monkeypatch):
    arguments = ["analysis_tools/check_ytvis", shapes / "valid.json", "--json"]
    with pytest.raises(SystemExit) as stop:
        tool(*arguments, tmp_path)
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert output.err == f"error: {tmp_path} is a folder: name a file to write\n"
    assert not output.out  # before the check, which may take long

    def full(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit) as stop:
        tool(*arguments, tmp_path / "report.json")
    output = capsys.readouterr()
    assert stop.value.code == 2 and output.err.endswith("error: the disk is full\n")
    assert "0 errors" in output.out


# --- browse_ytvis.py ----------------------------------------------------------------------------


def browse(tool, shapes, out, *arguments):
    images = shapes / "valid/JPEGImages"
    tool(
        "analysis_tools/browse_ytvis", shapes / "valid.json", "--images", images, "--out", out,
        *arguments,
    )  # fmt: skip


def test_contact_sheets_of_chosen_videos(tool, shapes, tmp_path):
    out = tmp_path / "sheets"
    size = ["--frames", 5, "--columns", 2, "--width", 160]
    browse(tool, shapes, out, "--videos", "valid_0000", 3, *size)
    assert sorted(os.listdir(out)) == ["valid_0000.png", "valid_0002.png"]
    sheet = cv2.imread(str(out / "valid_0000.png"))
    caption = text_height(caption_size(160))
    assert sheet.shape == (3 * (caption + 120 + GAP), 2 * (160 + GAP) + GAP, 3)
    assert (sheet[-100:, -150:] == 255).all()  # no sixth frame
    frame = cv2.imread(str(shapes / "valid/JPEGImages/valid_0000/00000.jpg"))
    shown = sheet[caption : caption + 120, GAP : GAP + 160].astype(int)
    plain = cv2.resize(frame, (160, 120), interpolation=cv2.INTER_CUBIC).astype(int)
    content = json.loads((shapes / "valid.json").read_text())
    covered = np.zeros((120, 160), np.uint8)
    for annotation in content["annotations"]:
        if annotation["video_id"] == 1 and annotation["segmentations"][0]:
            mask = mask_util.decode(annotation["segmentations"][0])
            covered |= cv2.resize(mask, (160, 120), interpolation=cv2.INTER_NEAREST)
    changed = np.abs(shown - plain).max(axis=2) > 8
    assert changed[covered > 0].mean() > 0.7 and changed.mean() < 0.9


def test_instances_are_resized_with_their_frame():
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[6:12, 4:20] = 1
    instances = InstanceData(
        bboxes=np.array([[4.0, 6, 20, 12]]),
        labels=np.array([0]),
        masks=[mask_util.encode(np.asfortranarray(mask))],
    )
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for width, scale in ((64, 2), (16, 0.5)):
        picture, resized = resize_frame(frame, instances, width)
        assert picture.shape == (HEIGHT * scale, width, 3)
        np.testing.assert_array_equal(resized.bboxes, np.multiply([[4, 6, 20, 12]], scale))
        rows, columns = np.nonzero(resized.masks[0])
        assert [rows.min(), rows.max() + 1] == [6 * scale, 12 * scale]
        assert [columns.min(), columns.max() + 1] == [4 * scale, 20 * scale]
    np.testing.assert_array_equal(instances.bboxes, [[4, 6, 20, 12]])


def test_videos_of_results(tool, shapes, tmp_path):
    content = json.loads((shapes / "valid.json").read_text())
    track = content["annotations"][0]
    results = [
        dict(video_id=1, category_id=track["category_id"], score=score, segmentations=masks)
        for score, masks in ((0.9, track["segmentations"]), (0.1, [None] * 6))
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    out = tmp_path / "videos"
    arguments = ["--videos", "all", "--mp4", "--fps", 5, "--results", path]
    browse(tool, shapes, out, *arguments)
    assert sorted(os.listdir(out)) == [f"valid_000{i}.mp4" for i in range(3)]
    frame = next(t for t, mask in enumerate(track["segmentations"]) if mask)
    with VideoReader(out / "valid_0000.mp4") as drawn, VideoReader(out / "valid_0001.mp4") as bare:
        assert drawn.fps == 5 and drawn.size == (128, 96)
        pictures = list(drawn)
        assert len(pictures) == 6
        assert len(list(bare)) == 6  # without results: nothing is drawn
    name = content["videos"][0]["file_names"][frame]
    plain = cv2.imread(str(shapes / "valid/JPEGImages" / name)).astype(int)
    difference = np.abs(pictures[frame] - plain).mean(axis=2)
    mask = mask_util.decode(track["segmentations"][frame]).astype(bool)
    assert difference[mask].mean() > 3 * difference[~mask].mean() / 2


def test_statistics_are_counted_and_plotted(tool, shapes, tmp_path, capsys):
    browse(tool, shapes, tmp_path, "--stats")
    with Image.open(tmp_path / "statistics.png") as picture:
        assert picture.size[0] > 1000 and np.asarray(picture.convert("L")).std() > 10
    content = json.loads((shapes / "valid.json").read_text())
    tracks = [a for a in content["annotations"] if any(a["segmentations"])]
    lengths = [sum(mask is not None for mask in a["segmentations"]) for a in tracks]
    lines = capsys.readouterr().out.splitlines()
    assert f"{len(tracks)} tracks in 3 videos" in lines
    assert (
        f"frames of a track: {min(lengths)} to {max(lengths)}, median {np.median(lengths):.0f}"
        in lines
    )
    for category in content["categories"]:
        count = sum(a["category_id"] == category["id"] for a in tracks)
        assert f"  {category['name']}: {count}" in lines


def test_statistics_without_annotations(tool, copy_of_shapes, tmp_path, capsys):
    path = copy_of_shapes / "valid.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), annotations=None)))
    browse(tool, copy_of_shapes, tmp_path, "--stats", "--videos", "1", "--frames", 2)
    assert (tmp_path / "statistics.png").exists() and (tmp_path / "valid_0000.png").exists()
    assert "0 tracks in 3 videos" in capsys.readouterr().out


def test_browse_looks_for_the_frames_first(tool, copy_of_shapes, tmp_path, capsys):
    path, out = copy_of_shapes / "valid.json", tmp_path / "sheets"
    arguments = [path, "--out", out, "--videos", "all"]
    for images, message in (
        (["--images", tmp_path / "gone"], "gone: no such folder; --images is"),
        ([], "video 1: frame .*valid_0000/00000.jpg is missing; --images is"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{message}"):
            tool("analysis_tools/browse_ytvis", *arguments, *images)
    assert not out.exists() and "video/s" not in capsys.readouterr().err  # no progress bar either


def test_browse_names_what_it_cannot_show(tool, copy_of_shapes, tmp_path):
    with pytest.raises(
        SystemExit, match="^error: there is no video of id or name 9; .* 1 .valid_0000"
    ):
        browse(tool, copy_of_shapes, tmp_path, "--videos", 9)
    frame = copy_of_shapes / "valid/JPEGImages/valid_0000/00000.jpg"
    cv2.imwrite(str(frame), np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(SystemExit, match=r"^error: video 1: frame .*00000.jpg is \(5, 6\) pixels"):
        browse(tool, copy_of_shapes, tmp_path, "--videos", 1)
    frame.write_bytes(b"")
    with pytest.raises(
        SystemExit, match="^error: video 1: frame .*00000.jpg is missing or no image"
    ):
        browse(tool, copy_of_shapes, tmp_path, "--videos", 1, "--mp4")
    assert not list(tmp_path.glob("*.png")) and not list(tmp_path.glob("*.mp4"))
    results = tmp_path / "results.json"
    entry = dict(video_id=2, category_id=1, score=1, segmentations=[None])
    for content, message in (
        ("{", "not valid JSON"),
        ("{}", "expected a list"),
        ('[{"score": 1}]', r"\[0\] is not an object with the keys video_id"),
        (json.dumps([dict(entry, score="high")]), "score 'high' is not a finite number"),
        (
            json.dumps([dict(entry, segmentations=5)]),
            "an entry for each of 6 frames, got int",
        ),
        (json.dumps([entry]), "an entry for each of 6 frames, got 1"),
        (json.dumps([dict(entry, category_id=99)]), "category_id 99 is not in"),
        (json.dumps([dict(entry, video_id=99)]), "video_id 99 is not in"),
        (
            json.dumps(
                [dict(entry, segmentations=[dict(size=[96, 128], counts="0")] + [None] * 5)]
            ),
            "frame 0: the RLE ",
        ),
    ):
        results.write_text(content)
        with pytest.raises(SystemExit, match=f"^error: .*results.json.*{message}"):
            browse(tool, copy_of_shapes, tmp_path, "--videos", 2, "--results", results)


def test_training_clips_are_those_of_the_pipeline(tool, shapes, tmp_path):
    """A clip without flips, crops and jitter shows the frames themselves with their masks."""
    config = tmp_path / "clips_shapes.py"
    root = Path(__file__).resolve().parents[2]
    config.write_text(
        f'_base_ = "{root}/configs/maskprop/maskprop_r18_shapes.py"\n'
        f'train_dataloader = dict(dataset=dict(data_root="{shapes}/"))\n'
    )
    tool("analysis_tools/browse_ytvis", "--config", config, "--out", tmp_path / "c", "--clips", 2)
    assert sorted(os.listdir(tmp_path / "c")) == ["clip_000.png", "clip_001.png"]
    sheet = cv2.imread(str(tmp_path / "c/clip_000.png"))
    colored = {tuple(color) for color in sheet.reshape(-1, 3).tolist()}
    assert len(colored) > 1000 and sheet.shape[1] > 400
