from dataclasses import replace

import numpy as np
import pytest
from hota_cases import box_at, moving_boxes, tracking_case
from hypothesis import given, settings
from hypothesis import strategies as st
from ytvis_cases import random_case, result

from mmvis_plugin.evaluation import (
    ERROR_KINDS,
    LINKING_KINDS,
    analyze_errors,
    correct_results,
    evaluate_tracking,
    evaluate_ytvis,
    load_ground_truth,
    load_results,
)

ALL_KINDS = (*ERROR_KINDS, *LINKING_KINDS)
CASES = [
    *((random_case, seed) for seed in (2, 4, 5, 7, 11, 12, 40)),  # 40: over 100 tracks of a class
    *((tracking_case, seed) for seed in (2, 4, 7, 12, 13, 16, 18, 20)),
]


# --- the figures are those of the protocol --------------------------------------------------------


@pytest.mark.parametrize(("case", "seed"), CASES)
def test_gains_are_those_of_scoring_the_mended_results(case, seed):
    gt, results = case(seed)
    stats = evaluate_ytvis(gt, results)
    analysis = analyze_errors(gt, results)
    assert analysis.ap.mean() == pytest.approx(stats["AP"], abs=1e-12)
    for k, figure in ((0, "AP50"), (5, "AP75")):
        assert analysis.ap[k] == pytest.approx(stats[figure], abs=1e-12)
        for kind in ALL_KINDS:
            corrected = correct_results(gt, results, kind, analysis.thresholds[k])
            gain = evaluate_ytvis(gt, corrected)[figure] - stats[figure]
            assert analysis.gains[kind][k] == pytest.approx(gain, abs=1e-12), (kind, figure)


def test_the_cases_have_errors_of_every_kind():
    counts = {kind: 0 for kind in ALL_KINDS}
    for case, seed in CASES:
        found = analyze_errors(*case(seed), thresholds=[0.5, 0.75]).counts
        counts = {kind: counts[kind] + found[kind].sum() for kind in ALL_KINDS}
    assert all(counts.values()), counts


def test_means_and_types_of_the_json():
    analysis = analyze_errors(*tracking_case(4))
    content = analysis.to_dict()
    assert content["ap"]["mean"] == pytest.approx(analysis.ap.mean())
    assert list(content["errors"]) == list(ALL_KINDS)
    linking = content["errors"]["linking"]
    assert linking["gain"] == pytest.approx(analysis.gains["linking"].mean())
    assert all(type(count) is int for count in linking["count_per_threshold"])
    subs = [content["errors"][kind]["count_per_threshold"] for kind in LINKING_KINDS]
    assert np.sum(subs, axis=0).tolist() == linking["count_per_threshold"]


# --- planted errors -------------------------------------------------------------------------------
# Four objects in each of two videos, in lanes of their own; the first ones of each video go wrong.

HEIGHT, WIDTH, LENGTH = 50, 60, 8  # the fifth lane is empty


def clean():
    return moving_boxes(4, videos=2, length=LENGTH, height=HEIGHT)


def tracks_of(results, lane):
    """The tracks of one lane, one a video."""
    return [results[lane], results[lane + 4]]


def wrong_class(gt, results):
    for track in tracks_of(results, 0):
        track["category_id"] = 2


def permuted_classes(gt, results):
    for track in results:
        track["category_id"] = 3 - track["category_id"]


def eroded(gt, results):
    for track in tracks_of(results, 0):
        track["segmentations"] = [
            box_at(2 + t * 2 + 5, 0, HEIGHT, WIDTH, w=10, h=6) for t in range(LENGTH)
        ]


def absent_frames(gt, results):
    """Present in three of eight frames, and no other track in the others."""
    for track in tracks_of(results, 0):
        track["segmentations"][3:] = [None] * 5


