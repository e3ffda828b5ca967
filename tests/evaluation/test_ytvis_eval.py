import contextlib
import copy
import io
import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.evaluation.functional import YTVIS, YTVISeval
from pycocotools import mask as mask_utils
from ytvis_cases import annotation, compress, make_video, random_case, rectangle, result

from mmvis_plugin.evaluation import (
    accumulate,
    evaluate_ytvis,
    format_table,
    load_ground_truth,
    load_results,
    match_videos,
    protocol,
)

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
VIDEO = make_video(7, 12, 16, 3)


def reference(gt, results):
    """The figures of MMDetection's YTVISeval, and each class's AP."""
    # MMDetection 3.3's YTVISeval says np.float, which NumPy has removed.
    old_numpy = mock.patch.object(np, "float", float, create=True)
    with contextlib.redirect_stdout(io.StringIO()), old_numpy:
        api = YTVIS(copy.deepcopy(gt))
        evaluator = YTVISeval(api, api.loadRes(copy.deepcopy(results)), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures = dict(zip(FIGURES, evaluator.stats, strict=False))
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    class_ap = precision.mean(axis=(0, 1))  # -1 all over where a class has no annotations
    return figures, class_ap


def dataset(*annotations, videos=(VIDEO,), names=("cat",)):
    return {
        "videos": list(videos),
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "annotations": list(annotations),
    }


def box(x, y, w, h):
    return compress(rectangle(x, y, w, h, VIDEO["height"], VIDEO["width"]))


def test_equals_ytviseval_on_random_cases():
    compared, defined = 0, dict.fromkeys(FIGURES, 0)
    for seed in range(225):
        gt, results = random_case(seed)
        if not gt["annotations"] or not results:
            continue
        expected, class_ap = reference(gt, results)
        stats = evaluate_ytvis(gt, results)
        for name in FIGURES:
            assert stats[name] == pytest.approx(expected[name], abs=1e-9), (seed, name)
            defined[name] += 0 < stats[name] < 1
        assert [c["AP"] for c in stats["per_class"].values()] == pytest.approx(class_ap, abs=1e-9)
        compared += 1
    assert compared >= 200
    # Every figure was put to the test: not all of them 0, 1 or undefined.
    assert min(defined.values()) >= 50, defined


def test_ious_are_exact():
    """Of every pair, from the thresholds at which they match."""
    rng = np.random.default_rng(0)
    shapes = rng.random((12, 90, 120)) < rng.uniform(0.6, 1, (12, 1, 1))
    rles = mask_utils.encode(np.asfortranarray(shapes.transpose(1, 2, 0).astype(np.uint8)))
    for rle in rles:
        rle["counts"] = rle["counts"].decode()
    video = make_video(1, 90, 120, 2)
    flat = shapes.reshape(12, -1).astype(np.int64)
    inter = flat @ flat.T
    ious = inter / (flat.sum(1)[:, None] + flat.sum(1) - inter)
    compared = 0
    for i, j in np.argwhere(ious >= 0.5):
        gt = dataset(annotation(1, video, 1, [None, rles[i]]), videos=[video])
        for iou, matched in ((ious[i, j], True), (np.nextafter(ious[i, j], 2), False)):
            with mock.patch.object(protocol, "IOU_THRESHOLDS", np.array([iou])):
                tracks = load_results([result(1, 1, 0.5, [None, rles[j]])], load_ground_truth(gt))
                (matches,) = match_videos(load_ground_truth(gt), tracks)
            assert matches.matched[0, 0, 0] == matched
            compared += 1
    assert compared > 100


def test_annotation_id_zero_is_an_annotation():
    masks = [box(1, 1, 5, 5)] * 3
    gt = dataset(annotation(0, VIDEO, 1, masks))
    results = [result(7, 1, 0.9, masks)]
    assert evaluate_ytvis(gt, results)["AP"] == pytest.approx(1)
    # The id doubles as the match flag there, so that a match with id 0 counts as wrong.
    assert reference(gt, results)[0]["AP"] == 0


def test_a_frame_of_one_side_adds_to_the_union():
    full, half = [box(0, 0, 6, 10)] * 2, box(0, 0, 3, 10)
    gt = dataset(annotation(1, VIDEO, 1, [*full, None]))
    missed = evaluate_ytvis(gt, [result(7, 1, 0.5, [full[0], None, None])])  # IoU 60 / 120
    assert (missed["AP50"], missed["AP75"], missed["AP"]) == pytest.approx((1, 0, 0.1))
    extra = evaluate_ytvis(gt, [result(7, 1, 0.5, [*full, half])])  # IoU 120 / 150
    assert (extra["AP75"], extra["AP"]) == pytest.approx((1, 0.7))


def test_the_later_of_two_equal_annotations_is_taken():
    left, right, both = box(0, 0, 4, 8), box(4, 0, 4, 8), box(0, 0, 8, 8)
    gt = dataset(annotation(1, VIDEO, 1, [left] * 3), annotation(2, VIDEO, 1, [right] * 3))
    results = [result(7, 1, 0.9, [both] * 3), result(7, 1, 0.8, [right] * 3)]
    stats = evaluate_ytvis(gt, results)
    assert stats["AR100"] == pytest.approx(0.5)
    assert stats["AP50"] == pytest.approx(reference(gt, results)[0]["AP50"], abs=1e-9)


def test_the_jsons_own_areas_decide_the_range():
    masks = [box(0, 0, 4, 4)] * 3
    ann = annotation(1, VIDEO, 1, masks)
    results = [result(7, 1, 0.5, masks)]
    assert evaluate_ytvis(dataset(ann), results)["APl"] == -1
    ann["areas"] = [None, 300.0**2, 0]
    stats = evaluate_ytvis(dataset(ann), results)
    assert (stats["APs"], stats["APl"]) == pytest.approx((-1, 1))
    del ann["areas"]
    assert evaluate_ytvis(dataset(ann), results)["APs"] == pytest.approx(1)


def test_without_results_figures_are_zero_where_there_is_an_object():
    gt = dataset(annotation(1, VIDEO, 1, [box(0, 0, 4, 4), None, None]), names=("cat", "dog"))
    stats = evaluate_ytvis(gt, [])
    assert [stats[name] for name in FIGURES] == [0, 0, 0, 0, -1, -1, 0, 0, 0]
    assert set(stats["per_class"]["dog"].values()) == {-1}
    assert set(stats) == {*FIGURES, "per_class"}


def test_video_ids_restrict_annotations_and_results():
    other = {**VIDEO, "id": 2}
    right, wrong = [box(0, 0, 4, 4)] * 3, [box(8, 8, 4, 4)] * 3
    gt = dataset(
        annotation(1, VIDEO, 1, right), annotation(2, other, 1, right), videos=[VIDEO, other]
    )
    results = [result(7, 1, 0.9, wrong), result(2, 1, 0.5, right)]
    assert evaluate_ytvis(gt, results)["AP"] < 0.5
    assert evaluate_ytvis(gt, results, video_ids=[2])["AP"] == pytest.approx(1)
    assert evaluate_ytvis(gt, results, video_ids=[7])["AP"] == 0
    with pytest.raises(ValueError, match="not in the annotation file: 3"):
        evaluate_ytvis(gt, results, video_ids=[2, 3])


def test_reads_files_and_leaves_its_input_alone(tmp_path):
    gt, results = random_case(4)
    before = copy.deepcopy((gt, results))
    stats = evaluate_ytvis(gt, results)
    assert (gt, results) == before
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert evaluate_ytvis(tmp_path / "gt.json", str(tmp_path / "results.json")) == stats
    assert evaluate_ytvis(load_ground_truth(gt), results) == stats


def test_table_shows_every_class_and_what_is_undefined():
    gt = dataset(annotation(1, VIDEO, 1, [box(0, 0, 4, 4)] * 3), names=("cat", "giant panda"))
    table = format_table(evaluate_ytvis(gt, [result(7, 1, 0.5, [box(0, 0, 4, 4)] * 3)]))
    rows = {line[:11].strip(): line[11:].split() for line in table.splitlines()}
    assert rows["class"] == list(FIGURES)
    assert rows["cat"] == rows["all"] == ["1.000"] * 4 + ["-", "-"] + ["1.000"] * 3
    assert rows["giant panda"] == ["-"] * 9


def test_a_video_longer_than_255_frames():
    """pycocotools counts the pixels of no more masks at once."""
    video = make_video(1, 12, 16, 300)
    gt = dataset(annotation(1, video, 1, [box(0, 0, 4, 4)] * 300), videos=[video])
    half = [box(0, 0, 4, 4)] * 150 + [None] * 150
    assert evaluate_ytvis(gt, [result(1, 1, 0.5, half)])["AP50"] == pytest.approx(1)


def test_a_broken_rle_is_found_where_no_annotation_is_of_its_class():
    gt = dataset(annotation(1, VIDEO, 1, [box(0, 0, 4, 4)] * 3), names=("cat", "dog"))
    broken = [None, {"size": [12, 16], "counts": "04"}, None]
    with pytest.raises(ValueError, match=r"results\[0\] .*category_id 2\), frame 1: the RLE"):
        evaluate_ytvis(gt, [result(7, 2, 0.5, broken)])
    gt["annotations"][0].update(
        segmentations=broken, bboxes=[None, [0, 0, 4, 4], None], areas=[None, 16, None]
    )
    with pytest.raises(ValueError, match="annotations: video 7: annotation 1: frame 1: .* the RLE"):
        evaluate_ytvis(gt, [result(7, 1, 0.5, [box(0, 0, 4, 4)] * 3)])


def test_stages_one_after_another_are_the_evaluation():
    gt, results = random_case(8)
    loaded = load_ground_truth(gt)
    matches = match_videos(loaded, load_results(results, loaded))
    assert [record.video_id for record in matches] == sorted(loaded.videos)
    names = list(loaded.categories.values())
    assert accumulate(matches, names) == evaluate_ytvis(gt, results)
    some = [matches[0].video_id]
    assert accumulate(matches[:1], names) == evaluate_ytvis(gt, results, video_ids=some)


def test_videos_matched_one_at_a_time_are_the_same():
    """As a test loop does, which has the tracks of a video when it ends."""
    gt, results = random_case(9)
    loaded = load_ground_truth(gt)
    tracks = load_results(results, loaded)
    together = match_videos(loaded, tracks)
    for video_id, expected in zip(loaded.videos, together, strict=True):
        own = {key: found for key, found in tracks.items() if key[0] == video_id}
        (record,) = match_videos(loaded, own, [video_id])
        for one, other in zip(record, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_threads_give_the_same_figures_and_the_same_error():
    gt, results = random_case(9)
    assert evaluate_ytvis(gt, results, num_threads=3) == evaluate_ytvis(gt, results)
    masks = next(entry for entry in results if any(entry["segmentations"]))["segmentations"]
    frame = next(t for t, mask in enumerate(masks) if mask)
    masks[frame] = dict(masks[frame], counts="04")
    with pytest.raises(ValueError, match=f"frame {frame}: the RLE describes"):
        evaluate_ytvis(gt, results, num_threads=3)


def test_tags_of_the_videos():
    gt = dataset(videos=[dict(VIDEO, id=k) for k in range(4)])
    gt["videos"][1]["tags"] = ["fast_motion", "occlusion"]
    gt["videos"][2]["tags"], gt["videos"][3]["tags"] = ["occlusion"], None
    assert load_ground_truth(gt).tags == {"fast_motion": {1}, "occlusion": {1, 2}}


def test_repeated_records_are_repeated_videos():
    compared = 0
    for seed in range(1, 60):
        gt, results = random_case(seed)
        loaded = load_ground_truth(gt)
        if not loaded.tracks:
            continue
        matches = match_videos(loaded, load_results(results, loaded))
        # Each video again under a new id, with all that belongs to it.
        copied = copy.deepcopy(gt)
        for video in gt["videos"]:
            copied["videos"].append({**video, "id": video["id"] + 1000})
        for kind in (copied["annotations"], results):
            kind += [{**item, "video_id": item["video_id"] + 1000} for item in kind]
        for index, item in enumerate(copied["annotations"]):
            item["id"] = index
        names = list(loaded.categories.values())
        assert accumulate(matches * 2, names) == evaluate_ytvis(copied, results)
        compared += 1
    assert compared > 40


MASKS = [box(0, 0, 4, 4)] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_id": 8}, r"results\[1\] .*video_id 8 is not in the annotation file"),
        ({"video_id": [7]}, r"results\[1\] .*video_id \[7\] is not in"),
        ({"category_id": 5}, r"results\[1\] .*category_id 5 is not in the annotation file"),
        (
            {"segmentations": MASKS[:2]},
            r"results\[1\] .*an entry for each of 3 frames, got 2",
        ),
        ({"segmentations": None}, r"results\[1\].*an entry for each of 3 frames, got NoneType"),
        (
            {"segmentations": [None, compress(rectangle(0, 0, 4, 4, 16, 12)), None]},
            r"results\[1\].*frame 1: RLE of size \[16, 12\] in a video of 12 x 16",
        ),
        ({"segmentations": [None, None, {"size": [12, 16], "counts": "0o"}]}, "frame 2.*cut off"),
        ({"segmentations": [None, {"size": [12, 16], "counts": ""}, None]}, "frame 1.*non-empty"),
        (
            {"segmentations": [{"size": [12, 16], "counts": "0oooo3"}, None, None]},
            r"results\[1\].*frame 0: the RLE describes 4194303 pixels, not a mask of 12 x 16",
        ),
        (  # pycocotools would never return
            {"segmentations": [None, None, {"size": [12, 16], "counts": "04"}]},
            r"results\[1\].*frame 2: the RLE describes 4 pixels",
        ),
        ({"segmentations": [{"counts": "0o"}, None, None]}, "frame 0: a mask is"),
        ({"segmentations": ["04", None, None]}, "frame 0: a mask is"),
        (  # which pycocotools would draw in gigabytes
            {"segmentations": [[[-1e6, -1e6, 1e6, 1e6] * 20], None, None]},
            r"results\[1\].*frame 0: the polygons' outline is longer",
        ),
        ({"score": float("nan")}, r"results\[1\].*score nan is not a finite number"),
        ({"score": "0.5"}, r"results\[1\].*score '0.5' is not"),
    ],
)
def test_wrong_results_are_named(change, message):
    gt = dataset(annotation(1, VIDEO, 1, MASKS))
    good = result(7, 1, 0.5, MASKS)
    with pytest.raises(ValueError, match=message):
        evaluate_ytvis(gt, [good, {**good, **change}])


