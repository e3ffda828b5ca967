"""IFC on the original network's weights against the original's outputs.

Weights, frames and annotations come from a seed. Only what the original computed from them is
stored: of large tensors and of gradients some values, of the tracks and the losses all.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ifc_original import CASES
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from segmenting import SegmentedVideo
from seqformer_original import training_batch
from stmask_original import sample
from torch import nn

from mmvis_plugin.apis.conversion import convert
from mmvis_plugin.models.ifc.network import FrameFeatures
from mmvis_plugin.models.ifc.released import IFC

ROOT = Path(__file__).resolve().parents[2]
# Of a tensor's largest magnitude.
TOLERANCE = 1e-5


def stored(name):
    return dict(np.load(ROOT / f"tests/data/ifc_{name}.npz"))


@cache
def converted_model(depth, config):
    """Our model of a config, with the original's weights, and its config."""
    init_default_scope("mmdet")
    case = next(case for case in CASES.values() if (case.depth, case.config) == (depth, config))
    cfg = Config.fromfile(ROOT / "configs/ifc" / config)
    model = MODELS.build(cfg.model)
    conversion = convert(IFC, case.weights(), "original")
    model.load_state_dict(conversion.state, strict=True)
    model.cfg = cfg
    model.theirs = conversion.origins
    return model.eval()


def model_of(name):
    """The model of a case, which resizes frames to the case's size."""
    case = CASES[name]
    model = converted_model(case.depth, case.config)
    resize = model.cfg.test_dataloader.dataset.pipeline[0]["transforms"][1]
    assert resize["scale"][0] == 1333 and resize["backend"] == "pillow"
    resize["scale"] = (1333, case.short_side)
    return model


def check_close(ours, expected, name):
    """Compare with ``sample``'s values of the original's tensor."""
    largest = expected[0]
    error = np.abs(sample(ours, name) - expected).max()
    assert error <= TOLERANCE * largest, f"{name}: off by {error / largest:.1e} of {largest:.3g}"


@pytest.fixture(params=CASES)
def segmented(request):
    """A case's name, the normalised frames as the network gets them, frames' results, tracks."""
    model, inputs = model_of(request.param), []
    hook = model.network.backbone.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    video = SegmentedVideo(model, CASES[request.param].video())
    results = [result for _, result in video]
    hook.remove()
    return request.param, torch.cat(inputs), results, video.tracks


def test_from_raw_frames_to_tracks(segmented):
    name, frames, results, tracks = segmented
    expected, case = stored(name), CASES[name]
    network = model_of(name).network
    with torch.no_grad():
        maps = network.frame_features(frames[:5])
        queries, features = network(FrameFeatures(*(scale[None] for scale in maps)))
        masks = network.mask_logits(queries[-1], features)[0].transpose(0, 1)
        check_close(network.class_logits(queries[-1])[0], expected["logits"], "logits")
    check_close(masks, expected["mask_logits"], "mask_logits")

    # Every pair of an identity and a class above the threshold is a track.
    ids, labels = np.nonzero(expected["classes"][:, :-1] > 0.01)
    assert tracks.instances_id.tolist() == ids.tolist()
    assert tracks.labels.tolist() == labels.tolist()
    scores = expected["classes"][ids, labels]
    np.testing.assert_allclose(tracks.scores, scores, atol=TOLERANCE * scores.max())

    shape = len(expected["classes"]), len(results), *case.size
    theirs = np.unpackbits(expected["masks"], count=np.prod(shape)).reshape(shape)
    ours = np.zeros(shape, np.uint8)
    for t, result in enumerate(results):
        found = result.pred_track_instances
        for instance, mask in zip(found.instances_id.tolist(), found.masks, strict=True):
            ours[instance, t] = mask_utils.decode(mask)
    # A pixel at the threshold may fall on either side.
    assert (ours != theirs).sum() <= 2
    assert len(results) == case.num_frames and theirs.any()


def test_the_cases_are_what_they_are_to_show():
    """Odd sizes, a video shorter than the clip, and identities that come and go in a long one."""
    lengths = {name: case.num_frames for name, case in CASES.items()}
    assert lengths["short"] < 5 < lengths["r50"] and lengths["long"] == 100
    shape = len(stored("long")["classes"]), 100, *CASES["long"].size
    masks = np.unpackbits(stored("long")["masks"], count=np.prod(shape)).reshape(shape)
    present = masks.any(axis=(2, 3)).sum(axis=1)
    assert len(present) > 10 and ((present > 5) & (present < 60)).sum() > 5


@pytest.fixture(params=["r50", "r101"])
def training_case(request):
    """A case's name, and its model in double precision, with dropout off."""
    model = model_of(request.param).double().train()
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout) and m.p]
    attentions = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    assert {m.p for m in dropouts} == {m.dropout for m in attentions} == {0.1}
    for module in dropouts:
        module.p = 0.0
    for module in attentions:
        module.dropout = 0.0
    yield request.param, model
    for module in dropouts:
        module.p = 0.1
    for module in attentions:
        module.dropout = 0.1
    model.zero_grad()
    model.float().eval()


def test_losses_and_gradients(training_case):
    """Of all layers, on two clips of different size; one has a track that leaves and returns."""
    name, model = training_case
    expected = stored(f"training_{name}")
    losses = model.loss(**training_batch(model))
    ours = [
        [losses[f"d{layer}.loss_{term}"].item() for term in ("cls", "mask", "dice")]
        for layer in range(3)
    ]
    assert len(losses) == 9
    np.testing.assert_allclose(ours, expected["losses"], rtol=TOLERANCE)

    sum(losses.values()).backward()
    gradients = {
        model.theirs[name]: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert gradients.keys() == set(expected["parameters"])
    for name, values in zip(expected["parameters"], expected["gradients"], strict=True):
        if name == "detr.transformer.clip_decoder.layers.0.self_attn.in_proj_weight":
            # The first queries are all zero: what they attend to does not matter.
            assert values[0] < 1e-12 and gradients[name].abs().max() < 1e-12
        else:
            check_close(gradients[name], values, name)