def swapped_half_way(gt, results):
    """Objects of one class swap their identities."""
    for a, b in zip(tracks_of(results, 0), tracks_of(results, 2), strict=True):
        a, b = a["segmentations"], b["segmentations"]
        a[4:], b[4:] = b[4:], a[4:]


def cut_in_two(gt, results):
    for track in tracks_of(results, 0):
        second = dict(track, score=track["score"] - 0.005)
        second["segmentations"] = [None] * 4 + track["segmentations"][4:]
        track["segmentations"] = track["segmentations"][:4] + [None] * 4
        results.append(second)


def cut_in_three(gt, results):
    """The last piece is a right mask in one frame: less than a tenth of all, yet no background."""
    for track in tracks_of(results, 0):
        masks = track["segmentations"][:7] + [box_at(2 + 7 * 2, 0, HEIGHT, WIDTH, w=12)]
        for frames in (range(4, 7), range(7, 8)):
            piece = [mask if t in frames else None for t, mask in enumerate(masks)]
            results.append(dict(track, score=track["score"] - 0.005, segmentations=piece))
        track["segmentations"] = masks[:4] + [None] * 4


def cut_and_eroded(gt, results):
    """Both new links and new masks would do for the first piece: links come first."""
    cut_in_two(gt, results)
    for first, second in zip(tracks_of(results, 0), results[8:], strict=True):
        first["segmentations"] = [
            box_at(2 + t * 2, 0, HEIGHT, WIDTH, w=16) if t < 5 else None for t in range(LENGTH)
        ]
        second["segmentations"][4] = None


def goes_on_as_another(gt, results):
    """The first object leaves half-way; its track goes on on an object that has a track."""
    for object_, track, other in zip(
        tracks_of(gt["annotations"], 0), tracks_of(results, 0), tracks_of(results, 2), strict=True
    ):
        object_["segmentations"][4:] = [None] * 4
        del object_["areas"], object_["bboxes"]
        track["segmentations"] = track["segmentations"][:4] + other["segmentations"][4:]


def dropped(gt, results):
    for track in tracks_of(results, 0):
        results.remove(track)


def duplicated(gt, results):
    for track in tracks_of(results, 0):
        results.append(dict(track, score=track["score"] - 0.005))


def duplicated_in_part(gt, results):
    """A short second track in frames in which the first one is there too: no split."""
    for track in tracks_of(results, 0):
        masks = [mask if t in (2, 3) else None for t, mask in enumerate(track["segmentations"])]
        results.append(dict(track, score=track["score"] - 0.005, segmentations=masks))


def on_nothing(gt, results):
    for track in tracks_of(results, 0):
        masks = [box_at(2 + t * 2, 4, HEIGHT, WIDTH) for t in range(LENGTH)]
        results.append(dict(track, score=track["score"] + 0.005, segmentations=masks))


def wrong_class_and_eroded(gt, results):
    wrong_class(gt, results)
    eroded(gt, results)


def swapped_and_eroded(gt, results):
    """Frame by frame the masks are no right masks either."""
    eroded(gt, results)
    for a, b in zip(tracks_of(results, 0), tracks_of(results, 2), strict=True):
        b["segmentations"] = [
            box_at(2 + t * 2 + 5, 2, HEIGHT, WIDTH, w=10, h=6) for t in range(LENGTH)
        ]
        a, b = a["segmentations"], b["segmentations"]
        a[4:], b[4:] = b[4:], a[4:]


PLANTED = [
    (wrong_class, "classification", 2),
    (permuted_classes, "classification", 8),
    (eroded, "segmentation", 2),
    (absent_frames, "segmentation", 2),
    (swapped_half_way, "switch", 4),
    (cut_in_two, "split", 4),
    (cut_in_three, "split", 6),
    (cut_and_eroded, "split", 4),
    (goes_on_as_another, "merge", 2),
    (dropped, "missed", 2),
    (duplicated, "duplicate", 2),
    (duplicated_in_part, "duplicate", 2),
    (on_nothing, "background", 2),
    (wrong_class_and_eroded, "other", 2),
    (swapped_and_eroded, "other", 4),
]


