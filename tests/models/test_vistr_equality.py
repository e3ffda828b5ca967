"""VisTR on the original network's weights against the original network's outputs.

Weights, frames and annotations come from a seed. Only what the original computed from them is
stored: of large tensors some values, of the tracks, losses and assignments all, of gradients norms
and products with random vectors. configs/vistr/README.md tells how it was made.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from segmenting import SegmentedVideo
from seqformer_original import training_batch
from stmask_original import project, sample
from vistr_original import CASES, NUM_INSTANCES, TRAINING, training_clip

from mmvis_plugin.apis.conversion import convert
from mmvis_plugin.models.vistr.released import VISTR

ROOT = Path(__file__).resolve().parents[2]
TERMS = dict(ce="cls", bbox="bbox", giou="iou", mask="mask", dice="dice")
# Of the largest magnitude.
TOLERANCE = 1e-5
# Of the losses and the gradients.
LOSS_TOLERANCE = 1e-4


def stored(name):
    return dict(np.load(ROOT / f"tests/data/vistr_{name}.npz"))


@cache
def converted_model(case):
    """Our model of a case, with the original's weights, and its config."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(ROOT / f"configs/vistr/vistr_r{case.depth}_ytvis19.py")
    network = cfg.model.network
    assert network.num_encoder_layers == network.num_decoder_layers == 6
    network.update(num_encoder_layers=case.num_layers, num_decoder_layers=case.num_layers)
    network.queries.num_frames = cfg.model.windows.length = case.clip_length
    cfg.model.windows.overlap = case.clip_length // 2
    resize = cfg.test_dataloader.dataset.pipeline[0]["transforms"][1]
    assert resize == dict(type="ResizeShortSide", side=300, backend="pillow")
    resize["side"] = case.side
    network.layers.dropout = 0.0
    model = MODELS.build(cfg.model)
    conversion = convert(VISTR, case.weights(), "original")
    model.load_state_dict(conversion.state, strict=True)
    model.cfg = cfg
    model.theirs = conversion.origins
    return model.eval()


def check_close(ours, expected, name):
    """Compare with ``sample``'s values of the original's tensor."""
    largest = expected[0]
    error = np.abs(sample(ours, name) - expected).max()
    assert error <= TOLERANCE * largest, f"{name}: off by {error / largest:.1e} of {largest:.3g}"


@torch.no_grad()
def network_outputs(model, frames, metas):
    """Flat class logits, boxes and masks of a window, frame by frame as the original's.

    In double precision, so that only differences in what is computed are left: in single precision,
    mask logits are rounded to about 2e-5 of their largest value.
    """
    calls = []
    hook = model.network.register_forward_hook(lambda *args: calls.append(args[2]))
    model.double().segment_window(frames.double(), metas)
    hook.remove()
    ((predictions, memory),) = calls
    masks = model.network.masks(memory, 0, range(NUM_INSTANCES))
    model.float()
    return dict(
        logits=predictions[-1].logits.flatten(0, 2),
        boxes=predictions[-1].boxes.flatten(0, 2),
        masks=torch.stack(masks, dim=1),
    )


@pytest.mark.parametrize("name", CASES)
def test_from_raw_frames_to_tracks(name):
    expected, case = stored(name), CASES[name]
    model, windows = converted_model(case), []
    segment_window = model.segment_window
    model.segment_window = lambda *window: windows.append(window) or segment_window(*window)
    video = SegmentedVideo(model, case.frames())
    results = [result for _, result in video]
    del model.segment_window
    for key, values in network_outputs(model, *windows[0]).items():
        check_close(values, expected[key], key)

    tracks = video.tracks
    assert tracks.instances_id.tolist() == expected["ids"].tolist()
    assert tracks.labels.tolist() == (expected["columns"] - 1).tolist()
    np.testing.assert_allclose(tracks.scores, expected["scores"], atol=TOLERANCE)
    areas = np.zeros_like(expected["areas"])
    for t, result in enumerate(results):
        assert result.ori_shape == case.size
        found = result.pred_track_instances
        for instance, mask in zip(found.instances_id.tolist(), found.masks, strict=True):
            areas[expected["ids"].tolist().index(instance), t] = mask_utils.area(mask)
    # Pixels at the threshold may fall on either side in single precision: two, or one in 500.
    assert (np.abs(areas - expected["areas"]) <= np.maximum(2, expected["areas"] / 500)).all()
    assert len(results) == case.num_frames