def test_incomplete_results_are_named(tmp_path):
    gt = dataset(annotation(1, VIDEO, 1, MASKS))
    entry = result(7, 1, 0.5, MASKS)
    del entry["score"]
    with pytest.raises(ValueError, match=r"results\[0\] is not an object with the keys .*score"):
        evaluate_ytvis(gt, [entry])
    with pytest.raises(ValueError, match="results: expected a list of entries, got"):
        evaluate_ytvis(gt, {"results": []})
    broken = tmp_path / "results.json"
    broken.write_text("[{")
    with pytest.raises(ValueError, match="results.json: not valid JSON"):
        evaluate_ytvis(gt, broken)


@pytest.mark.parametrize("annotations", [None, []])
def test_without_annotations_there_is_nothing_to_score_with(annotations):
    gt = {**dataset(), "annotations": annotations}
    assert load_ground_truth(gt).tracks == {}
    with pytest.raises(ValueError, match="no annotations to score with"):
        evaluate_ytvis(gt, [])


@st.composite
def banded_tracks(draw):
    """Videos in which each object and its prediction keep to their own columns."""
    num_videos, num_objects = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    videos = [make_video(v, 12, 16, draw(st.integers(1, 3))) for v in range(num_videos)]
    annotations, predictions = [], []
    for video in videos:
        for band in range(num_objects):
            category_id = draw(st.integers(1, 2))

            def track(band=band, length=video["length"]):
                frames = st.one_of(st.none(), st.tuples(st.integers(0, 6), st.integers(1, 6)))
                boxes = [(0, 4), *draw(st.lists(frames, min_size=length - 1, max_size=length - 1))]
                return [b and box(4 * band, b[0], 4, b[1]) for b in boxes]

            masks = track()
            annotations.append(annotation(len(annotations), video, category_id, masks))
            predictions.append(
                (video["id"], category_id, masks if draw(st.booleans()) else track())
            )
    scores = draw(
        st.lists(
            st.integers(1, 999),
            min_size=len(predictions),
            max_size=len(predictions),
            unique=True,
        )
    )
    results = [
        result(video_id, category_id, score / 1000, masks)
        for (video_id, category_id, masks), score in zip(predictions, scores, strict=True)
    ]
    return dataset(*annotations, videos=videos, names=("cat", "dog")), results


@settings(max_examples=40, deadline=None)
@given(banded_tracks())
def test_perfect_predictions_score_one(case):
    gt, _ = case
    results = [
        result(a["video_id"], a["category_id"], 0.5, a["segmentations"]) for a in gt["annotations"]
    ]
    stats = evaluate_ytvis(gt, results)
    assert (stats["AP"], stats["AR100"]) == pytest.approx((1, 1))


@settings(max_examples=40, deadline=None)
@given(banded_tracks(), st.randoms(use_true_random=False))
def test_order_of_results_does_not_matter_without_ties(case, random):
    gt, results = case
    shuffled = random.sample(results, len(results))
    assert evaluate_ytvis(gt, shuffled) == evaluate_ytvis(gt, results)


@settings(max_examples=40, deadline=None)
@given(banded_tracks(), st.data())
def test_duplicates_never_raise_ap(case, data):
    gt, results = case
    original = data.draw(st.sampled_from(results))
    score = data.draw(st.floats(0, original["score"]))
    duplicated = evaluate_ytvis(gt, [*results, {**original, "score": score}])
    assert duplicated["AP"] <= evaluate_ytvis(gt, results)["AP"] + 1e-12
