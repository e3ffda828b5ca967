"""convert_dataset.py, run as from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util
from scripts import load_script
from test_help import find_problem

ROOT = Path(__file__).resolve().parents[2]
TOOL = "dataset_converters/convert_dataset"
HEIGHT, WIDTH = 24, 32


@pytest.fixture
def convert(tool, capfd):
    """Function that runs the tool and gives its exit code, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            tool(TOOL, *arguments)
        return stop.value.code, *capfd.readouterr()

    return run


def write_frame(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def vos_input(root):
    write_frame(root / "images/v/0.jpg")
    (root / "masks/v").mkdir(parents=True)
    picture = Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8), mode="P")
    picture.putpalette([0] * 768)
    picture.save(root / "masks/v/0.png")
    (root / "list.txt").write_text("v\n")
    return root / "masks/v/0.png", [
        root / "images", root / "masks", "--videos", root / "list.txt", "--class-name", "line"
    ]  # fmt: skip


def mots_input(root):
    write_frame(root / "images/0002/000000.png")
    (root / "txt").mkdir()
    rle = mask_util.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)))
    line = f"0 1001 1 {HEIGHT} {WIDTH} {rle['counts'].decode()}\n"
    (root / "txt/0002.txt").write_text(line)
    return root / "txt/0002.txt", [
        root / "images", root / "txt", "--classes", "1=line", "--sequences", "0002"
    ]  # fmt: skip


def labelme_input(root):
    write_frame(root / "v/0.jpg")
    shape = dict(label="line", points=[[1, 1], [5, 5], [1, 5]], group_id=None, shape_type="polygon")
    content = dict(imagePath="0.jpg", imageHeight=HEIGHT, imageWidth=WIDTH, shapes=[shape])
    (root / "v/0.json").write_text(json.dumps(content))
    return root / "v/0.json", [
        root, "--classes", "line", "--ungrouped", "label", "--unlabelled", "empty"
    ]  # fmt: skip


def cvat_input(root):
    write_frame(root / "v/images/frame_000000.jpg")
    box = '<box frame="0" keyframe="1" outside="0" xtl="1" ytl="1" xbr="5" ybr="5"/>'
    (root / "v/annotations.xml").write_text(
        "<annotations><meta><task><size>1</size></task></meta>"
        f'<track id="0" label="line">{box}</track></annotations>'
    )
    return root / "v/annotations.xml", [root / "v", "--images", root, "--identity", "group"]


def ytvis_input(root):
    content = dict(
        categories=[dict(id=1, name="line")],
        videos=[dict(id=1, width=WIDTH, height=HEIGHT, length=1, file_names=["v/0.jpg"])],
        annotations=[
            dict(
                id=1, video_id=1, category_id=1, iscrowd=0, segmentations=[[[1, 1, 5, 5, 1, 5]]]
            )
        ],
    )  # fmt: skip
    (root / "ytvis.json").write_text(json.dumps(content))
    return root / "ytvis.json", [root / "ytvis.json"]


def cocovid_input(root):
    annotation = dict(
        id=1,
        image_id=1,
        video_id=1,
        category_id=1,
        instance_id=1,
        segmentation=[[1, 1, 5, 5, 1, 5]],
    )
    image = dict(id=1, video_id=1, frame_id=0, file_name="v/0.jpg", height=HEIGHT, width=WIDTH)
    content = dict(
        categories=[dict(id=1, name="line")],
        videos=[dict(id=1, name="v")],
        images=[image],
        annotations=[annotation],
    )
    (root / "cocovid.json").write_text(json.dumps(content))
    return root / "cocovid.json", [root / "cocovid.json"]


INPUTS = {
    "cocovid": cocovid_input,
    "to-cocovid": ytvis_input,
    "vos": vos_input,
    "mots": mots_input,
    "labelme": labelme_input,
    "cvat": cvat_input,
}


@pytest.mark.parametrize("name", INPUTS)
def test_each_format_is_written_and_reported(convert, tmp_path, name):
    _, arguments = INPUTS[name](tmp_path)
    out = tmp_path / "out" / "train.json"
    code, output, _ = convert(name, *arguments, "--out", out)
    assert code == 0
    assert f"wrote {out} (videos: 1, frames: 1, objects: 1, classes: line)" in output
    content = json.loads(out.read_text())
    assert content["categories"][0]["name"] == "line" and len(content["annotations"]) == 1
    assert os.listdir(out.parent) == ["train.json"]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("damage", ["empty", "missing"])
def test_bad_input_is_one_line_and_nothing_is_written(convert, tmp_path, name, damage):
    faulty, arguments = INPUTS[name](tmp_path)
    out = tmp_path / "out" / "train.json"
    out.parent.mkdir()
    out.write_text("of last time")
    if damage == "empty":
        faulty.write_bytes(b"")
    else:
        faulty.unlink()
    code, output, errors = convert(name, *arguments, "--out", out)
    assert code in (1, 2) and not output
    (line,) = (line for line in errors.splitlines() if "error" in line)
    assert line.startswith("error: ")
    assert out.read_text() == "of last time" and os.listdir(out.parent) == ["train.json"]


def test_a_dataset_without_objects_is_no_success(convert, tmp_path):
    faulty, arguments = labelme_input(tmp_path)
    faulty.write_text(json.dumps(dict(imagePath="0.jpg", shapes=[])))
    code, _, errors = convert("labelme", *arguments, "--out", tmp_path / "out.json")
    assert code == 1 and ": there is no object to convert" in errors
    assert not (tmp_path / "out.json").exists()


def test_bad_arguments_are_refused_before_anything_is_imported(tmp_path):
    out = ["--out", str(tmp_path / "out.json")]
    here = str(tmp_path)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    for arguments, message in (
        (["mots", here, here, "--classes", "car", *out], "'car' is not NUMBER=NAME"),
        (["cvat", here, "--images", here, "--identity", "x", *out], "'x' is not track, group"),
        (["cocovid", "gone.json", *out], "gone.json: there is no such file"),
        (["vos", here, here, "--videos", str(tmp_path / "latin.txt"), *out], "latin.txt cannot be"),
        (["blob", *out], "invalid choice: 'blob'"),
    ):
        script = ROOT / f"tools/{TOOL}.py"
        command = [sys.executable, "-X", "importtime", script, *arguments]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 2 and message in run.stderr.splitlines()[-1]
        assert not {"numpy", "torch", "mmvis_plugin"} & {
            line.rpartition("|")[2].strip() for line in run.stderr.splitlines()
        }


def test_every_option_of_every_format_is_explained():
    parser = load_script(f"tools/{TOOL}.py").make_parser()
    (commands,) = (a.choices for a in parser._actions if isinstance(a.choices, dict))
    assert set(commands) == set(INPUTS)
    for name, command in commands.items():
        assert f"{TOOL}.py {name} " in command.epilog
        for action in command._actions:
            problem = find_problem(action)
            assert problem is None, f"{name} {action.dest}: {problem}: {action.help}"
