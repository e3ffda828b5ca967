"""Metric and results.json make the same tracks of the same frames, empty masks included."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmvis_plugin.apis import FrameResult, JSONSink
from mmvis_plugin.evaluation import YTVISMetric
from mmvis_plugin.ytvis.rle import encode_masks

CLASSES = ("cat", "dog", "owl")
HEIGHT, WIDTH = 8, 10


def tensors(rows):
    ids, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return InstanceData(
        instances_id=torch.tensor(ids, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float64),
    )


@st.composite
def frames_and_tracks(draw):
    """Frames of (id, label, score, width of the mask, 0 for an empty one), and a final word."""
    label, score = st.integers(0, 2), st.integers(1, 64).map(lambda n: n / 64)
    objects = st.tuples(st.integers(0, 3), label, score, st.integers(0, 5))
    frame = st.lists(objects, max_size=4, unique_by=lambda row: row[0])
    frames = draw(st.lists(frame, min_size=1, max_size=5))
    rows = st.lists(st.tuples(st.integers(0, 4), label, score), unique_by=lambda row: row[:2])
    return frames, draw(st.one_of(st.none(), rows))


def instances(objects):
    masks = np.zeros((len(objects), HEIGHT, WIDTH), bool)
    for mask, (*_, width) in zip(masks, objects, strict=True):
        mask[2:6, :width] = True
    data = tensors([row[:3] for row in objects])
    data.masks = encode_masks(masks) if objects else []
    data.bboxes = torch.zeros(len(objects), 4)
    return data


def tracks_of(path):
    entries = [
        (e["category_id"], e["score"], json.dumps(e["segmentations"]))
        for e in json.loads(path.read_text())
    ]
    return sorted(entries)


@settings(max_examples=60, deadline=None)
@given(case=frames_and_tracks())
def test_metric_and_sink_agree(tmp_path_factory, case):
    frames, final = case
    folder, length = tmp_path_factory.mktemp("same"), len(frames)
    video = SimpleNamespace(
        size=(WIDTH, HEIGHT), classes=CLASSES, category_ids=(1, 2, 3), tracks=None, complete=True
    )
    with JSONSink(folder / "sink.json") as sink:
        for index, objects in enumerate(frames):
            image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            timing = SimpleNamespace(start=index)
            sink.write(FrameResult(video, index, image, timing, instances(objects)))
        video.tracks = None if final is None else tensors(final)

    names = [f"{t}.jpg" for t in range(length)]
    facts = dict(id=1, width=WIDTH, height=HEIGHT, length=length, file_names=names)
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    (folder / "gt.json").write_text(json.dumps(dict(videos=[facts], categories=categories)))
    metric = YTVISMetric(str(folder / "gt.json"), outfile_prefix=str(folder / "metric"))
    metric.dataset_meta = dict(classes=CLASSES)
    samples = [
        dict(pred_track_instances=instances(objects), video_id=1, frame_id=t)
        for t, objects in enumerate(frames)
    ]
    last = {} if final is None else dict(pred_tracks=tensors(final))
    metric.process(None, [dict(video_data_samples=samples, **last)])
    metric.evaluate(1)
    assert tracks_of(folder / "metric.json") == tracks_of(folder / "sink.json")
