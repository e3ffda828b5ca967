import json
from pathlib import Path

import numpy as np
import pytest
from hota_cases import moving_boxes, tracking_case
from ytvis_cases import annotation, compress, rectangle, result

from mmvis_plugin.evaluation import HOTA_FIGURES, evaluate_hota

# Of the package trackeval 1.3.0 (datasets.YouTubeVIS, metrics.HOTA and CLEAR) on tracking_case(i).
TRACKEVAL = json.loads((Path(__file__).parent / "trackeval_figures.json").read_text())


@pytest.mark.parametrize("group", ["class_combined", "class_averaged"])
def test_equals_trackeval_on_50_cases(group):
    figures = [evaluate_hota(*tracking_case(seed))[group] for seed in range(50)]
    ours = [[figures[seed][name] for name in HOTA_FIGURES] for seed in range(50)]
    np.testing.assert_allclose(ours, [case[group] for case in TRACKEVAL], rtol=0, atol=1e-8)


def test_equals_the_equations():
    """|TP|, TPA and so on counted one match at a time, as in the paper, for given matches."""
    gt, results = moving_boxes(3, length=6, classes=1)
    swap_second_halves(results, 0, 1)
    results[2]["segmentations"][4:] = [None, None]
    figures = evaluate_hota(gt, results)["class_combined"]
    masks = [
        [track["segmentations"] for track in tracks] for tracks in (gt["annotations"], results)
    ]
    # A track has an object's very mask or does not touch it: the same matches at each alpha.
    matches = [
        (t, g, p)
        for t in range(6)
        for g, object_ in enumerate(masks[0])
        for p, track in enumerate(masks[1])
        if track[t] == object_[t]
    ]
    lengths = [[sum(m is not None for m in t) for t in tracks] for tracks in masks]
    shares = []
    for _, g, p in matches:
        tpa = sum((g, p) == (g2, p2) for _, g2, p2 in matches)
        shares.append(tpa / (lengths[0][g] + lengths[1][p] - tpa))
    det_a = len(matches) / (sum(lengths[0]) + sum(lengths[1]) - len(matches))
    assert len(matches) == 16
    assert figures["DetA"] == pytest.approx(det_a, abs=1e-12)
    assert figures["AssA"] == pytest.approx(np.mean(shares), abs=1e-12)
    assert figures["HOTA"] == pytest.approx(np.sqrt(det_a * np.mean(shares)), abs=1e-12)
    assert figures["LocA"] == 1


def swap_second_halves(results, a, b):
    a, b = results[a]["segmentations"], results[b]["segmentations"]
    half = len(a) // 2
    a[half:], b[half:] = b[half:], a[half:]


def test_right_tracks_score_one():
    figures = evaluate_hota(*moving_boxes(4))
    assert all(figures["class_combined"][name] == 1 for name in HOTA_FIGURES)
    assert figures["per_class"]["a"]["per_alpha"]["HOTA"] == [1] * 19


def test_identities_swapped_half_way():
    """Each match is one of T / 2 of its pair out of 3 T / 2 masks: AssA is a third."""
    gt, results = moving_boxes(2, classes=1)
    swap_second_halves(results, 0, 1)
    figures = evaluate_hota(gt, results)["class_combined"]
    assert figures["DetA"] == 1
    assert figures["AssA"] == pytest.approx(1 / 3, abs=1e-12)
    assert figures["AssRe"] == figures["AssPr"] == pytest.approx(1 / 2, abs=1e-12)


def test_alphas_follow_the_iou_of_the_masks():
    """Half a mask is right up to and including alpha 0.5, which is 10 of 19."""
    video = {"id": 1, "height": 8, "width": 8, "length": 2, "file_names": ["a", "b"]}
    whole, half = (compress(rectangle(2, 2, w, 4, 8, 8)) for w in (4, 2))
    gt = {
        "videos": [video],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [annotation(1, video, 1, [whole, whole])],
    }
    figures = evaluate_hota(gt, [result(1, 1, 0.9, [half, half])])["class_combined"]
    assert figures["per_alpha"]["DetA"] == [1] * 10 + [0] * 9
    assert figures["per_alpha"]["LocA"] == [0.5] * 10 + [1] * 9


def test_no_results_and_no_annotations():
    gt, results = moving_boxes(2)
    figures = evaluate_hota(gt, [])["class_combined"]
    assert figures["HOTA"] == figures["DetA"] == figures["AssA"] == 0
    gt["annotations"] = []
    assert evaluate_hota(gt, results)["class_combined"]["HOTA"] == 0
    assert evaluate_hota(gt, [])["class_combined"]["HOTA"] == 0
    gt["categories"] = []
    with pytest.raises(ValueError, match="no categories"):
        evaluate_hota(gt, [])


def test_score_threshold_leaves_tracks_out():
    gt, results = moving_boxes(2)
    noise = [dict(entry, score=0.1) for entry in results]
    assert evaluate_hota(gt, results + noise)["class_combined"]["HOTA"] < 0.9
    assert evaluate_hota(gt, results + noise, 0.5)["class_combined"]["HOTA"] == 1
    assert evaluate_hota(gt, noise, 0.1)["class_combined"]["HOTA"] == 1


def test_malformed_results_are_named():
    gt, results = moving_boxes(2)
    results[1]["segmentations"].append(None)
    with pytest.raises(ValueError, match=r"results\[1\].*must be a list of 8"):
        evaluate_hota(gt, results)
