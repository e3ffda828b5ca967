import json
import logging
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.trackers import MaskTrackRCNNTracker
from mmdet.models.tracking_heads import Mask2FormerTrackHead
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from ytvis_cases import annotation, make_video

from mmvis_plugin.datasets import YTVISDataset
from mmvis_plugin.evaluation import YTVISMetric, evaluate_ytvis

HEIGHT, WIDTH = 12, 16
CLASSES = ("dog", "cat", "fox")  # of the model: neither in the order of the JSON nor all of it
CATEGORIES = [
    {"id": id_, "name": name} for id_, name in ((3, "cat"), (5, "emu"), (20, "dog"), (41, "fox"))
]
CATEGORY_IDS = dict(dog=20, cat=3, fox=41)


def encode(mask):
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def make_videos(lengths, seed=0):
    """Annotations of three objects in disjoint columns per video, and their dense masks."""
    rng = np.random.default_rng(seed)
    videos, annotations, masks = [], [], {}
    for video_id, length in lengths.items():
        video = make_video(video_id, HEIGHT, WIDTH, length)
        videos.append(video)
        masks[video_id] = np.zeros((length, 3, HEIGHT, WIDTH), dtype=bool)
        for k, name in enumerate(CLASSES):
            for frame in range(length):
                top = rng.integers(0, 6)
                masks[video_id][frame, k, top : top + 5, 5 * k : 5 * k + 4] = True
            rles = [encode(mask) for mask in masks[video_id][:, k]]
            annotations.append(annotation(len(annotations), video, CATEGORY_IDS[name], rles))
    return {"videos": videos, "categories": CATEGORIES, "annotations": annotations}, masks


def make_frame(video_id, frame_id, length, masks, ids=None, labels=None, scores=None):
    """A frame's data sample as a video model returns it."""
    n = len(masks)
    sample = DetDataSample(
        metainfo=dict(
            video_id=video_id,
            frame_id=frame_id,
            ori_video_length=length,
            ori_shape=(HEIGHT, WIDTH),
        )
    )
    sample.pred_track_instances = InstanceData(
        instances_id=torch.as_tensor(range(n) if ids is None else ids, dtype=torch.long),
        labels=torch.as_tensor(range(n) if labels is None else labels, dtype=torch.long),
        scores=torch.as_tensor([0.9, 0.8, 0.7][:n] if scores is None else scores),
        masks=masks,
    )
    return sample


def make_sample(frames, **tracks):
    sample = TrackDataSample()
    sample.video_data_samples = frames
    if tracks:
        sample.pred_tracks = InstanceData(**tracks)
    return sample


def make_evaluator(tmp_path, gt, **kwargs):
    """MMEngine's Evaluator with the metric, over annotations written to a file."""
    path = tmp_path / "valid.json"
    path.write_text(json.dumps(gt))
    kwargs.setdefault("outfile_prefix", str(tmp_path / "out" / "run1"))
    evaluator = Evaluator(dict(type="mmdet.YTVISMetric", **kwargs))
    evaluator.dataset_meta = {"classes": CLASSES, "ann_file": str(path)}
    return evaluator


def written(tmp_path):
    return json.loads((tmp_path / "out" / "run1.json").read_text())


@pytest.fixture
def two_frames(tmp_path):
    """One video of two frames, and a function that submits frames and gives what was written."""
    gt, masks = make_videos({4: 2})

    def run(*samples, **kwargs):
        evaluator = make_evaluator(tmp_path, gt, **kwargs)
        for sample in samples:
            evaluator.process([sample])
        evaluator.evaluate(size=1)
        return written(tmp_path)

    return run, masks[4]


