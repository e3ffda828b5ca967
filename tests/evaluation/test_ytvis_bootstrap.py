import copy

import numpy as np
import pytest
from ytvis_cases import random_case

from mmvis_plugin.evaluation import (
    BOOTSTRAP_FIGURES,
    accumulate,
    load_ground_truth,
    load_results,
    match_videos,
    paired_bootstrap,
)
from mmvis_plugin.evaluation import bootstrap as module


def many_videos(count=40, seed=1):
    """Random cases put together as the videos of one dataset of three classes."""
    gt = {"videos": [], "annotations": [], "categories": [{"id": k, "name": k} for k in "abc"]}
    results = []
    for case_seed in range(seed, 1000):
        case, entries = random_case(case_seed)
        names = {category["id"]: "abc"[k] for k, category in enumerate(case["categories"])}
        prefix = f"{case_seed:04d}-"
        gt["videos"] += [{**video, "id": f"{prefix}{video['id']}"} for video in case["videos"]]
        for target, items in ((gt["annotations"], case["annotations"]), (results, entries)):
            target += [
                {
                    **item,
                    "video_id": f"{prefix}{item['video_id']}",
                    "category_id": names[item["category_id"]],
                }
                for item in items
            ]
        if len(gt["videos"]) >= count:
            for index, item in enumerate(gt["annotations"]):
                item["id"] = index
            return load_ground_truth(gt), results
    raise AssertionError


def matched(gt, results):
    return match_videos(gt, load_results(results, gt))


@pytest.fixture(scope="module")
def case():
    return many_videos()


@pytest.fixture(scope="module")
def better(case):
    """The same results, of which a third of the wrong tracks are gone."""
    gt, results = case
    rng = np.random.default_rng(0)
    labels = {name: k for k, name in enumerate(gt.categories)}
    right = set()
    for record in matched(gt, results):
        for row in record.matched[:, 0, 0].nonzero()[0]:
            right.add((record.video_id, record.labels[row], record.scores[row]))
    kept = [
        r
        for r in results
        if (r["video_id"], labels[r["category_id"]], r["score"]) in right or rng.random() < 0.67
    ]
    assert 0.6 < len(kept) / len(results) < 0.95
    return matched(gt, kept)


def test_figures_of_drawn_videos_are_those_of_their_records(case):
    """The weights' arithmetic against accumulate() on the records themselves."""
    gt, results = case
    matches = matched(gt, results)
    # Scores that differ: between equal ones of different videos the order is a matter of taste.
    rng = np.random.default_rng(5)
    matches = [m._replace(scores=_falling(rng, m)) for m in matches]
    draws = rng.multinomial(len(matches), np.full(len(matches), 1 / len(matches)), 25)
    figures = module._figures(matches, draws)
    for draw, row in zip(draws, figures, strict=True):
        repeated = [m for m, count in zip(matches, draw, strict=True) for _ in range(count)]
        stats = accumulate(repeated, "abc")
        assert row.tolist() == pytest.approx([stats[name] for name in BOOTSTRAP_FIGURES], abs=1e-9)


def _falling(rng, record):
    """Random scores, falling within each class as in the record."""
    scores = rng.random(len(record.scores))
    return scores[np.lexsort((-scores, record.labels))] if len(scores) else scores


def test_portions_do_not_matter(case, monkeypatch):
    gt, results = case
    matches = matched(gt, results)
    draws = np.random.default_rng(0).integers(0, 4, (30, len(matches)))
    whole = module._figures(matches, draws)
    monkeypatch.setattr(module, "_MOST_NUMBERS", 1000)
    np.testing.assert_array_equal(module._figures(matches, draws), whole)


def test_equal_results_differ_by_exactly_nothing(case):
    gt, results = case
    outcome = paired_bootstrap(matched(gt, results), matched(gt, copy.deepcopy(results)))
    assert list(outcome) == list(BOOTSTRAP_FIGURES)
    assert all(figure == (0, 0, 0) for figure in outcome.values())


def test_a_better_result_is_seen(case, better):
    gt, results = case
    worse = matched(gt, results)
    outcome = paired_bootstrap(worse, better, num_resamples=300)
    names = list(gt.categories.values())
    expected = accumulate(better, names)["AP"] - accumulate(worse, names)["AP"]
    assert outcome["AP"].difference == pytest.approx(expected, abs=1e-9)
    assert 0 < outcome["AP"].low < outcome["AP"].difference < outcome["AP"].high
    back = paired_bootstrap(better, worse, num_resamples=300)
    assert back["AP"] == pytest.approx([-x for x in np.array(outcome["AP"])[[0, 2, 1]]])


def test_chance_is_seen_as_chance(case):
    """Two results that are the same but for a random shift of each video's scores."""
    gt, results = case
    rng = np.random.default_rng(3)
    noisy = [[{**r, "score": r["score"] + 0.3 * rng.random()} for r in results] for _ in range(2)]
    outcome = paired_bootstrap(*(matched(gt, r) for r in noisy), num_resamples=300)
    assert outcome["AP"].low < 0 < outcome["AP"].high


def test_seed_and_confidence(case, better):
    gt, results = case
    worse = matched(gt, results)

    def interval(**kwargs):
        return paired_bootstrap(worse, better, num_resamples=200, **kwargs)["AP"]

    assert interval(seed=1) == interval(seed=1) != interval(seed=2)
    narrow, wide = interval(confidence=0.5), interval(confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_result_without_tracks(case):
    gt, results = case
    outcome = paired_bootstrap(matched(gt, results), matched(gt, []), num_resamples=50)
    assert outcome["AP"].high < 0


def test_what_cannot_be_paired(case):
    gt, results = case
    matches = matched(gt, results)
    with pytest.raises(ValueError, match="not of the same videos"):
        paired_bootstrap(matches, matches[1:])
    other = [m._replace(objects=~m.objects) for m in matches]
    with pytest.raises(ValueError, match=f"video {matches[0].video_id}: the annotations"):
        paired_bootstrap(matches, other)
    nothing = [m._replace(objects=np.zeros_like(m.objects)) for m in matches]
    with pytest.raises(ValueError, match="no annotations that count"):
        paired_bootstrap(nothing, nothing)
    for wrong in (dict(confidence=1), dict(num_resamples=0)):
        with pytest.raises(ValueError, match="confidence must be"):
            paired_bootstrap(matches, matches, **wrong)
