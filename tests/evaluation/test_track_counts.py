import json
from pathlib import Path

import pytest
from hota_cases import moving_boxes, tracking_case

from mmvis_plugin.evaluation import count_tracks

# Sums over the classes of trackeval's CLEAR on tracking_case(i), see test_hota.py.
TRACKEVAL = json.loads((Path(__file__).parent / "trackeval_figures.json").read_text())


def test_equals_trackeval_on_50_cases():
    keys = ("id_switches", "mostly_tracked", "partly_tracked", "mostly_lost")
    for seed, expected in enumerate(TRACKEVAL):
        counts = count_tracks(*tracking_case(seed))["all"]
        assert [counts[key] for key in keys] == expected["counts"], seed
    assert sum(case["counts"][0] for case in TRACKEVAL) > 50


def one_object(pieces):
    """Counts of one object of 8 frames; a piece is a list of the frames of one track."""
    gt, (track,) = moving_boxes(1)
    masks = track["segmentations"]
    results = [
        dict(track, segmentations=[m if t in frames else None for t, m in enumerate(masks)])
        for frames in pieces
    ]
    return count_tracks(gt, results)["all"]


@pytest.mark.parametrize(
    ("pieces", "switches", "fragments", "ids"),
    [
        ([range(8)], 0, 0, 1),
        ([range(4), range(4, 8)], 1, 0, 2),  # goes on as another track
        ([[0, 1, 2, 6, 7]], 0, 1, 1),  # lost and found again
        ([[0, 1], [5, 6]], 1, 1, 2),  # lost and found as another track
        ([[0, 1, 4, 5], [2, 3, 6, 7]], 3, 0, 2),  # to and fro
        ([[0, 2, 4, 6]], 0, 3, 1),
        ([range(8), range(8)], 0, 0, 1),  # a duplicate does not take over
        ([], 0, 0, 0),
    ],
)
def test_one_object(pieces, switches, fragments, ids):
    counts = one_object(pieces)
    assert (counts["id_switches"], counts["fragments"]) == (switches, fragments)
    assert counts["objects_by_ids"] == [[ids, 1]]
    assert counts["ids_per_object"] == ids
    assert (counts["objects"], counts["tracks"]) == (1, len(pieces))


def test_an_objects_own_absence_is_no_fragment():
    gt, results = moving_boxes(2, classes=1)
    for track in (gt["annotations"][0], results[0]):
        track["segmentations"][3:5] = [None, None]
    gt["annotations"][0].pop("areas")
    counts = count_tracks(gt, results)["all"]
    assert (counts["fragments"], counts["id_switches"]) == (0, 0)
    assert counts["mostly_tracked"] == 2


def test_tracked_partly_and_lost():
    lost, partly, mostly = (one_object([range(n)]) for n in (1, 4, 7))
    assert lost["mostly_lost"] == partly["partly_tracked"] == mostly["mostly_tracked"] == 1


def test_per_class_adds_up_and_threshold_leaves_out():
    gt, results = moving_boxes(4, videos=2)
    counts = count_tracks(gt, results, score_threshold=0.9)
    assert counts["all"]["tracks"] == 1
    assert [counts["per_class"][name]["tracks"] for name in "ab"] == [1, 0]
    assert [counts["per_class"][name]["objects"] for name in "ab"] == [4, 4]
    assert counts["all"]["objects_by_ids"] == [[0, 7], [1, 1]]


def test_per_tag_counts_the_videos_with_the_tag():
    gt, results = moving_boxes(4, videos=3)
    for video, tags in zip(gt["videos"], (["fast"], [], ["fast", "small"]), strict=True):
        video["tags"] = tags
    ids = [video["id"] for video in gt["videos"]]

    def of_videos(chosen):
        videos = [video for video in gt["videos"] if video["id"] in chosen]
        parts = [
            [item for item in items if item["video_id"] in chosen]
            for items in (gt["annotations"], results)
        ]
        return count_tracks(dict(gt, videos=videos, annotations=parts[0]), parts[1])["all"]

    per_tag = count_tracks(gt, results)["per_tag"]
    assert per_tag == {"fast": of_videos([ids[0], ids[2]]), "small": of_videos([ids[2]])}
    assert per_tag["fast"]["objects"] == 2 * per_tag["small"]["objects"] > 0