@pytest.mark.parametrize(("plant", "kind", "number"), PLANTED, ids=[p[0].__name__ for p in PLANTED])
def test_planted_errors_are_their_own_bar(plant, kind, number):
    """All that is lost comes back by correcting that kind, and nothing by correcting another."""
    gt, results = clean()
    plant(gt, results)
    analysis = analyze_errors(gt, results, thresholds=[0.55])  # half a track is wrong
    assert analysis.ap[0] < 0.95
    own = {kind, "linking"} if kind in LINKING_KINDS else {kind}
    for other in ALL_KINDS:
        expected = (number, 1 - analysis.ap[0]) if other in own else (0, 0)
        found = (analysis.counts[other][0], analysis.gains[other][0])
        assert found == pytest.approx(expected, abs=1e-12), other


def test_nothing_is_wrong_with_right_tracks():
    analysis = analyze_errors(*clean())
    assert (analysis.ap == 1).all()
    for kind in ALL_KINDS:
        assert not analysis.gains[kind].any() and not analysis.counts[kind].any()


def test_kinds_are_told_apart_in_one_video():
    """Each of the errors on another object, at the default thresholds."""
    gt, results = moving_boxes(8, classes=1)
    height = 10 * 8
    results[0]["segmentations"][5:] = [None] * 3  # IoU 5/8: poor from 0.65 on
    a, b = results[1]["segmentations"], results[2]["segmentations"]
    a[4:], b[4:] = b[4:], a[4:]
    results.append(dict(results[3], score=0.5))
    results.append(result(1, 1, 0.95, [box_at(38, 5, height, 60)] * 2 + [None] * 6))
    del results[4]
    counts = analyze_errors(gt, results).counts
    assert counts["segmentation"].tolist() == [0] * 3 + [1] * 7
    assert counts["switch"].tolist() == [2] * 10
    for kind in ("duplicate", "background", "missed"):
        assert counts[kind].tolist() == [1] * 10
    for kind in ("classification", "other", "split", "merge"):
        assert not counts[kind].any()


@pytest.mark.parametrize(("width", "kind"), [(2, "background"), (3, "segmentation")])
def test_a_mask_is_on_an_object_from_a_tenth_on(width, kind):
    """6 pixels high, of an object of 160: 12 are nothing, 18 are poor masks of it."""
    gt, results = clean()
    results[0]["segmentations"] = [
        box_at(2 + t * 2, 0, HEIGHT, WIDTH, w=width, h=6) for t in range(LENGTH)
    ]
    counts = analyze_errors(gt, results).counts
    assert (counts[kind] == 1).all()
    assert (counts["missed"] == (kind == "background")).all()


def test_poor_masks_are_no_piece_of_a_track():
    """Half of an object is another track's, with an IoU of 3/8: for the first it is missing."""
    gt, results = clean()
    cut_in_two(gt, results)
    for second in results[8:]:
        second["segmentations"][4:] = [
            box_at(2 + t * 2, 0, HEIGHT, WIDTH, w=10, h=6) for t in range(4, LENGTH)
        ]
    counts = analyze_errors(gt, results, [0.55]).counts
    assert counts["segmentation"] == counts["split"] == 2  # the second finds a right first half


def test_masks_that_another_track_has_are_not_missing():
    """Poor in the first half, and another track has the second: two things are wrong."""
    gt, results = clean()
    cut_in_two(gt, results)
    for first in tracks_of(results, 0):
        first["segmentations"][:4] = [
            box_at(2 + t * 2, 0, HEIGHT, WIDTH, w=10, h=6) for t in range(4)
        ]
    counts = analyze_errors(gt, results, [0.75]).counts
    assert counts["other"] == counts["segmentation"] == 2  # of the second nobody has the rest
    assert counts["linking"] == 0


