"""ShapesVIS: its bytes, its tags, and that it is not trivial."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment

from mmvis_plugin.datasets.shapes_vis import (
    EVENTS,
    SHAPES,
    TEXTURES,
    VERSION,
    appearance,
    generate_video,
    make_shapes_vis,
)
from mmvis_plugin.evaluation import evaluate_ytvis
from mmvis_plugin.ytvis.categories import CATEGORIES

NUM_VIDEOS = 60


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """The default validation split, as written to disk."""
    root = tmp_path_factory.mktemp("shapes") / "shapes_vis"
    return make_shapes_vis(root, train_videos=1, valid_videos=NUM_VIDEOS)["valid"]


def test_same_arguments_write_the_same_bytes(tmp_path):
    def digests(root: Path) -> dict:
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    arguments = dict(train_videos=2, valid_videos=1, seed=3)
    make_shapes_vis(tmp_path / "a", **arguments)
    make_shapes_vis(tmp_path / "b", **arguments)
    make_shapes_vis(tmp_path / "more", **(arguments | dict(train_videos=3)))
    make_shapes_vis(tmp_path / "other", **(arguments | dict(seed=4)))
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert first == second
    frames = {name: digest for name, digest in first.items() if name.endswith("jpg")}
    assert frames.items() <= digests(tmp_path / "more").items()
    assert not set(frames.values()) & set(digests(tmp_path / "other").values())


def test_annotations_are_those_that_the_figures_were_measured_on(valid):
    """docs/results.md holds for these bytes; other annotations are another version."""

    def digest(path: Path) -> str:
        dataset = json.loads(path.read_text())
        content = json.dumps([dataset["videos"], dataset["annotations"]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    digests = VERSION, digest(valid), digest(valid.with_name("train.json"))
    assert digests == (
        "1.0",
        "37ee017e5c698835268d871cb961e3c0c2dca1df16d65802b4b50e51ae11b4b7",
        "9133117c9015f6103783063a41bc40a9fa7c631621b8e2e443a7b52f5c755826",  # first of 240 videos
    )


def test_splits_share_no_video():
    train, valid = (generate_video(0, s, 0, (24, 24), (96, 128), 6) for s in ("train", "valid"))
    assert not np.array_equal(train.frames[0], valid.frames[0])


def test_each_tag_is_on_a_quarter_of_the_videos(valid):
    tags = [set(video["tags"]) for video in json.loads(valid.read_text())["videos"]]
    for event in EVENTS:
        assert sum(event in found for found in tags) >= NUM_VIDEOS / 4, event


def test_tags_say_what_the_annotations_show(valid):
    """Two of the tags can be read off the JSON alone: gaps at the border, and jumps."""
    dataset = json.loads(valid.read_text())
    tracks = {}
    for annotation in dataset["annotations"]:
        tracks.setdefault(annotation["video_id"], []).append(annotation["segmentations"])
    for video in dataset["videos"]:
        gap = jump = False
        for track in tracks.get(video["id"], []):
            seen = np.flatnonzero([mask is not None for mask in track])
            gap |= bool((np.diff(seen) > 1).any())
            for t in seen[:-1]:
                if track[t + 1] is not None:
                    jump |= bool(mask_utils.iou([track[t]], [track[t + 1]], [0])[0, 0] < 0.04)
        if "leave_return" in video["tags"]:
            assert gap
        if jump:
            assert "fast_motion" in video["tags"] or "occlusion" in video["tags"]


def test_annotations_agree_with_the_rendered_masks(valid):
    dataset = json.loads(valid.read_text())
    video = generate_video(0, "valid", 4, (24, 36), (96, 128), 6)
    annotations = [a for a in dataset["annotations"] if a["video_id"] == 5]
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


def link_by_iou(tracks: list[list]) -> list[list]:
    """Tracks that frame-to-frame mask IoU alone makes of perfect masks."""
    length, linked, previous = len(tracks[0]), [], {}
    for t in range(length):
        masks = [track[t] for track in tracks if track[t] is not None]
        current = {}
        if masks and previous:
            owners = list(previous)
            ious = np.asarray(
                mask_utils.iou(masks, [previous[o] for o in owners], [0] * len(owners))
            )
            for row, column in zip(*linear_sum_assignment(ious, maximize=True), strict=True):
                if ious[row, column] > 0.05:
                    current[owners[column]] = masks[row]
        for mask in masks:
            if not any(mask is taken for taken in current.values()):
                current[len(linked)] = mask
                linked.append([None] * length)
        for owner, mask in current.items():
            linked[owner][t] = mask
        previous = current
    return linked


def test_linking_perfect_masks_by_iou_loses_a_tenth_of_ap(valid):
    dataset = json.loads(valid.read_text())
    results = []
    for video in dataset["videos"]:
        for category in {a["category_id"] for a in dataset["annotations"]}:
            tracks = [
                a["segmentations"]
                for a in dataset["annotations"]
                if a["video_id"] == video["id"] and a["category_id"] == category
            ]
            if tracks:
                results += [
                    dict(
                        video_id=video["id"],
                        category_id=category,
                        score=sum(mask is not None for mask in track) / video["length"],
                        segmentations=track,
                    )
                    for track in link_by_iou(tracks)
                ]
    assert evaluate_ytvis(dataset, results)["AP"] < 0.9


def test_mean_colour_says_nothing_about_the_class():
    """Nearest neighbours in mean colour are right about as often as chance, one in six."""
    colours, labels = [], []
    for index in range(150):
        video = generate_video(1, "train", index, (24, 24), (96, 128), 6)
        for n, label in enumerate(video.labels):
            t = int(video.masks[:, n].sum((1, 2)).argmax())
            if video.masks[t, n].any():
                colours.append(video.frames[t][video.masks[t, n]].mean(0))
                labels.append(label)
    colours, labels = np.array(colours), np.array(labels)
    distances = ((colours[:, None] - colours) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    neighbours = labels[np.argsort(distances, axis=1)[:, :5]]
    votes = (neighbours[:, :, None] == np.arange(6)).sum(1).argmax(1)
    chance = 1 / 6
    error = np.sqrt(chance * (1 - chance) / len(labels))
    assert (votes == labels).mean() < chance + 4 * error


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
    written = make_shapes_vis(tmp_path / "data", train_videos=1, valid_videos=1)
    assert written["valid"] == tmp_path / "data" / "valid.json" and written["valid"].is_file()
