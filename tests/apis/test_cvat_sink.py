"""Tracks to CVAT and back: what a person would get to correct, and what comes back untouched."""

import json
import logging
import re

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils
from test_sinks import make_result, make_video, write_all

from mmvis_plugin.apis import CVATSink
from mmvis_plugin.datasets.converters import convert_cvat
from mmvis_plugin.datasets.shapes_vis import generate_video
from mmvis_plugin.ytvis.categories import SHAPES
from mmvis_plugin.ytvis.outlines import outlines

CLASSES = tuple(SHAPES)


@pytest.fixture(scope="module")
def videos():
    return [generate_video(5, "valid", n, (24, 24), (96, 128), len(SHAPES), 2) for n in range(2)]


def results_of(video):
    """The video's own objects as tracks."""
    height, width = video.masks.shape[2:]
    stream = make_video(size=(width, height), classes=CLASSES)
    return [
        make_result(
            stream,
            t,
            [
                (n + 3, int(video.labels[n]), 0.9, mask)
                for n, mask in enumerate(video.masks[t])
                if mask.any()
            ],
        )
        for t in range(len(video.masks))
    ]


def there_and_back(folder, video, **options):
    """Masks by frame of each object after a round trip, as (label, {frame: mask})."""
    frames = folder / "frames" / "v" / "images"
    frames.mkdir(parents=True)
    for t, image in enumerate(video.frames):
        cv2.imwrite(str(frames / f"frame_{t:06d}.png"), image)
    write_all(CVATSink(folder / "v.xml", **options), results_of(video))
    content = convert_cvat(
        [folder / "v.xml"], folder / "frames", CLASSES, "attribute:identity"
    ).content
    return [
        (
            annotation["category_id"] - 1,
            {
                t: mask_utils.decode(rle).astype(bool)
                for t, rle in enumerate(annotation["segmentations"])
                if rle
            },
        )
        for annotation in content["annotations"]
    ]


def present(video, n):
    return [t for t, mask in enumerate(video.masks[:, n]) if mask.any()]


def filled(mask):
    parts, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), parts, -1, 1, -1).astype(bool)


def test_masks_come_back_as_they_were(tmp_path, videos):
    for number, video in enumerate(videos):
        objects = there_and_back(tmp_path / str(number), video, shapes="mask")
        assert [label for label, _ in objects] == video.labels.tolist()
        for n, (_, masks) in enumerate(objects):
            assert sorted(masks) == present(video, n)
            for t, mask in masks.items():
                assert np.array_equal(mask, video.masks[t, n])


def test_polygons_come_back_close_to_the_filled_masks(tmp_path, videos):
    large = 0
    for number, video in enumerate(videos):
        objects = there_and_back(tmp_path / str(number), video)
        assert [label for label, _ in objects] == video.labels.tolist()
        for n, (_, masks) in enumerate(objects):
            assert sorted(masks) == present(video, n)
            for t, mask in masks.items():
                wanted = filled(video.masks[t, n])
                if wanted.sum() >= 400:
                    large += 1
                    assert (mask & wanted).sum() >= 0.98 * (mask | wanted).sum()
    assert large > 30


def test_an_object_of_two_parts_leaves_and_returns(tmp_path, caplog):
    stream = make_video()
    mask = np.zeros(stream.size[::-1], bool)
    mask[1:8, 1:8] = True
    mask[3:5, 3:5] = False  # a hole
    mask[10:14, 10:20] = True
    absent = [make_result(stream, t, []) for t in (3, 4)]
    there = {t: make_result(stream, t, [(7, 1, 0.8, mask)]) for t in (1, 2, 5, 6, 7)}
    results = [make_result(stream, 0, []), there[1], there[2], *absent, *map(there.get, (5, 6, 7))]
    with caplog.at_level(logging.WARNING):
        write_all(CVATSink(tmp_path / "v.xml"), results)
    assert "5 holes of masks were filled" in caplog.text
    text = (tmp_path / "v.xml").read_text()
    tracks = re.findall(r"<track .*?</track>", text, re.S)
    assert len(tracks) == 2
    for track in tracks:
        assert 'label="box"' in track
        assert re.findall(r'frame="(\d+)" keyframe="1" outside="(\d)"', track) == [
            *(("1", "0"), ("2", "0"), ("3", "1")),
            *(("5", "0"), ("6", "0"), ("7", "0")),
        ]
        assert set(re.findall(r'<attribute name="identity">(.*?)</', track)) == {"7"}
    labels = json.loads((tmp_path / "v.labels.json").read_text())
    assert [label["name"] for label in labels] == list(stream.classes)
    assert labels[0]["attributes"][0]["name"] == "identity"


def test_tracks_of_a_low_score_are_left_out(tmp_path):
    stream = make_video()
    mask = np.ones(stream.size[::-1], bool)
    results = [make_result(stream, t, [(0, 0, 0.2, mask), (1, 1, 0.6, mask)]) for t in range(3)]
    write_all(CVATSink(tmp_path / "v.xml", score_thr=0.5), results)
    assert re.findall('<track .* label="(.*?)"', (tmp_path / "v.xml").read_text()) == ["box"]
    with pytest.raises(ValueError, match="choose one of polygon, mask"):
        CVATSink(tmp_path / "v.xml", shapes="box")


@pytest.mark.parametrize("seed", range(20))
def test_outlines_of_random_masks(seed):
    """Drawn again, they are the mask without its holes, but for a few pixels."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(48, 64)), (0, 0), rng.uniform(1, 4))
    mask = noise > np.quantile(noise, rng.uniform(0.5, 0.95))
    polygons, num_holes = outlines(mask)
    drawn = mask_utils.decode(
        mask_utils.merge(
            mask_utils.frPyObjects([polygon.ravel().tolist() for polygon in polygons], 48, 64)
        )
    ).astype(bool)
    wanted = filled(mask)
    assert (drawn & wanted).sum() >= 0.98 * (drawn | wanted).sum()
    assert (num_holes > 0) == bool((wanted & ~mask).any())
    areas = [cv2.contourArea(polygon) for polygon in polygons]
    assert areas[0] == max(areas)
