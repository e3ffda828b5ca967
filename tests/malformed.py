"""Seeded damage to files of every kind that the tools read, and the commands that read them."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fake_segmentor import make_frame, write_file, write_inputs
from PIL import Image
from ytvis_content import clean_content, compressed, write_content

INF, NAN = float("inf"), float("nan")
ODD_VALUES = [
    *(None, True, -1, 0, 1.5, 7.0, 2**63, 10**30, 1e308, NAN, INF, "7", "", "x" * 5000, "\ud800"),
    *(
        "a\nb",
        "../..",
        "b'x'",
        "行人",
        "/",
        [],
        {},
        [[]],
        [None],
        {"size": [24, 32]},
        [1e6, -1e6] * 50,
    ),
    *([[1e6, -1e6, 0, 1e6] * 9], [0.5, 30] * 200, [-1] * 4, [0, 0, 0, 0], list(range(300))),
]
ODD_BYTES = [
    b"",
    b"\0",
    b"\xff" * 9,
    b"9" * 30,
    b"-1",
    b"NaN",
    b"1e999",
    b"[" * 3000,
    b'"',
    b"<x>" * 99,
]
ODD_TEXTS = [
    *(
        "None",
        "5",
        "-1",
        "0",
        "0.5",
        "nan",
        "1e999",
        "abc",
        "''",
        "True",
        "[]",
        "{}",
        "(1,2)",
        "1/0",
    ),
    *(
        "[[1,2],3]",
        "[a,b]",
        "['a'",
        "a.b",
        "${x}",
        "{{x}}",
        "dict(type=Nope)",
        "Nope",
        "=",
        "  ",
        "行人",
    ),
]


@dataclass
class Case:
    """A command and what is wrong with its input.

    Attributes:
        command: The script from the repository's root, and its arguments.
        faulty: Words of which an error must have one: the file at fault, or the option.
        out: Folder for all that the command writes.
    """

    command: list[str]
    faulty: list[str]
    out: Path


# --- damage -------------------------------------------------------------------------------------


def damaged_json(rng: random.Random, content: Any) -> bytes:
    """A JSON with odd values, or without some, or with damage to its text."""
    if rng.random() < 0.2:
        return damaged_bytes(rng, json.dumps(content).encode())
    return json.dumps(with_odd_values(rng, content)).encode()


def with_odd_values(rng: random.Random, content: Any, odd=ODD_VALUES) -> Any:
    """A copy of a nested content with one to three changes at random places."""
    content = [copy.deepcopy(content)]
    for _ in range(rng.randint(1, 3)):
        node, key = rng.choice(list(places(content)))
        change = rng.randrange(8)
        if change == 0 and node is not content:
            del node[key]
        elif change == 1 and isinstance(node, list) and node is not content:
            node.append(copy.deepcopy(node[key]))
        else:
            node[key] = copy.deepcopy(rng.choice(odd))
    return content[0]


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a container."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(pairs):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes cut off, cut out, overwritten or put in between, more often near the start."""
    for _ in range(rng.randint(1, 3)):
        share = rng.random() ** rng.choice([1, 3])
        start, length = int(share * len(data)), rng.choice([1, 2, 4, 16, 500])
        way = rng.randrange(4)
        if way == 0:
            data = data[:start]
        elif way == 1:
            data = data[:start] + data[start + length :]
        elif way == 2:
            data = data[:start] + rng.randbytes(length) + data[start + length :]
        else:
            data = data[:start] + rng.choice(ODD_BYTES) + data[start:]
    return data


# --- good inputs --------------------------------------------------------------------------------

CVAT = """<annotations><version>1.1</version><meta><task><id>7</id><name>clip</name><size>3</size>
<start_frame>0</start_frame><stop_frame>2</stop_frame><frame_filter></frame_filter><labels>
<label><name>cat</name><type>any</type></label></labels><original_size><width>32</width>
<height>24</height></original_size></task></meta>
<track id="0" label="cat"><box frame="0" keyframe="1" outside="0" xtl="2" ytl="3" xbr="9" ybr="9"/>
<box frame="2" keyframe="1" outside="0" xtl="6" ytl="3" xbr="14" ybr="9" rotation="9"/></track>
<track id="1" label="cat"><mask frame="1" keyframe="1" outside="0" rle="1, 2, 1, 4" left="5" top="6"
width="4" height="2"/><polygon frame="2" keyframe="1" outside="0" points="1,1;9,1;9,9"/></track>
</annotations>"""


def labelme_content() -> dict:
    kinds = dict(
        polygon=[[1, 1], [9, 1], [9, 9]],
        rectangle=[[1, 1], [9, 9]],
        circle=[[5, 5], [9, 5]],
        rotation=[[1, 1], [9, 1], [9, 9], [1, 9]],
    )
    shapes = [
        dict(label="cat", shape_type=kind, points=points, group_id=number, flags={})
        for number, (kind, points) in enumerate(kinds.items())
    ]
    return dict(imagePath="0.png", imageHeight=24, imageWidth=32, imageData=None, shapes=shapes)