FORMS = {
    "rle": lambda masks: [encode(mask) for mask in masks],
    "rle bytes": lambda masks: mask_utils.encode(
        np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    ),
    "numpy bool": lambda masks: masks,
    "numpy uint8": lambda masks: masks.astype(np.uint8) * 255,
    "torch bool": lambda masks: torch.from_numpy(masks),
    "torch uint8": lambda masks: torch.from_numpy(masks).to(torch.uint8),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("portion", [1, 2, 5])
def test_results_are_the_same_in_every_form_and_portion(tmp_path, form, portion):
    gt, masks = make_videos({9: 5, 2: 3})
    evaluator = make_evaluator(tmp_path, gt)
    for video_id, video in masks.items():
        frames = [
            make_frame(video_id, t, len(video), FORMS[form](video[t])) for t in range(len(video))
        ]
        for start in range(0, len(frames), portion):
            evaluator.process([])  # a streaming model that has nothing final yet
            evaluator.process([make_sample(frames[start : start + portion])])
    metrics = evaluator.evaluate(size=2)

    expected = [
        {
            "video_id": video_id,
            "score": pytest.approx([0.9, 0.8, 0.7][k]),
            "category_id": CATEGORY_IDS[CLASSES[k]],
            "segmentations": [encode(mask) for mask in masks[video_id][:, k]],
        }
        for video_id in (2, 9)
        for k in range(3)
    ]
    assert written(tmp_path) == expected
    stats = evaluate_ytvis(gt, written(tmp_path))
    del stats["per_class"]
    assert metrics == {f"ytvis/{name}": value for name, value in stats.items()}
    assert metrics["ytvis/AP"] == pytest.approx(1)


def test_majority_label_and_mean_score_over_the_frames_where_present(tmp_path):
    gt, masks = make_videos({4: 4})
    evaluator = make_evaluator(tmp_path, gt)
    mask, empty = masks[4][0, :1], np.zeros((1, HEIGHT, WIDTH), dtype=bool)
    frames = [
        make_frame(4, 0, 4, mask, labels=[1], scores=[0.6]),
        make_frame(4, 1, 4, empty, labels=[0], scores=[0.1]),
        make_frame(4, 2, 4, mask, labels=[1], scores=[0.3]),
        make_frame(4, 3, 4, mask, labels=[0], scores=[0.9]),
    ]
    evaluator.process([make_sample(frames)])
    evaluator.evaluate(size=1)
    (track,) = written(tmp_path)
    # Both classes have two frames: of equals the first in the list.
    assert (track["category_id"], track["score"]) == (CATEGORY_IDS["dog"], pytest.approx(0.475))
    assert [mask_utils.area(rle) > 0 for rle in track["segmentations"]] == [True, False, True, True]


def test_pred_tracks_override_class_and_score(two_frames):
    run, masks = two_frames
    first = make_sample([make_frame(4, 0, 2, masks[0])])
    tracks = dict(
        instances_id=torch.tensor([2, 0, 8]),
        labels=torch.tensor([0, 2, 1]),
        scores=torch.tensor([0.25, 0.5, 0.75]),
    )
    entries = run(first, make_sample([make_frame(4, 1, 2, masks[1])], **tracks))
    # Track 1 has no row and is dropped, track 8 has no masks and is not there.
    assert [(e["category_id"], e["score"]) for e in entries] == [
        (CATEGORY_IDS["fox"], 0.5),
        (CATEGORY_IDS["dog"], 0.25),
    ]
    assert entries[0]["segmentations"] == [encode(masks[t, 0]) for t in (0, 1)]


def test_negative_ids_are_dropped(two_frames):
    run, masks = two_frames
    frames = [make_frame(4, t, 2, masks[t], ids=[-1, 3, -1]) for t in (0, 1)]
    (track,) = run(make_sample(frames))
    assert track["category_id"] == CATEGORY_IDS["cat"]


def test_duplicate_ids(two_frames):
    run, masks = two_frames
    frames = [make_frame(4, t, 2, masks[t], ids=[5, 1, 5]) for t in (0, 1)]
    with pytest.raises(ValueError, match=r"video 4, frame 0: instances_id has \[5\] more than"):
        run(make_sample(frames))
    cat, fox = run(make_sample(frames), duplicate_ids="last")
    assert (fox["category_id"], fox["score"]) == (CATEGORY_IDS["fox"], pytest.approx(0.7))
    assert fox["segmentations"] == [encode(masks[t, 2]) for t in (0, 1)]
    with pytest.raises(ValueError, match="must be 'error' or 'last', got 'first'"):
        YTVISMetric(duplicate_ids="first")


def test_video_without_any_instance(two_frames):
    run, masks = two_frames
    nothing = np.zeros((0, 1, 1), dtype=bool)
    assert run(make_sample([make_frame(4, t, 2, nothing) for t in (0, 1)])) == []


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (lambda m: make_frame(4, 0, 2, m), "video 4, frame 0 was predicted twice.*round_up"),
        (lambda m: make_frame(8, 0, 2, m), "video 8 is not in .*valid.json"),
        (lambda m: make_frame(4, 2, 2, m), "video 4, frame 2: frames count from 0 to 1"),
        (lambda m: make_frame(4, None, 2, m), "video 4, frame None: frames count from 0"),
        (lambda m: make_frame(4, 1, 2, m, labels=[0, 1, 3]), "frame 1: labels from 0 to 3"),
        (lambda m: make_frame(4, 1, 2, m, scores=[0.1, np.nan, 1]), "frame 1: a score is not"),
        (lambda m: make_frame(4, 1, 2, m.transpose(0, 2, 1)), r"shape \(3, 16, 12\)"),
        (lambda m: make_frame(4, 1, 2, m.astype(float)), "frame 1: masks are float64; threshold"),
        (
            lambda m: make_frame(4, 1, 2, [encode(x.T) for x in m]),
            r"frame 1, mask 0: RLE of size \[16, 12\]",
        ),
        (
            lambda m: make_frame(
                4, 1, 2, [*(encode(x) for x in m[:2]), {**encode(m[2]), "counts": "04"}]
            ),
            "frame 1, mask 2: the RLE describes 4 pixels",
        ),
        (
            lambda m: make_frame(4, 1, 2, None if m is None else m[:2], ids=[0, 1], scores=[1, 1]),
            "",
        ),
    ],
)
def test_frames_that_do_not_fit(two_frames, frame, message):
    run, masks = two_frames
    first = make_sample([make_frame(4, 0, 2, masks[0])])
    if not message:  # the control: the same frame as it should be
        assert len(run(first, make_sample([frame(masks[1])]))) == 3
        return
    with pytest.raises(ValueError, match=message):
        run(first, make_sample([frame(masks[1])]))