def test_missed_object_gets_the_median_score_of_the_right_tracks_of_its_class():
    gt, results = clean()
    for track, score in zip(results, (0.9, 0.8, 0.2, 0.7, 0.4, 0.6, 0.8, 0.5), strict=True):
        track["score"] = score
    del results[0]
    crowd = dict(gt["annotations"][5], id=99, iscrowd=1)  # what is on it is not right
    crowd["category_id"] = 1
    gt["annotations"].append(crowd)
    results.append(dict(results[4], category_id=1, score=0.1))
    corrected = correct_results(gt, results, "missed")
    corrected = [entry for entry in corrected if entry["score"] != 0.1]
    added = [entry for entry in corrected if entry["video_id"] == 1 and entry["category_id"] == 1]
    assert sorted(entry["score"] for entry in added) == [0.2, 0.4]  # 0.2, 0.4, 0.8 are right
    assert len(corrected) == 8


def test_one_track_of_several_is_repaired():
    """The best of two tracks of the wrong class gets the object; the other one is removed."""
    gt, results = clean()
    results[0]["category_id"] = 2
    results.append(dict(results[0], score=0.95))
    corrected = correct_results(gt, results, "classification")
    of_first_lane = [
        entry["score"]
        for entry in corrected
        if entry["video_id"] == 1 and entry["segmentations"][0] == results[0]["segmentations"][0]
    ]
    assert of_first_lane == [0.95]


def test_track_of_the_wrong_class_is_removed_if_its_object_has_another():
    gt, results = clean()
    results.append(dict(results[0], category_id=2, score=0.95))
    analysis = analyze_errors(gt, results)
    assert (analysis.counts["classification"] == 1).all()
    assert analysis.gains["classification"] == pytest.approx(1 - analysis.ap)
    scores = [entry["score"] for entry in correct_results(gt, results, "classification")]
    assert len(scores) == 8 and 0.95 not in scores


def test_objects_come_before_crowds():
    """A track on a crowd is an object's all the same if it overlaps that less."""
    gt, results = clean()
    crowd = dict(gt["annotations"][0], id=99, iscrowd=1)
    gt["annotations"].append(crowd)
    wider = [box_at(2 + t * 2, 0, HEIGHT, WIDTH, w=24) for t in range(LENGTH)]
    crowd["segmentations"] = results[0]["segmentations"] = wider
    analysis = analyze_errors(gt, results)  # IoU 1 with the crowd, 5/6 with the object
    assert analysis.ap == pytest.approx([1.0] * 7 + [analysis.ap[7]] * 3)
    assert analysis.ap.mean() == pytest.approx(evaluate_ytvis(gt, results)["AP"])
    assert analysis.counts["missed"].tolist() == [0] * 7 + [1] * 3


def test_crowds_are_no_objects():
    gt, results = clean()
    for object_ in tracks_of(gt["annotations"], 0):
        object_["iscrowd"] = 1
    results.append(dict(results[0], score=0.5))
    analysis = analyze_errors(gt, results)
    assert (analysis.ap == 1).all()  # any number of tracks on a crowd is neither right nor wrong
    del results[-1], results[0]
    assert not analyze_errors(gt, results).counts["missed"].any()


# --- whatever goes wrong, correcting everything leaves nothing ------------------------------------


