"""STMask's losses and gradients against the authors' training code.

docs/stmask.md says how the stored numbers were made. Weights, frames and objects come from a seed.
Of the readings that configs/stmask/README.md lists, the ones that concern the losses are undone
here, and nothing else; all is computed in float64.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from stmask_original import project, random_weights, released_layout, training_pairs

from mmvis_plugin.apis.conversion import build_model, convert
from mmvis_plugin.models.stmask import losses, stmask
from mmvis_plugin.models.stmask.losses import STMaskLoss, mask_loss
from mmvis_plugin.models.stmask.matching import NEUTRAL
from mmvis_plugin.models.stmask.prototypes import instance_masks
from mmvis_plugin.models.stmask.released import STMASK

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/stmask/stmask_r50-dcn_fca-ada_ytvis19.py"
STORED = ROOT / "tests/data/stmask_training_r50_ada.npz"
TOLERANCE = 1e-8


class AuthorsLoss(STMaskLoss):
    """The losses with our readings undone."""

    def match(self, outputs, targets):
        """Neutral anchors become background where class scores raise the thresholds."""
        matches = super().match(outputs, targets)
        for frame, labels in enumerate(matches.labels):
            here = targets.frames == frame
            overlaps = bbox_overlaps(targets.boxes[here], outputs.priors, eps=1e-10)
            best, objects = overlaps.max(0)
            best[(overlaps > self.neg_iou).sum(0) > 1] = (self.pos_iou + self.neg_iou) / 2
            refined = best > self.pos_iou
            if refined.any():
                classes = targets.labels[here][objects[refined]] + 1
                errors = F.cross_entropy(outputs.logits[frame, refined], classes, reduction="none")
                threshold = self.neg_iou + (2 / (1 + errors.exp())).mean()
                labels[(labels == NEUTRAL) & ~refined & (best < threshold)] = 0
        return matches

    def class_loss(self, logits, matches):
        """Weights are ordered positives, then negatives, and losses by anchor."""
        labels, logits = matches.labels.flatten(), logits.flatten(0, 1)
        hardness = (logits.logsumexp(1) - logits[:, 0]) * (labels == 0)
        chosen = labels > 0
        chosen[hardness.topk(self.neg_pos_ratio * int(chosen.sum())).indices] = True
        errors = F.cross_entropy(logits[chosen], labels[chosen], reduction="none")
        num_negatives = len(errors) - len(matches.weights)
        negatives = errors.new_full((num_negatives,), self.neg_pos_ratio / num_negatives)
        weights = torch.cat([matches.weights, negatives])
        return (weights * errors).sum() / (self.neg_pos_ratio + 1)

    def centerness_loss(self, centerness, overlaps):
        """The box is trained, too."""
        return F.smooth_l1_loss(centerness, overlaps, reduction="none")


def authors_mask_loss(prototypes, coeffs, frames, masks, objects, boxes):
    """Each pixel of an object whose prediction is zero counts 100, without a gradient."""
    missed = []
    for frame, coeff, target, box in zip(frames, coeffs, masks[objects], boxes, strict=True):
        soft = instance_masks(prototypes[frame], coeff[None], box[None]).detach()
        soft = F.interpolate(soft[None], target.shape, mode="bilinear")[0, 0]
        missed.append(target[soft == 0].sum())
    sides = (boxes[:, 2:] - boxes[:, :2]) * boxes.new_tensor(masks.shape[:0:-1])
    constant = 100 * torch.stack(missed) / sides.clamp(min=1).prod(1)
    return mask_loss(prototypes, coeffs, frames, masks, objects, boxes) + constant


def encode(boxes, targets):
    """MMDetection's box coder, which works in float32, in float64."""
    sides, moved = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shift = (targets[:, :2] + moved / 2 - boxes[:, :2] - sides / 2) / sides
    return torch.cat([shift / 0.1, (moved / sides).log() / 0.2], dim=1)


def sample_of(pair):
    frames = []
    for frame in pair:
        frames.append(DetDataSample())
        frames[-1].gt_instances = InstanceData(
            bboxes=torch.from_numpy(frame.boxes),
            labels=torch.from_numpy(frame.labels),
            masks=BitmapMasks(frame.masks, *frame.masks.shape[1:]),
            instances_ids=torch.from_numpy(frame.ids),
        )
    sample = TrackDataSample()
    sample.video_data_samples = frames
    return sample


@pytest.fixture(scope="module")
def original():
    return dict(np.load(STORED))


@pytest.fixture
def training(monkeypatch):
    """Our losses and parameters, the latter by the names of the authors' code."""
    monkeypatch.setattr(losses, "mask_loss", authors_mask_loss)
    monkeypatch.setattr(stmask, "mask_loss", authors_mask_loss)
    model = build_model(CONFIG, STMASK.models)
    conversion = convert(STMASK, random_weights(released_layout(50, "ada"), 0, 19), "original")
    model.load_state_dict(conversion.state)
    model.double().train()
    model.detector.criterion = AuthorsLoss()
    monkeypatch.setattr(model.detector.bbox_head.bbox_coder, "encode", encode)
    pairs = training_pairs()
    images = np.stack([[frame.image for frame in pair] for pair in pairs])
    found = model.loss(torch.from_numpy(images), [sample_of(pair) for pair in pairs])
    parameters = {
        conversion.origins[name]: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    return found, parameters


def test_losses_and_gradients_equal_the_original(training, original):
    found, parameters = training
    names = original["parameters"].tolist()
    assert set(parameters) == set(names)
    assert {f"{name}/grad" for name in found} | {*found, "parameters"} == original.keys()
    for name, loss in found.items():
        expected = original[name].item()
        assert abs(loss.item() - expected) <= TOLERANCE * expected, name
        gradients = torch.autograd.grad(
            loss, [parameters[key] for key in names], retain_graph=True, allow_unused=True
        )
        largest = original[f"{name}/grad"][:, 0].max()
        for key, gradient, stored in zip(names, gradients, original[f"{name}/grad"], strict=True):
            ours = np.zeros(2) if gradient is None else project(gradient.numpy(), key)
            error = np.abs(ours - stored).max()
            assert error <= TOLERANCE * max(stored[0], 1e-3 * largest), (name, key, error, stored)
