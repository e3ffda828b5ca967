"""SipMask gives what its authors' network gave on the same weights and frames.

The stored values come from their head, which ran on the features of MMDetection's ResNet and FPN;
its compiled operators were replaced by PyTorch ones.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from sipmask_original import (
    CASES,
    as_input,
    case_frames,
    head_layout,
    random_weights,
    training_objects,
)

from mmvis_plugin.models.sipmask.released import SIPMASK
from mmvis_plugin.models.sipmask.targets import Objects

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmdet")
    settings = Config.fromfile(ROOT / "configs/sipmask/sipmask_r50_ytvis19.py").model
    settings.detector.pop("init_cfg")
    model = MODELS.build(settings).eval()
    detector = model.detector.state_dict()
    shared = {k: tuple(v.shape) for k, v in detector.items() if k.startswith(("backbone", "neck"))}
    weights = random_weights(head_layout() | shared)
    state = {ours: x for key, x in weights.items() for ours in SIPMASK.our_keys(key)}
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("case", CASES)
def test_frames_to_tracks(model, case):
    stored = np.load(ROOT / "tests/data/sipmask_r50.npz")
    frames, meta = case_frames(case)
    state, returned = model.start_video({}), set()
    for t, frame in enumerate(frames):
        found = model.step(state, as_input(frame, meta)[None], [meta])[0].pred_track_instances
        expected = {
            name: stored[f"{case}_{t}_{name}"]
            for name in ("bboxes", "scores", "labels", "ids", "areas")
        }
        assert found.instances_id.tolist() == expected["ids"].tolist()
        assert found.labels.tolist() == expected["labels"].tolist()
        for name in ("bboxes", "scores"):
            wanted = expected[name]
            error = np.abs(found[name].numpy() - wanted).max(initial=0)
            assert error <= 1e-5 * np.abs(wanted).max(initial=1e-30)
        areas = [int(mask_utils.area(mask)) for mask in found.masks]
        np.testing.assert_allclose(areas, expected["areas"], atol=2)
        before = {int(i) for i in stored[f"{case}_{t - 1}_ids"]} if t else set()
        returned |= set(found.instances_id.tolist()) - before if t else set()
    assert returned & set(stored[f"{case}_0_ids"].tolist())  # objects left and came back


def test_training_losses_and_gradients(model):
    """Each loss, and the norms of its gradients by the head's weights and by the features."""
    stored = np.load(ROOT / "tests/data/sipmask_training_r50.npz")
    frames, meta = case_frames("landscape")
    inputs = torch.stack([as_input(frames[index], meta) for index in (0, 5, 2, 6)])
    head = model.detector.bbox_head
    with torch.no_grad():
        feats = model.detector.extract_feat(inputs)
    feats = [[x[part].clone().requires_grad_() for x in feats] for part in (slice(2), slice(2, 4))]
    identities = ((10, 11, 12, 13), (10, 11, 12, 13), (10, 13, 12, 99), (12, 13, 98, 11))
    objects = []
    for seed, numbers in enumerate(identities):
        boxes, labels, masks = training_objects(meta["img_shape"], seed)
        padded = torch.zeros(4, *inputs.shape[2:])
        padded[:, : masks.shape[1], : masks.shape[2]] = torch.from_numpy(masks)
        objects.append(Objects(boxes, labels, padded, torch.tensor(numbers)))
    torch.manual_seed(3)
    references = head.embed(feats[1]), objects[2:]
    losses = model.detector.criterion(head(feats[0]), objects[:2], references)
    learnt = [list(head.parameters()), feats[0] + feats[1]]
    for name, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(float(stored[name]), rel=1e-5)
        for group, wanted in zip(learnt, stored[f"{name}_grad"], strict=True):
            grads = torch.autograd.grad(loss, group, retain_graph=True, allow_unused=True)
            squares = sum(float(x.double().pow(2).sum()) for x in grads if x is not None)
            assert squares**0.5 == pytest.approx(float(wanted), rel=1e-4)
