"""ShapesVIS: its bytes, its tags and its annotations; test_shapes_difficulty.py has its shares."""

import gc
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmvis_plugin.datasets.shapes_vis import (
    EVENTS,
    SHAPES,
    TEXTURES,
    appearance,
    generate_video,
    make_shapes_vis,
    track_annotations,
)
from mmvis_plugin.ytvis.categories import CATEGORIES


def test_same_arguments_write_the_same_bytes(tmp_path):
    def digests(root: Path) -> dict:
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    arguments = dict(train_videos=2, valid_videos=1, length=(24, 30), seed=3)
    make_shapes_vis(tmp_path / "a", **arguments)
    make_shapes_vis(tmp_path / "b", **arguments)
    make_shapes_vis(tmp_path / "more", **(arguments | dict(train_videos=3)))
    make_shapes_vis(tmp_path / "other", **(arguments | dict(seed=4)))
    make_shapes_vis(tmp_path / "old", **arguments, version=1)
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert first == second
    frames = {name: digest for name, digest in first.items() if name.endswith("jpg")}
    assert frames.items() <= digests(tmp_path / "more").items()
    assert not set(frames.values()) & set(digests(tmp_path / "other").values())
    assert not set(frames.values()) & set(digests(tmp_path / "old").values())


def digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize(
    ("split", "count", "expected"),
    [
        ("valid", 60, "0d725790faec1e18b91204a36b2dbc971f4a441f9368134211f108a88ddccb54"),
        ("train", 2, "7e7f25426d416323066e20ca4483bfa97d2d6fc536f1451801f699aec2d22ff2"),
    ],
)
def test_version_1_has_the_annotations_that_its_figures_were_measured_on(split, count, expected):
    """As version 1 wrote them before there was another one."""
    parts = []
    for index in range(count):
        video = generate_video(0, split, index, (24, 36), (96, 128), 6, version=1, only_masks=True)
        tracks = [
            {key: value for key, value in track.items() if key != "tags"}
            for track in track_annotations(video)
        ]
        parts.append(json.dumps([video.tags, tracks]).encode())
    assert digest(parts) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            (0, "train", 0, (24, 36), (96, 128), 6),
            "82e3ad5e98f99c74db4e8361ef6ae8ec540cf288c7016bf31a51989271e99f96",
        ),
        (
            (3, "valid", 1, (24, 30), (120, 200), 40),
            "26388f9a6172d09c29bef05d70e8c3709edfc7f2ebf32e9afcc658a97f248724",
        ),
    ],
)
def test_version_1_has_the_frames_that_its_figures_were_measured_on(arguments, expected):
    frames = generate_video(*arguments, version=1).frames
    assert digest([frame.tobytes() for frame in frames]) == expected


def test_splits_share_no_video():
    train, valid = (generate_video(0, s, 0, (24, 24), (96, 128), 6) for s in ("train", "valid"))
    assert not np.array_equal(train.frames[0], valid.frames[0])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """JSON of six validation videos, as written to disk."""
    root = tmp_path_factory.mktemp("shapes") / "shapes_vis"
    return json.loads(make_shapes_vis(root, 1, 6, length=(24, 40))["valid"].read_text())


def test_files_name_their_version(written, tmp_path):
    assert written["info"] == dict(description="ShapesVIS valid", version="2.0", seed=0)
    old = make_shapes_vis(tmp_path / "old", 1, 1, length=(24, 24), version=1)["train"]
    content = json.loads(old.read_text())
    assert content["info"]["version"] == "1.0"
    assert "tags" not in content["annotations"][0]


def test_tags_say_what_the_annotations_show(written):
    """Two of the tags can be read off the masks alone: gaps and jumps."""
    for video in written["videos"]:
        tracks = [a for a in written["annotations"] if a["video_id"] == video["id"]]
        of_tracks = set().union(*(track["tags"] for track in tracks))
        of_tracks |= {"cut", "empty_opening"} & set(video["tags"])
        assert video["tags"] == [event for event in EVENTS[2] if event in of_tracks]
        for track in tracks:
            masks = track["segmentations"]
            seen = np.flatnonzero([mask is not None for mask in masks])
            if "leave_return" in track["tags"]:
                assert (np.diff(seen) > 1).any()
            overlaps = [
                mask_utils.iou([masks[t]], [masks[t + 1]], [0])[0, 0]
                for t in seen[:-1]
                if masks[t + 1] is not None
            ]
            if min(overlaps, default=1) < 0.04:
                assert {"fast_motion", "occlusion", "cut"} & {*track["tags"], *video["tags"]}


def test_annotations_agree_with_the_rendered_masks(written):
    video = generate_video(0, "valid", 4, (24, 40), (96, 128), 6, only_masks=True)
    annotations = [a for a in written["annotations"] if a["video_id"] == 5]
    tracks = iter(annotations)
    for n, label in enumerate(video.labels):
        areas = video.masks[:, n].sum((1, 2))
        if areas.max() < 12:
            continue
        annotation = next(tracks)
        assert annotation["category_id"] == label + 1
        for t, mask in enumerate(annotation["segmentations"]):
            if mask is None:
                assert areas[t] < 12
                continue
            assert np.array_equal(mask_utils.decode(mask), video.masks[t, n])
            assert annotation["areas"][t] == areas[t]
            ys, xs = np.nonzero(video.masks[t, n])
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert annotation["bboxes"][t] == pytest.approx(box)
    assert next(tracks, None) is None


def test_textures_mix_both_colours_alike_on_every_shape():
    u, v = np.meshgrid(np.linspace(-1.5, 1.5, 600), np.linspace(-1.5, 1.5, 600))
    for label in range(6):
        shape, texture = appearance(label)
        assert 0.4 < texture(u, v)[shape(u, v)].mean() < 0.6, (shape, texture)


@pytest.mark.parametrize("categories", ["ytvis19", "ytvis21", "ovis"])
def test_benchmark_categories_all_look_different(categories):
    names = CATEGORIES[categories]
    assert len({appearance(label) for label in range(len(names))}) == len(names)
    assert len(names) <= len(SHAPES) * len(TEXTURES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(length=(10, 20)), "24 <= shortest"),
        (dict(size=(32, 128)), "at least 64"),
        (dict(train_videos=0), "at least one video"),
        (dict(categories="coco"), "choose one of"),
        (dict(version=3), "version is 3; choose one of 1, 2"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_shapes_vis(tmp_path / "x", **arguments)


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        make_shapes_vis(tmp_path, train_videos=1, valid_videos=1)


def test_an_empty_folder_may_be_linked(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    written = make_shapes_vis(tmp_path / "data", 1, 1, length=(24, 24))
    assert written["valid"] == tmp_path / "data" / "valid.json" and written["valid"].is_file()


class OfThisProcess:
    """Garbage that only the process that made it may collect, such as what owns threads."""

    def __init__(self):
        self.cycle, self.process = self, os.getpid()

    def __del__(self):
        if os.getpid() != self.process:
            os._exit(1)


def test_its_processes_leave_the_garbage_of_their_parent_alone(tmp_path):
    """They hung in it where a video had been read before."""
    gc.collect()
    for _ in range(100):
        OfThisProcess()
    make_shapes_vis(tmp_path / "data", 1, 1, (24, 24), (64, 96), version=1)