def coco_content() -> dict:
    box = np.zeros((24, 32), np.uint8)
    box[3:9, 4:12] = 1
    images = [
        dict(id=t + 1, video_id=1, frame_id=t, file_name=f"clip/{t}.png", height=24, width=32)
        for t in range(3)
    ]
    annotations = [
        dict(id=t, image_id=t, video_id=1, instance_id=1, category_id=1, iscrowd=0, area=48)
        | dict(bbox=[4, 3, 8, 6], segmentation=compressed(box))
        for t in (1, 2, 3)
    ]
    return dict(
        categories=[dict(id=1, name="cat")],
        videos=[dict(id=1, name="clip", height=24, width=32)],
        images=images,
        annotations=annotations,
    )


def result_content(content: dict) -> list[dict]:
    """The annotations as results."""
    return [
        dict(
            video_id=track["video_id"],
            category_id=track["category_id"],
            score=0.9,
            segmentations=[m if isinstance(m, dict) else None for m in track["segmentations"]],
        )
        for track in content["annotations"]
    ]


class GoodInputs:
    """Files that the tools take as they are, from which each case takes copies.

    Args:
        root: A new folder.
        train_config: Config of a training that takes two iterations.
    """

    def __init__(self, root: Path, train_config: Path):
        self.root = root
        self.train_config = train_config
        self.annotations = clean_content()
        write_content(root, self.annotations, "gt.json", "images")
        self.results = result_content(self.annotations)
        (root / "results.json").write_text(json.dumps(self.results))
        (root / "metrics.json").write_text('{"AP": 0.5}')
        self.config, self.checkpoint = write_inputs(root, score=0.9)
        for t in range(3):
            (root / "clip").mkdir(exist_ok=True)
            Image.fromarray(make_frame(t)[:24, :32]).save(root / "clip" / f"{t}.png")
            (root / "masks" / "clip").mkdir(exist_ok=True, parents=True)
            ids = np.zeros((24, 32), np.uint8)
            ids[3:9, 4 + t : 12] = 1
            Image.fromarray(ids, mode="L").save(root / "masks" / "clip" / f"{t}.png")
        codecs = dict(mp4="libx264", mkv="libx264", avi="mpeg4", webm="libvpx", mov="mjpeg")
        for suffix, codec in codecs.items():
            pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            write_file(root / f"film.{suffix}", 6, codec, pixels)


# --- cases by kind ------------------------------------------------------------------------------


def annotations(rng, good, folder) -> Case:
    path, out = folder / "odd.json", folder / "out"
    path.write_bytes(damaged_json(rng, good.annotations))
    results = good.root / "results.json"
    tools = [
        ["analysis_tools/check_ytvis.py", path, "--json", out / "report.json"],
        ["analysis_tools/eval_results.py", results, path, "--json", out / "figures.json"],
        ["analysis_tools/analyze_errors.py", results, path, "--json", out / "figures.json"],
        ["dataset_converters/split_ytvis.py", path, "--out-train", out / "a.json"]
        + ["--out-val", out / "b.json", "--val-ratio", "0.5"],
        ["dataset_converters/lower_frame_rate.py", path, "--stride", "2", "--out", out / "a.json"],
        ["dataset_converters/convert_dataset.py", "to-cocovid", path, "--out", out / "a.json"],
    ]
    tool, *arguments = rng.choice(tools)
    return Case([f"tools/{tool}", *map(str, arguments)], [path.name], out)


def results(rng, good, folder) -> Case:
    path, out = folder / "odd.json", folder / "out"
    path.write_bytes(damaged_json(rng, good.results))
    tool = rng.choice(["eval_results", "analyze_errors", "show_timeline"])
    command = [f"tools/analysis_tools/{tool}.py", str(path)]
    if tool == "show_timeline":
        return Case([*command, "--out", str(out / "a.png"), "--video-id", "7"], [path.name], out)
    options = [str(good.root / "gt.json"), "--json", str(out / "a.json")]
    return Case(command + options, [path.name], out)


def demo(good, folder, video, config=None, checkpoint=None) -> list[str]:
    outs = [
        word for name in ("a.mp4", "a.json", "a.csv") for word in ("--out", folder / "out" / name)
    ]
    inputs = [video, config or good.config, checkpoint or good.checkpoint]
    return ["demo/video_demo.py", *map(str, [*inputs, *outs, "--device", "cpu"])]


def videos(rng, good, folder) -> Case:
    """A film with damage, a folder with a damaged frame, or a film of an odd size."""
    source = rng.choice([*sorted(good.root.glob("film.*")), good.root / "clip"])
    if source.is_dir():
        video = folder / "clip"
        shutil.copytree(source, video)
        path = rng.choice(sorted(video.iterdir()))
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
        return Case(demo(good, folder, video), [path.name, video.name], folder / "out")
    video = folder / f"odd{source.suffix}"
    video.write_bytes(damaged_bytes(rng, source.read_bytes()))
    return Case(demo(good, folder, video), [video.name], folder / "out")


