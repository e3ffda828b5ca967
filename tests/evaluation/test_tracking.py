import json
from pathlib import Path

import numpy as np
import pytest
from hota_cases import moving_boxes, tracking_case

from mmvis_plugin.evaluation import HOTA_FIGURES, evaluate_tracking

# Of TrackEval 1.3.0 on tracking_case(i), through its own reader (datasets.YouTubeVIS); "counts" are
# the sums of CLEAR's IDSW, MT, PT and ML over the classes.
TRACKEVAL = json.loads((Path(__file__).parent / "trackeval_figures.json").read_text())


@pytest.fixture(scope="module")
def cases():
    return [tracking_case(seed) for seed in range(len(TRACKEVAL))]


@pytest.fixture(scope="module")
def ours(cases):
    return [evaluate_tracking(*case) for case in cases]


@pytest.mark.parametrize("group", ["class_combined", "class_averaged"])
def test_hota_is_that_of_trackevals_youtube_vis(cases, ours, group):
    """TrackEval's mean counts classes without annotations as well; ours does not."""
    same = [
        seed
        for seed, (gt, _) in enumerate(cases)
        if group == "class_combined"
        or {c["id"] for c in gt["categories"]} == {a["category_id"] for a in gt["annotations"]}
    ]
    assert len(same) > 20
    found = [[ours[seed]["hota"][group][name] for name in HOTA_FIGURES] for seed in same]
    np.testing.assert_allclose(found, [TRACKEVAL[seed][group] for seed in same], rtol=0, atol=1e-8)


def test_counts_are_those_of_trackevals_youtube_vis(ours):
    keys = ("id_switches", "mostly_tracked", "partly_tracked", "mostly_lost")
    for figures, expected in zip(ours, TRACKEVAL, strict=True):
        assert [figures["counts"]["all"][key] for key in keys] == expected["counts"]
    assert sum(case["counts"][0] for case in TRACKEVAL) > 50


def evaluate_hota(*args):
    return evaluate_tracking(*args)["hota"]


def count_tracks(*args, **kwargs):
    return evaluate_tracking(*args, **kwargs)["counts"]


def test_mean_is_over_the_classes_that_have_annotations():
    gt, results = moving_boxes(4)
    gt["categories"].append({"id": 9, "name": "never annotated"})
    assert evaluate_hota(gt, results)["class_averaged"]["HOTA"] == 1
    masks = [None, *results[0]["segmentations"][1:]]
    results.append(dict(results[0], category_id=9, segmentations=masks))  # a false positive
    figures = evaluate_hota(gt, results)
    assert figures["class_averaged"]["HOTA"] == 1
    assert figures["per_class"]["never annotated"]["HOTA"] == 0
    assert figures["class_combined"]["HOTA"] < 1


def test_a_track_with_several_classes_has_the_best_one():
    gt, results = moving_boxes(4)
    gt["categories"].append({"id": 9, "name": "another"})
    worse = [dict(entry, category_id=9, score=entry["score"] / 2) for entry in results]
    both = evaluate_tracking(gt, worse + results)
    assert both["hota"]["class_combined"]["HOTA"] == 1
    assert both["counts"]["all"]["tracks"] == 4
    better = [dict(entry, score=entry["score"] * 2) for entry in worse[:1]]
    wrong = evaluate_tracking(gt, better + [dict(entry, score=0.1) for entry in results])
    assert wrong["counts"]["all"]["tracks"] == 4
    assert wrong["counts"]["per_class"]["another"]["tracks"] == 1


def test_no_results_and_no_annotations():
    gt, results = moving_boxes(2)
    figures = evaluate_hota(gt, [])["class_combined"]
    assert figures["HOTA"] == figures["DetA"] == figures["AssA"] == 0
    gt["annotations"] = []
    assert evaluate_hota(gt, results)["class_combined"]["HOTA"] == 0
    assert evaluate_hota(gt, [])["class_combined"]["HOTA"] == 0


def test_score_threshold_leaves_tracks_out():
    gt, results = moving_boxes(2)
    noise = [dict(entry, score=0.1) for entry in results]
    assert evaluate_hota(gt, results + noise)["class_combined"]["HOTA"] < 0.9
    assert evaluate_hota(gt, results + noise, 0.5)["class_combined"]["HOTA"] == 1
    assert evaluate_hota(gt, noise, 0.1)["class_combined"]["HOTA"] == 1


def test_malformed_results_are_named():
    gt, results = moving_boxes(2)
    results[1]["segmentations"].append(None)
    with pytest.raises(ValueError, match=r"results\[1\].*an entry for each of 8 frames"):
        evaluate_hota(gt, results)


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
        ([[0, 1, 2, 6, 7]], 0, 0, 1),  # frames without any track are no gap in CLEAR
        ([[0, 1], [5, 6]], 1, 0, 2),  # lost and found as another track
        ([[0, 1, 4, 5], [2, 3, 6, 7]], 3, 0, 2),  # to and fro
        ([[0, 2, 4, 6]], 0, 0, 1),
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