def test_frames_with_missing_fields(two_frames):
    run, masks = two_frames
    for field in ("masks", "labels", "instances_id"):
        frame = make_frame(4, 0, 2, masks[0])
        delattr(frame.pred_track_instances, field)
        with pytest.raises(ValueError, match=f"video 4, frame 0.* has no {field}"):
            run(make_sample([frame]))
    frame = make_frame(4, 0, 2, masks[0])
    del frame.pred_track_instances
    with pytest.raises(ValueError, match="video 4, frame 0 has no pred_track_instances"):
        run(make_sample([frame]))
    frame = make_frame(4, 0, 2, masks[0]).to_dict()
    frame["pred_track_instances"]["scores"] = torch.ones(2)
    with pytest.raises(ValueError, match=r"frame 0: scores has shape \(2,\), expected \(3,\)"):
        run({"video_data_samples": [frame]})


def test_length_of_the_dataset_and_the_json_must_agree(two_frames):
    run, masks = two_frames
    with pytest.raises(ValueError, match="video 4 has 3 frames in the dataset and 2 in"):
        run(make_sample([make_frame(4, 0, 3, masks[0])]))


def test_a_frame_of_a_video_that_is_complete_comes_again(two_frames):
    run, masks = two_frames
    frames = [make_sample([make_frame(4, t, 2, masks[t])]) for t in (0, 1)]
    with pytest.raises(ValueError, match="video 4, frame 1 was predicted twice.*round_up"):
        run(*frames, frames[1])


def test_of_a_complete_video_only_the_record_is_kept(tmp_path):
    gt, masks = make_videos({4: 2, 6: 1})
    (tmp_path / "valid.json").write_text(json.dumps(gt))
    metric = YTVISMetric(ann_file=str(tmp_path / "valid.json"))
    metric.dataset_meta = {"classes": CLASSES}
    for t in (0, 1):
        metric.process(None, [make_sample([make_frame(4, t, 2, masks[4][t])]).to_dict()])
        kept = len(pickle.dumps(metric.__dict__["_open"]))
    assert kept < 100
    (video,) = metric._done.values()
    assert video.entries == [] and video.matches.matched.all()
    # The class that no result has is in the file, not in the record.
    assert video.matches.labels.tolist() == [0, 1, 2]


def test_incomplete_video(two_frames):
    run, masks = two_frames
    with pytest.raises(ValueError, match="video 4 is incomplete: 1 of 2 frames were not"):
        run(make_sample([make_frame(4, 1, 2, masks[1])]))