def checkpoints(rng, good, folder) -> Case:
    path = folder / "odd.pth"
    if rng.random() < 0.4:
        path.write_bytes(damaged_bytes(rng, good.checkpoint.read_bytes()))
    else:
        tensors = [torch.zeros(0), torch.tensor(NAN), torch.zeros(2, 2), torch.tensor(1), "cat"]
        content = torch.load(good.checkpoint, weights_only=True)
        torch.save(with_odd_values(rng, content, ODD_VALUES + 5 * tensors), path)
    if rng.random() < 0.7:
        command = demo(good, folder, good.root / "clip", None, path)
    else:
        command = ["tools/model_converters/publish_weights.py", str(path), f"{folder}/out/a.pth"]
        command += ["--command", "x", "--seconds", "1", "--metrics", f"{good.root}/metrics.json"]
    return Case(command, [path.name], folder / "out")


def configs(rng, good, folder) -> Case:
    path = folder / "odd.py"
    source = good.config if rng.random() < 0.5 else good.train_config
    path.write_bytes(damaged_bytes(rng, source.read_bytes()))
    if source is good.config:
        return Case(demo(good, folder, good.root / "clip", path), [path.name], folder / "out")
    return train(path, [path.name], folder)


def train(config, faulty, folder, *options) -> Case:
    command = ["tools/train.py", str(config), "--work-dir", str(folder / "run"), *options]
    return Case(command, faulty, folder / "out")


def options(rng, good, folder) -> Case:
    """A training with an odd value for a setting that its config has, or for a misspelled one."""
    key = rng.choice(settings_of(good.train_config))
    if rng.random() < 0.2:
        where = rng.randrange(len(key) + 1)
        key = key[:where] + rng.choice([".", "x", ".0.", "-"]) + key[where:]
    option = f"{key}={rng.choice(ODD_TEXTS)}"
    words = [key, key.split(".")[-1], f"'{option}'"]
    words += ["--cfg-options"] * key.startswith("-")  # which begins another option
    return train(good.train_config, words, folder, "--cfg-options", option)


def settings_of(config: Path) -> list[str]:
    """Dotted names of all settings of a config."""
    from mmvis_plugin.config import load_config

    def names(node, prefix=""):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield f"{prefix}{key}"
            if isinstance(value, dict | list):
                yield from names(value, f"{prefix}{key}.")

    return sorted(names(load_config(str(config))._cfg_dict.to_dict()))


def conversions(rng, good, folder) -> Case:
    kind, write = rng.choice(list(CONVERSIONS.items()))
    path, arguments = write(rng, good, folder)
    out = folder / "out" / "a.json"
    command = ["tools/dataset_converters/convert_dataset.py", kind, *map(str, arguments)]
    return Case([*command, "--out", str(out)], [path.name, path.parent.name], out.parent)


def labelme(rng, good, folder):
    shutil.copytree(good.root / "clip", folder / "labels" / "clip")
    path = folder / "labels" / "clip" / "0.json"
    path.write_bytes(damaged_json(rng, labelme_content()))
    ungrouped = ["--ungrouped", rng.choice(["refuse", "label", "number"])]
    return path, [folder / "labels", "--unlabelled", "empty", *ungrouped]


def cvat(rng, good, folder):
    path = folder / "odd.xml"
    path.write_bytes(damaged_bytes(rng, CVAT.encode()))
    shutil.copytree(good.root / "clip", folder / "images" / "clip")
    return path, [path, "--images", folder / "images"]


def coco(rng, good, folder):
    path = folder / "odd.json"
    path.write_bytes(damaged_json(rng, coco_content()))
    return path, [path]


def mots(rng, good, folder):
    path = folder / "txt" / "clip.txt"
    path.parent.mkdir()
    line = "{} 1005 1 24 32 " + compressed(np.eye(24, 32, dtype=np.uint8))["counts"]
    text = "\n".join(line.format(t) for t in range(3))
    path.write_bytes(damaged_bytes(rng, text.encode()))
    (folder / "images").symlink_to(good.root)
    return path, [folder / "images", path.parent]


def vos(rng, good, folder):
    shutil.copytree(good.root / "masks", folder / "masks")
    path = folder / "masks" / "clip" / "1.png"
    path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    (folder / "images").mkdir()
    (folder / "images" / "clip").symlink_to(good.root / "clip")
    return path, [folder / "images", folder / "masks"]


CONVERSIONS: dict[str, Callable] = {
    "labelme": labelme,
    "cvat": cvat,
    "cocovid": coco,
    "mots": mots,
    "vos": vos,
}
KINDS = [annotations, results, videos, checkpoints, configs, options, conversions]


def make_case(number: int, good: GoodInputs, folder: Path) -> Case:
    """The case of a number: kinds take turns, the rest is drawn.

    Args:
        number: Of the case, also its seed.
        good: Inputs to damage.
        folder: A new folder for the case.
    """
    return KINDS[number % len(KINDS)](random.Random(number), good, folder)
