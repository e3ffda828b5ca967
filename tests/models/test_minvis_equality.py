"""MinVIS on the original network's weights against the original's outputs.

Weights and frames come from a seed. Only what the original computed from them is stored: of large
tensors some values, of the linking, the tracks and the losses all, of gradients their norms.
"""

import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from minvis_original import CASES, SHORT_SIDE, random_weights
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from segmenting import SegmentedVideo
from seqformer_original import training_clips
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
    model.theirs = conversion.origins
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


NUM_POINTS = 512


def training_batch(model):
    """Four annotated frames as the model gets them; the last one is without an object."""
    samples = []
    for clip, t, objects in ((0, 0, 3), (0, 1, 3), (1, 4, 2), (1, 0, 0)):
        clip = training_clips(5, seed=6)[clip]
        frame, size = clip.frames[t], clip.frames[t].shape[:2]
        present = np.flatnonzero(clip.masks[:objects, t].any(axis=(1, 2)))
        instances = InstanceData(
            labels=torch.from_numpy(clip.labels[present] - 1),
            masks=BitmapMasks(clip.masks[present, t].astype(np.uint8), *size),
        )
        sample = TrackDataSample()
        sample.video_data_samples = [
            DetDataSample(metainfo=dict(img_shape=size, ori_shape=size), gt_instances=instances)
        ]
        inputs = torch.from_numpy(frame).permute(2, 0, 1)[None]
        samples.append(dict(inputs=inputs, data_samples=sample))
    return model.data_preprocessor(pseudo_collate(samples), training=True)


def test_losses_and_gradients(monkeypatch):
    """Of all layers, with the same random points."""
    expected, model = stored("training_r50"), converted_model("r50")
    names = [
        f"{layer}/{name}"
        for layer in range(10)
        for name in (*(f"match/{image}" for image in range(4)), "oversampled", "random")
    ]
    drawn = iter(names)

    def rand(*shape, device):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        rng = np.random.RandomState(zlib.crc32(next(drawn).encode()))
        return torch.from_numpy(rng.random_sample(shape).astype(np.float32))

    monkeypatch.setattr(torch, "rand", rand)
    monkeypatch.setattr(model.panoptic_head, "num_points", NUM_POINTS)
    batch = training_batch(model)
    losses = model.loss(**batch)
    assert next(drawn, None) is None
    for row, term in enumerate(("cls", "mask", "dice")):
        layers = [*(f"d{layer}.loss_{term}" for layer in range(9)), f"loss_{term}"]
        ours = [losses[layer].item() for layer in layers]
        np.testing.assert_allclose(ours, expected["losses"][row], rtol=TOLERANCE)
    assert len(losses) == 30

    sum(losses.values()).backward()
    norms = {
        model.theirs[name]: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    model.zero_grad()
    assert norms.keys() == set(expected["parameters"])
    ours = [norms[name] for name in expected["parameters"]]
    # In float32 the original's own gradients are up to 2e-4 off.
    np.testing.assert_allclose(ours, expected["gradient_norms"], rtol=1e-3)