def test_videos_that_never_came_count_as_without_tracks(tmp_path, caplog):
    gt, masks = make_videos({4: 2, 6: 1})
    evaluator = make_evaluator(tmp_path, gt)
    evaluator.process([make_sample([make_frame(4, t, 2, masks[4][t]) for t in (0, 1)])])
    with logged(caplog):
        metrics = evaluator.evaluate(size=2)
    assert "1 of 2 videos were not predicted and count as without tracks: 6" in caplog.text
    assert metrics["ytvis/AR100"] == pytest.approx(0.5)


def test_videos_that_the_dataset_leaves_out_are_not_scored(tmp_path, caplog):
    """One of two videos that a dataset of two indices holds comes: the other is a miss."""
    gt, masks = make_videos({4: 2, 6: 1, 8: 1})
    (tmp_path / "valid.json").write_text(json.dumps(gt))
    dataset = YTVISDataset(
        str(tmp_path / "valid.json"),
        metainfo=dict(classes=CLASSES),
        indices=[0, 2],
        test_mode=True,
        check_frames="none",
    )
    training = YTVISDataset(str(tmp_path / "valid.json"), check_frames="none")
    assert not {"annotations", "video_ids"} & training.metainfo.keys()
    (tmp_path / "valid.json").unlink()  # a test reads it once
    metric = YTVISMetric()
    metric.dataset_meta = dataset.metainfo
    frames = [make_frame(4, t, 2, masks[4][t]) for t in (0, 1)]
    metric.process(None, [make_sample(frames).to_dict()])
    with logged(caplog):
        assert metric.evaluate(2)["ytvis/AR100"] == pytest.approx(0.5)
    assert "1 of 2 videos were not predicted and count as without tracks: 8" in caplog.text


def test_classes_that_the_dataset_leaves_out_are_not_scored(tmp_path):
    gt, masks = make_videos({4: 2})
    emu = annotation(90, gt["videos"][0], 5, [encode(masks[4][t, 0]) for t in (0, 1)])
    gt["annotations"].append(emu)
    evaluator = make_evaluator(tmp_path, gt)
    evaluator.process([make_sample([make_frame(4, t, 2, masks[4][t]) for t in (0, 1)])])
    assert evaluator.evaluate(size=1)["ytvis/AP"] == pytest.approx(1)
    assert evaluate_ytvis(gt, written(tmp_path))["AP"] == pytest.approx(0.75)


def test_every_evaluation_starts_anew(tmp_path):
    gt, masks = make_videos({4: 2})
    evaluator = make_evaluator(tmp_path, gt)
    for _ in range(2):
        evaluator.process([make_sample([make_frame(4, t, 2, masks[4][t]) for t in (0, 1)])])
        assert evaluator.evaluate(size=1)["ytvis/AP"] == pytest.approx(1)
    assert evaluator.evaluate(size=1)["ytvis/AP"] == 0


def test_unknown_classes_are_listed_before_anything_is_predicted(tmp_path):
    gt, _ = make_videos({4: 2})
    evaluator = make_evaluator(tmp_path, gt)
    evaluator.dataset_meta = {**evaluator.dataset_meta, "classes": ("cat", "yak", "gnu")}
    with pytest.raises(ValueError, match="no category for the classes yak, gnu; .* cat, emu, dog"):
        evaluator.process([])
    evaluator.dataset_meta = {"classes": CLASSES}
    with pytest.raises(ValueError, match="no annotation file: set its ann_file"):
        evaluator.process([])


