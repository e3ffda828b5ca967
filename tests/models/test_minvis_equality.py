"""MinVIS on the original network's weights against the original's outputs.

Weights and frames come from a seed. Only what the original computed from them is stored: of large
tensors some values, of the linking and the tracks all.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from minvis_original import CASES, SHORT_SIDE, random_weights
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from segmenting import SegmentedVideo
from stmask_original import sample

from mmvis_plugin.apis.conversion import convert
from mmvis_plugin.models.minvis import match_queries
from mmvis_plugin.models.minvis.released import MINVIS

ROOT = Path(__file__).resolve().parents[2]
# Of a tensor's largest magnitude.
TOLERANCE = 1e-5


def stored(name):
    return dict(np.load(ROOT / f"tests/data/minvis_{name}.npz"))


@cache
def converted_model(name):
    """Our model of a case, with the original's weights, and its config."""
    init_default_scope("mmdet")
    case = CASES[name]
    cfg = Config.fromfile(ROOT / "configs/minvis" / case.config)
    resize = cfg.test_dataloader.dataset.pipeline[0]["transforms"][1]
    assert resize["scale"][1] == (480 if name == "swin" else 360)
    resize["scale"] = (1333, SHORT_SIDE)
    model = MODELS.build(cfg.model)
    conversion = convert(MINVIS, random_weights(case.layout), "original")
    missing, unexpected = model.load_state_dict(conversion.state, strict=False)
    assert not unexpected and all(key.endswith("relative_position_index") for key in missing)
    model.max_candidates = model.panoptic_head.num_queries
    model.cfg = cfg
    return model.eval()


def segment(model, frames):
    """Segment raw frames; the normalised frames as the network gets them, results, tracks."""
    inputs = []
    hook = model.backbone.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    video = SegmentedVideo(model, frames)
    results = [result for _, result in video]
    hook.remove()
    return torch.cat(inputs), results, video.tracks


@pytest.mark.parametrize("name", CASES)
def test_network_and_linking(name):
    """In double precision, so that only the original's own rounding is left."""
    expected, model = stored(name), converted_model(name)
    frames, _, _ = segment(model, CASES[name].video())
    model.double()
    aligned, sums = None, 0
    for t, frame in enumerate(frames.double()):
        with torch.no_grad():
            queries = model.panoptic_head.last_layer(model.backbone(frame[None]))
        for key, values in queries._asdict().items():
            check_close(values, expected[key][t], f"{key}/{t}")
        embeddings = queries.embeddings[0]
        order = torch.arange(len(embeddings)) if t == 0 else match_queries(aligned, embeddings)
        assert order.tolist() == expected["order"][t].tolist()
        aligned, sums = embeddings[order], sums + queries.class_logits[0, order]
    check_close(sums / len(frames), expected["mean_logits"], "mean_logits")
    model.float()


def check_close(ours, expected, name):
    """Compare with ``sample``'s values of the original's tensor."""
    largest = expected[0]
    error = np.abs(sample(ours, name) - expected).max()
    assert error <= TOLERANCE * largest, f"{name}: off by {error / largest:.1e} of {largest:.3g}"


@pytest.mark.parametrize("name", CASES)
def test_tracks_of_a_video(name):
    """From raw frames to masks at their size."""
    expected, case = stored(name), CASES[name]
    _, results, tracks = segment(converted_model(name), case.video())
    assert tracks.instances_id.tolist() == expected["queries"].tolist()
    assert tracks.labels.tolist() == expected["labels"].tolist()
    np.testing.assert_allclose(tracks.scores, expected["scores"], atol=TOLERANCE)
    shape = len(tracks), len(results), *case.size
    masks = np.unpackbits(expected["masks"], count=np.prod(shape)).reshape(shape)
    ours = np.zeros(shape, np.uint8)
    for t, result in enumerate(results):
        found = result.pred_track_instances
        rows = {instance: row for row, instance in enumerate(found.instances_id.tolist())}
        for track, instance in enumerate(tracks.instances_id.tolist()):
            if instance in rows:
                ours[track, t] = mask_utils.decode(found.masks[rows[instance]])
    assert masks.any(axis=(2, 3)).sum() > 10
    # A pixel at the threshold may fall on either side.
    assert (ours != masks).sum() <= 2
