"""SeqFormer on the original network's weights against the original network's outputs.

docs/mssts.md tells how the stored outputs were made. Weights, frames and annotations come from a
seed; only what the original computed from them is stored: of large tensors some values, of tracks,
losses and assignments all.
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
from seqformer_original import (
    CASES,
    NUM_CLASSES,
    SHORT_SIDE,
    Swin,
    random_clip,
    training_batch,
    training_clips,
)
from stmask_original import sample

from mmvis_plugin.apis.conversion import convert
from mmvis_plugin.models.mssts.released import SEQFORMER

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
CONFIGS = {
    "r50": ROOT / "configs/mssts/seqformer_r50_ytvis19.py",
    # With what MS-STS VIS adds, which changes nothing until it is trained.
    "swin": ROOT / "configs/mssts/mssts_swin-l_ytvis19.py",
}
# Of a tensor's largest magnitude.
TOLERANCE = 1e-4


def stored(name):
    return dict(np.load(DATA / f"seqformer_{name}.npz"))


@cache
def converted_model(name):
    """Our model of a case, with the original's weights, and its config."""
    init_default_scope("mmdet")
    layout = CASES[name].layout
    cfg = Config.fromfile(CONFIGS[name])
    model = cfg.model
    model.discriminator = None
    model.encoder.num_layers = layout.num_encoder_layers
    model.decoder.update(num_layers=layout.num_decoder_layers, num_queries=layout.num_queries)
    if isinstance(layout.backbone, Swin):
        swin = layout.backbone
        model.backbone.update(embed_dims=swin.width, depths=swin.depths, num_heads=swin.heads)
        model.neck.in_channels = [swin.width * 2**stage for stage in (1, 2, 3)]
    pipeline = cfg.test_dataloader.dataset.pipeline
    resize = next(t for t in pipeline[0]["transforms"] if t["type"] == "ResizeShortSide")
    assert resize["side"] == 360
    resize["side"] = SHORT_SIDE
    model = MODELS.build(model)
    conversion = convert(SEQFORMER, CASES[name].weights(), "original")
    missing, unexpected = model.load_state_dict(conversion.state, strict=False)
    additions = ("relative_position_index", ".ms_sts.", ".temporal.")
    assert not unexpected and all(any(part in key for part in additions) for key in missing)
    model.cfg = cfg
    return model.eval()


def check_close(ours, expected, name):
    """Compare with ``sample``'s values of the original's tensor."""
    largest = expected[0]
    error = np.abs(sample(ours, name) - expected).max()
    assert error <= TOLERANCE * largest, f"{name}: off by {error / largest:.1e} of {largest:.3g}"


@torch.no_grad()
def outputs(model, frames):
    """Predictions of all queries for a clip of resized frames (T, 3, h, w), padded or not."""
    inputs, size = frames
    features = model.encode(inputs[None], [size])
    predictions = model.decoder(features)[-1]
    queries = torch.arange(predictions.queries.shape[1])
    mask_features = model.mask_head.mask_features(features.maps(3))
    masks = model.predict_masks(mask_features, predictions, queries * 0, queries, [size])
    return dict(logits=predictions.logits[0], boxes=predictions.boxes[0], masks=masks)


def record_clip(model, frames):
    """Segment raw frames; the normalised clip as the network gets it, the results, the tracks."""
    clips = []
    encode = model.encode
    model.encode = lambda *inputs: clips.append(inputs) or encode(*inputs)
    video = SegmentedVideo(model, frames)
    results = [result for _, result in video]
    del model.encode
    ((clip, sizes),) = clips
    return clip[0], sizes[0], results, video.tracks


@pytest.mark.parametrize("name", CASES)
def test_raw_outputs(name):
    expected = stored(name)
    model = converted_model(name)
    clip, size, _, _ = record_clip(model, random_clip())
    assert size == clip.shape[-2:] == (100, 154)
    padded = torch.nn.functional.pad(clip, (0, -size[1] % 32, 0, -size[0] % 32))
    for kind, inputs in (("whole", clip), ("padded", padded)):
        ours = outputs(model, (inputs, size))
        for tensor, values in ours.items():
            check_close(values, expected[f"{kind}/{tensor}"], tensor)
        scores, pairs = ours["logits"].sigmoid().flatten().topk(10)
        top = torch.stack([pairs // NUM_CLASSES, pairs % NUM_CLASSES])
        assert top.tolist() == expected[f"{kind}/top"].tolist()
        np.testing.assert_allclose(scores, expected[f"{kind}/scores"], atol=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_tracks_of_a_video(name):
    """From raw frames to masks at their size."""
    expected = stored(name)
    columns, pixels = expected["whole/top"][1], expected["whole/pixels"]
    # The original leaves pairs without a pixel out; what is of no class it writes down.
    shown = pixels.any(axis=1) & (columns > 0) & (columns < NUM_CLASSES - 1)
    _, _, results, tracks = record_clip(converted_model(name), random_clip())
    assert tracks.labels.tolist() == (columns[shown] - 1).tolist()
    np.testing.assert_allclose(tracks.scores, expected["whole/scores"][shown], atol=TOLERANCE)
    areas = np.zeros((len(tracks), len(results)), int)
    for t, result in enumerate(results):
        assert result.ori_shape == (150, 231)
        found = result.pred_track_instances
        for instance, mask in zip(found.instances_id.tolist(), found.masks, strict=True):
            areas[tracks.instances_id.tolist().index(instance), t] = mask_utils.area(mask)
    # A pixel at the threshold may fall on either side.
    assert np.abs(areas - pixels[shown]).max() <= 2


@pytest.mark.parametrize("name", CASES)
def test_losses_and_assignment(name):
    expected = stored(name)
    model = converted_model(name)
    matchings = []
    match = model.criterion.match
    model.criterion.match = lambda *given: matchings.append(match(*given)) or matchings[-1]
    with torch.no_grad():
        losses = model.loss(**training_batch(model))
    del model.criterion.match

    assert [matching.queries.tolist() for matching in matchings] == expected["matched"].tolist()
    labels = np.concatenate([clip.labels for clip in training_clips()])
    first = np.array([0, 0, 0, 3, 3])  # of each query's clip in labels
    for matching, tracks in zip(matchings, expected["tracks"], strict=True):
        assert matching.tracks.labels.tolist() == labels[first + tracks].tolist()
    terms = ("cls", "bbox", "iou", "mask", "dice")
    ours = [
        [float(losses[f"d{layer}.loss_{term}"]) for term in terms]
        for layer in range(len(expected["losses"]))
    ]
    assert len(losses) == len(ours) * len(terms)
    np.testing.assert_allclose(ours, expected["losses"], rtol=TOLERANCE)


def test_one_track_is_absent_in_between():
    present = training_clips()[0].masks.any(axis=(2, 3))
    assert present.tolist() == [[True, False, False, True, True], [True] * 5, [True] * 5]