def logged(caplog):
    """Capture what MMEngine's logger, which does not propagate, says."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger=logger.name)

    class Capture:
        def __enter__(self):
            return caplog

        def __exit__(self, *_):
            logger.removeHandler(caplog.handler)

    return Capture()


@pytest.mark.parametrize("annotations", [None, [], "missing"])
def test_without_annotations_a_submission_is_written(tmp_path, caplog, annotations):
    gt, masks = make_videos({4: 2})
    gt["annotations"] = annotations
    if annotations == "missing":
        del gt["annotations"]
    evaluator = make_evaluator(tmp_path, gt)
    evaluator.process([make_sample([make_frame(4, t, 2, masks[4][t]) for t in (0, 1)])])
    with logged(caplog):
        assert evaluator.evaluate(size=1) == {}
    assert "has no annotations" in caplog.text and "run1.submission_file.zip" in caplog.text
    assert len(written(tmp_path)) == 3
    with zipfile.ZipFile(tmp_path / "out" / "run1.submission_file.zip") as archive:
        (member,) = archive.infolist()
        assert (member.filename, member.compress_type) == ("results.json", zipfile.ZIP_DEFLATED)
        assert json.loads(archive.read(member)) == written(tmp_path)
    assert len(list((tmp_path / "out").iterdir())) == 2  # nothing temporary is left


def test_format_only_writes_to_the_current_directory_by_default(tmp_path, monkeypatch):
    gt, masks = make_videos({4: 2})
    monkeypatch.chdir(tmp_path)
    evaluator = make_evaluator(tmp_path, gt, format_only=True, outfile_prefix=None)
    evaluator.process([make_sample([make_frame(4, t, 2, masks[4][t]) for t in (0, 1)])])
    assert evaluator.evaluate(size=1) == {}
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3
    assert (tmp_path / "results.submission_file.zip").exists()


def test_scores_are_logged_as_a_table_and_nothing_is_written_unasked(tmp_path, caplog, monkeypatch):
    gt, masks = make_videos({4: 2})
    monkeypatch.chdir(tmp_path)
    evaluator = make_evaluator(tmp_path, gt, outfile_prefix=None)
    evaluator.process([make_sample([make_frame(4, t, 2, masks[4][t]) for t in (0, 1)])])
    with logged(caplog):
        evaluator.evaluate(size=1)
    assert "AP50" in caplog.text and "dog" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["valid.json"]


def test_a_failed_write_leaves_the_old_file(two_frames, tmp_path, monkeypatch, caplog):
    run, masks = two_frames
    sample = make_sample([make_frame(4, t, 2, masks[t]) for t in (0, 1)])
    before = run(sample)
    monkeypatch.setattr("json.dumps", lambda *_, **__: 1 / 0)
    evaluator = METRICS.build(
        dict(
            type="YTVISMetric",
            ann_file=str(tmp_path / "valid.json"),
            outfile_prefix=str(tmp_path / "out" / "run1"),
        )
    )
    evaluator.dataset_meta = {"classes": CLASSES}
    evaluator.process(None, [sample.to_dict()])
    with logged(caplog), pytest.raises(ZeroDivisionError):
        evaluator.evaluate(size=1)
    assert "AP50" in caplog.text  # the figures are not lost
    assert written(tmp_path) == before
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_scores_mask2former_videos_output(tmp_path):
    gt, masks = make_videos({4: 2})
    head = SimpleNamespace(num_classes=3, num_queries=5)
    logits = torch.full((5, 4), -9.0)
    logits[range(3), range(3)] = 9.0
    queries = torch.full((5, 2, HEIGHT, WIDTH), -1.0)
    queries[:3][torch.from_numpy(masks[4].transpose(1, 0, 2, 3).copy())] = 1.0
    metas = [
        dict(
            img_shape=(HEIGHT, WIDTH),
            ori_shape=(HEIGHT, WIDTH),
            video_id=4,
            frame_id=t,
            ori_video_length=2,
        )
        for t in (0, 1)
    ]
    frames = []
    for instances, meta in zip(
        Mask2FormerTrackHead.predict_by_feat(head, logits, queries, metas), metas, strict=True
    ):
        frames.append(DetDataSample(metainfo=meta, pred_track_instances=instances))
    evaluator = make_evaluator(tmp_path, gt)
    evaluator.process([make_sample(frames)])
    assert evaluator.evaluate(size=1)["ytvis/AP"] == pytest.approx(1)


def test_scores_masktrack_rcnns_output(tmp_path):
    """Its real tracker: ids of a frame without objects are 0, and one id can be given twice."""
    gt, masks = make_videos({4: 4})
    tracker = MaskTrackRCNNTracker(match_weights=dict(det_score=1, iou=0, det_label=0))
    tracker.reset()
    head = SimpleNamespace(
        extract_roi_feats=lambda feats, boxes: (boxes[0][:, :, None, None], None),
        # Everybody is most like the first object seen, the more so the further to the right.
        predict=lambda feats, prev: feats[:, :1, 0, 0] / 10 * torch.eye(len(prev) + 1)[1],
    )
    frames = []
    for t, count in enumerate([1, 3, 0, 1]):
        instances = InstanceData(
            bboxes=torch.tensor([[1.0, 0, 4, 9], [6.0, 0, 9, 9], [11.0, 0, 14, 9]])[:count],
            labels=torch.arange(3)[:count],
            scores=torch.tensor([0.9, 0.8, 0.7])[:count],
            masks=torch.from_numpy(masks[4][t])[:count],
        )
        frame = DetDataSample(
            metainfo=dict(
                video_id=4,
                frame_id=t,
                ori_video_length=4,
                ori_shape=(HEIGHT, WIDTH),
                scale_factor=(1.0, 1.0),
            ),
            pred_instances=instances,
        )
        model = SimpleNamespace(track_head=head)
        frame.pred_track_instances = tracker.track(model=model, feats=None, data_sample=frame)
        frames.append(frame)
    assert frames[1].pred_track_instances.instances_id.tolist() == [0, 0, 0]

    evaluator = make_evaluator(tmp_path, gt, duplicate_ids="last")
    evaluator.process([make_sample(frames)])
    # A dog in two of its four frames, a fox in a third one: its IoU with the dog is 2 / 5.
    assert evaluator.evaluate(size=1)["ytvis/AP"] == 0
    (track,) = written(tmp_path)
    assert track["category_id"] == CATEGORY_IDS["dog"]
    shown = [encode(masks[4][t, k]) for t, k in ((0, 0), (1, 2), (3, 0))]
    assert track["segmentations"] == [*shown[:2], None, shown[2]]


LENGTHS = {video_id: 1 + video_id % 3 for video_id in (12, 3, 8, 5, 1)}
SHARES = {"good": ((12, 8, 1), (3, 5)), "overlapping": ((12, 8, 1), (3, 5, 12))}


def predict_shares(rank, directory):
    """One of two processes: predicts its share of the videos, evaluates, notes the outcome."""
    init = f"file://{directory}/init"
    torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    outcomes = {}
    for name, share in SHARES.items():
        metric = predict_videos(directory, share[rank], f"{name}/results")
        try:
            outcomes[name] = metric.evaluate(size=len(LENGTHS))
        except (ValueError, RuntimeError) as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
    Path(directory, f"outcomes-{rank}.json").write_text(json.dumps(outcomes))
    torch.distributed.destroy_process_group()


def predict_videos(directory, video_ids, outfile_prefix):
    """A metric that has taken these videos."""
    metric = YTVISMetric(
        ann_file=f"{directory}/valid.json",
        outfile_prefix=f"{directory}/{outfile_prefix}",
        collect_dir=f"{directory}/gather",
    )
    metric.dataset_meta = {"classes": CLASSES}
    _, masks = make_videos(LENGTHS)
    for video_id in video_ids:
        metric.process(None, [predict_video(masks, video_id).to_dict()])
    return metric


def predict_video(masks, video_id):
    """A sample of a whole video with two equal scores and one mask that is a little off."""
    shifted = masks[video_id].copy()
    shifted[:, 1] = np.roll(shifted[:, 1], video_id % 4, axis=-2)
    frames = [
        make_frame(video_id, t, len(shifted), shifted[t], scores=[0.5, 0.5, 0.01 * video_id])
        for t in range(len(shifted))
    ]
    return make_sample(frames)


def test_two_processes_write_the_same_as_one(tmp_path):
    gt, _ = make_videos(LENGTHS)
    (tmp_path / "valid.json").write_text(json.dumps(gt))
    torch.multiprocessing.spawn(predict_shares, args=(str(tmp_path),), nprocs=2)
    first, second = (json.loads((tmp_path / f"outcomes-{r}.json").read_text()) for r in (0, 1))

    alone = predict_videos(tmp_path, LENGTHS, "alone/results").evaluate(size=len(LENGTHS))
    assert first["good"] == second["good"] == alone
    assert 0.3 < alone["ytvis/AP"] < 1
    for name in ("results.json", "results.submission_file.zip"):
        assert (tmp_path / "good" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

    # A video in both processes is an error in both, and neither waits for the other for ever.
    error = "ValueError: video 12 was predicted by 2 processes"
    assert first["overlapping"].startswith(error)
    assert second["overlapping"].startswith(
        f"RuntimeError: the main process could not evaluate: {error}"
    )