@st.composite
def corrupted(draw):
    """Right tracks with any number of errors on top of each other."""
    gt, results = clean()
    lanes = st.integers(0, 3)
    for _ in range(draw(st.integers(1, 6))):
        track = results[draw(st.integers(0, len(results) - 1))]
        masks = track["segmentations"] = list(track["segmentations"])
        cut = draw(st.integers(1, LENGTH - 1))
        error = draw(st.sampled_from(["class", "stray", "cut", "erode", "copy", "drop", "short"]))
        if error == "class":
            track["category_id"] = 3 - track["category_id"]
        elif error == "stray":
            lane = draw(lanes)
            masks[cut:] = [box_at(2 + t * 2, lane, HEIGHT, WIDTH) for t in range(cut, LENGTH)]
        elif error == "cut":
            results.append(dict(track, segmentations=[None] * cut + masks[cut:]))
            masks[cut:] = [None] * (LENGTH - cut)
        elif error == "erode":
            lane, w = draw(lanes), draw(st.integers(3, 18))
            masks[:] = [box_at(2 + t * 2, lane, HEIGHT, WIDTH, w=w) for t in range(LENGTH)]
        elif error == "copy":
            results.append(dict(track, score=draw(st.integers(1, 9)) / 10))
        elif error == "short":
            masks[:cut] = [None] * cut
        elif len(results) > 1:
            results.remove(track)
    return gt, results


@settings(deadline=None, max_examples=20)
@given(corrupted(), st.sampled_from([0.5, 0.75, 0.95]))
def test_mending_all_kinds_in_turn_leaves_no_error(case, threshold):
    gt, results = case
    for _ in range(2):
        for kind in ("duplicate", "classification", "linking", "segmentation", "other"):
            results = correct_results(gt, results, kind, threshold)
    for kind in ("duplicate", "background", "missed"):
        results = correct_results(gt, results, kind, threshold)
    analysis = analyze_errors(gt, results, [threshold])
    assert {kind: int(n[0]) for kind, n in analysis.counts.items() if n[0]} == {}
    assert analysis.ap[0] == pytest.approx(1)


def test_classes_that_are_not_asked_for_are_left_out():
    gt, results = clean()
    gt = load_ground_truth(gt)
    results = load_results(results, gt)
    gt = replace(gt, categories={1: "a"})
    assert (analyze_errors(gt, results).ap == 1).all()
    tracking = evaluate_tracking(gt, results)
    assert tracking["hota"]["class_combined"]["HOTA"] == 1
    assert tracking["counts"]["all"]["objects"] == 4


# --- bad input ------------------------------------------------------------------------------------


def test_no_results():
    gt, _ = clean()
    analysis = analyze_errors(gt, [])
    assert not analysis.ap.any()
    assert (analysis.counts["missed"] == 8).all() and (analysis.gains["missed"] == 1).all()
    assert [entry["score"] for entry in correct_results(gt, [], "missed")] == [1.0] * 8


def test_class_without_objects_and_video_without_anything():
    gt, results = clean()
    gt["categories"].append({"id": 9, "name": "never"})
    gt["videos"].append(dict(gt["videos"][0], id=7))
    results.append(dict(results[0], category_id=9, score=0.99))
    analysis = analyze_errors(gt, results)
    assert (analysis.ap == 1).all() and (analysis.counts["classification"] == 1).all()


def test_bad_input_is_named():
    gt, results = clean()
    with pytest.raises(ValueError, match="unknown kind 'typo'; choose from classification"):
        correct_results(gt, results, "typo")
    with pytest.raises(ValueError, match=r"thresholds must be in \(0, 1\], got \[0.5, 1.5\]"):
        analyze_errors(gt, results, [0.5, 1.5])
    with pytest.raises(ValueError, match="thresholds must be"):
        correct_results(gt, results, "linking", 0.0)
    with pytest.raises(ValueError, match="thresholds must be"):
        analyze_errors(gt, results, [])
    with pytest.raises(ValueError, match="no annotations"):
        analyze_errors(dict(gt, annotations=[]), results)
    crowds = [dict(a, iscrowd=1) for a in gt["annotations"]]
    with pytest.raises(ValueError, match="crowds only"):
        analyze_errors(dict(gt, annotations=crowds), results)
    results[3]["segmentations"][2] = {"size": [1, 1], "counts": "0"}
    with pytest.raises(ValueError, match=r"results\[3\] \(video_id 1.*frame 2: RLE of size"):
        analyze_errors(gt, results)