def test_the_cases_are_what_they_are_to_show():
    """A video shorter than the clip, a whole clip of 36 frames, identities over several windows."""
    assert CASES["short"].num_frames < CASES["short"].clip_length
    assert CASES["whole"].num_frames == CASES["whole"].clip_length == 36
    present = (stored("long")["areas"] > 0).sum(1)
    assert CASES["long"].num_frames == 100 and present.max() > 36 and present.min() < 100
    for case in TRAINING.values():
        present = training_clip(case.clip_length, case.size).masks.any(axis=(2, 3))
        assert present.any(1).all() and not present.all(1).any()


@pytest.fixture(scope="module", params=TRAINING)
def training_case(request):
    """A case's name, its model in double precision, with what it tells of a clip."""
    case = TRAINING[request.param]
    model = converted_model(case).double()
    batch = training_batch(model, [training_clip(case.clip_length, case.size)])
    queries = []
    match = model.criterion.match

    def recording(*given):
        queries.append(match(*given))
        return queries[-1]

    model.criterion.match = recording
    losses = model.loss(batch["inputs"].double(), batch["data_samples"])
    del model.criterion.match
    return request.param, model, losses, queries


def test_losses_and_assignment(training_case):
    name, _, losses, matchings = training_case
    expected, num_frames = stored(f"training_{name}"), TRAINING[name].clip_length
    # The original lists the queries of all frames: instance by instance, those that show it.
    for matching, theirs in zip(matchings, expected["matched"], strict=True):
        ours = [
            NUM_INSTANCES * t + query
            for query, present in zip(
                matching.queries.tolist(), matching.tracks.present.tolist(), strict=True
            )
            for t in range(num_frames)
            if present[t]
        ]
        assert ours == theirs.tolist()
    theirs = {key.removeprefix("loss/"): float(expected[key]) for key in expected if "loss/" in key}
    assert len(losses) == len(theirs) == 3 * TRAINING[name].num_layers + 2
    for key, value in theirs.items():
        layer, term = key.split(".")
        assert float(losses[f"{layer}.loss_{TERMS[term]}"]) == pytest.approx(
            value, rel=LOSS_TOLERANCE
        ), key


def test_gradient_of_every_loss(training_case):
    """Norms, and products with random vectors, of the gradient of each weight."""
    name, model, losses, _ = training_case
    expected, last = stored(f"training_{name}"), TRAINING[name].num_layers - 1
    names = expected["names"].tolist()
    theirs = {model.theirs[key]: parameter for key, parameter in model.named_parameters()}
    assert {key for key, parameter in theirs.items() if parameter.requires_grad} == set(names)
    terms = {f"d{last}.{term}": losses[f"d{last}.loss_{TERMS[term]}"] for term in TERMS}
    for key, loss in {**terms, "total": sum(losses.values())}.items():
        gradients = torch.autograd.grad(
            loss, [theirs[name] for name in names], retain_graph=True, allow_unused=True
        )
        ours = [
            project(np.zeros(1) if gradient is None else gradient.numpy(), parameter)
            for gradient, parameter in zip(gradients, names, strict=True)
        ]
        stored_gradients = expected[f"grad/{key}"]
        norms = np.maximum(stored_gradients[:, :1], LOSS_TOLERANCE * stored_gradients[:, 0].max())
        error = (np.abs(np.stack(ours) - stored_gradients) / norms).max()
        assert error < LOSS_TOLERANCE, f"{key}: {error:.1e}"
