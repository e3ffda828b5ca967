"""STMask on the original network's weights against the original network's outputs.

docs/stmask.md tells how the stored outputs were made. Weights and frames come from a seed; only
what the original computed from them is stored: of large tensors some values, of instances all.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from segmenting import SegmentedVideo
from stmask_original import (
    CASES,
    RAW,
    SHIFTS,
    random_video,
    random_weights,
    released_layout,
    sample,
)

from mmvis_plugin.apis.conversion import convert
from mmvis_plugin.models.stmask.released import STMASK

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
# Of a tensor's largest magnitude.
TOLERANCE = 1e-4


def converted_model(case):
    """Our model of a case, with the original's weights, and its config."""
    init_default_scope("mmdet")
    calibration = f"fca-{case.calibration}" if case.calibration else "fca"
    cfg = Config.fromfile(
        ROOT / f"configs/stmask/stmask_r{case.depth}-dcn_{calibration}_ytvis19.py"
    )
    pipeline = cfg.test_dataloader.dataset.pipeline
    resize = next(t for t in pipeline[0]["transforms"] if t["type"] == "Resize")
    resize["scale"] = case.input_size
    weights = random_weights(
        released_layout(case.depth, case.calibration), case.seed, case.background
    )
    model = MODELS.build(cfg.model)
    model.load_state_dict(convert(STMASK, weights, "original").state)
    model.cfg = cfg
    return model.eval()


def trace(model, frames):
    """Segment raw frames and record, for each, what is to be compared.

    Yields:
        dict: Raw outputs ``deltas``, ``logits``, ``coeffs``, ``embeddings``, ``centerness``,
        ``prototypes``; of temporal fusion, from the second frame with instances on, ``box_shifts``
        and ``coeff_shifts``; of the shown instances ``ids``, ``labels``, ``scores``, ``boxes``
        (fractions of the padded frame), ``masks`` (bool, at the frame's size), and ``soft``, the
        masks before they are cut at one half.
    """
    states, record = [], {}
    start_video = model.start_video

    def start(meta):
        states.append(start_video(meta))
        return states[-1]

    def keep_outputs(module, inputs, outputs):
        for name in ("deltas", "logits", "coeffs", "embeddings", "centerness"):
            record[name] = getattr(outputs, name)[0]

    def keep_prototypes(module, inputs, prototypes):
        record["prototypes"] = prototypes[0].permute(1, 2, 0)

    def keep_shifts(module, inputs, shifts):
        record["box_shifts"], record["coeff_shifts"] = shifts

    model.start_video = start
    hooks = [
        model.detector.bbox_head.register_forward_hook(keep_outputs),
        model.detector.mask_head.register_forward_hook(keep_prototypes),
        model.temporal_fusion.register_forward_hook(keep_shifts),
    ]
    for _, result in SegmentedVideo(model, frames):
        found, tracks = result.pred_track_instances, states[0].tracks
        shown = tracks[torch.isin(tracks.ids, found.instances_id)]
        height, width = result.ori_shape
        masks = mask_utils.decode(found.masks).transpose(2, 0, 1) if found.masks else None
        record |= dict(
            ids=found.instances_id,
            labels=found.labels,
            scores=shown.scores,
            boxes=shown.bboxes,
            masks=np.zeros((0, height, width), bool) if masks is None else masks.astype(bool),
            soft=at_size(shown.masks, result.img_shape, (height, width)),
        )
        yield record
        record.clear()
    for hook in hooks:
        hook.remove()
    del model.start_video


def at_size(masks, img_shape, size):
    """Soft masks (n, h, w) of the padded frame, interpolated to the original one."""
    if len(masks) == 0:
        return masks.new_zeros((0, *size))
    padded = [-(-side // 32) * 32 for side in img_shape]
    rows, columns = (masks.shape[1 + i] * img_shape[i] // padded[i] for i in range(2))
    return F.interpolate(masks[None, :, :rows, :columns], size, mode="bilinear")[0]


def check_close(ours, stored, name):
    """Compare with ``sample``'s values of the original's tensor."""
    largest = stored[0]
    error = np.abs(sample(ours, name) - stored).max()
    assert error <= TOLERANCE * largest, f"{name}: off by {error / largest:.1e} of {largest:.3g}"


@pytest.mark.parametrize("name", CASES)
def test_equals_the_original(name):
    case = CASES[name]
    stored = dict(np.load(DATA / f"stmask_{name}.npz"))
    assert "raw/0" in stored and any(key.startswith("masks/") for key in stored)
    ends = stored["counts"].cumsum()
    frames = random_video()[: case.num_frames]
    for t, ours in enumerate(trace(converted_model(case), frames)):
        if f"raw/{t}" in stored:
            for tensor, values in zip(RAW, stored[f"raw/{t}"], strict=True):
                check_close(ours[tensor], values, tensor)
        for tensor, values in zip(SHIFTS, stored["shifts"][t], strict=True):
            assert np.isnan(values).all() == (tensor not in ours)
            if tensor in ours:
                check_close(ours[tensor], values, tensor)
        ids, labels, scores, boxes = (
            stored[key][ends[t] - stored["counts"][t] : ends[t]]
            for key in ("ids", "labels", "scores", "boxes")
        )
        assert ours["ids"].tolist() == ids.tolist()
        assert ours["labels"].tolist() == labels.tolist()
        assert np.abs(ours["scores"].numpy() - scores).max(initial=0) <= TOLERANCE
        limit = TOLERANCE * np.abs(boxes).max(initial=0)
        assert np.abs(ours["boxes"].numpy() - boxes).max(initial=0) <= limit
        if f"masks/{t}" in stored:
            shape = (len(ids), *frames[t].shape[:2])
            masks = np.unpackbits(stored[f"masks/{t}"], axis=1, count=shape[1] * shape[2])
            different = ours["masks"] != masks.reshape(shape).astype(bool)
            assert (np.abs(ours["soft"].numpy()[different] - 0.5) < TOLERANCE).all()


def test_the_long_sequence_has_what_can_happen_to_a_track():
    stored = np.load(DATA / "stmask_r50_ada.npz")
    assert len(stored["counts"]) >= 12
    frames = np.repeat(np.arange(len(stored["counts"])), stored["counts"])
    lives = [frames[stored["ids"] == i] for i in np.unique(stored["ids"])]
    assert len(lives) >= 5
    assert any(life[0] > 4 for life in lives), "one is opened late"
    assert (stored["gaps"] > 0).any(), "one is carried by temporal fusion alone"
    assert any(life[-1] < frames[-1] for life in lives), "one is dropped"
