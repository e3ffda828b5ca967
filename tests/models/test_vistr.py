"""VisTR on videos and in training: a small network, what goes in and what comes out."""

import copy
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from seqformer_original import TrainingClip, training_batch, training_clips
from streaming import assert_same, metas, run, run_interleaved, video
from torch import nn

from mmvis_plugin.models.vistr.network import ClipPredictions
from mmvis_plugin.models.vistr.vistr import track_classes

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 4  # frames of a window
NUM_INSTANCES = 5


def small_config(**queries):
    init_default_scope("mmdet")
    cfg = Config.fromfile(ROOT / "configs/_base_/models/vistr_r18_shapes.py").model
    cfg.network.update(num_encoder_layers=1, num_decoder_layers=2)
    cfg.network.queries.update(num_frames=LENGTH, num_instances=NUM_INSTANCES, **queries)
    cfg.windows = dict(length=LENGTH, overlap=2, min_iou=0.3)
    return cfg


def spread(model):
    """Weights with which instances are of a class and differ in their masks."""
    generator = torch.Generator().manual_seed(1)
    network = model.network
    for layer, scale in (
        (network.queries.vectors, 3.0),
        (network.class_head, 1.5),
        (network.mask_head.attention.query, 1.0),
        (network.mask_head.attention.key, 1.0),
        (network.mask_head.last.conv_offset, 0.1),
    ):
        layer.weight.data.normal_(0, scale, generator=generator)
    # Neither absence nor no object.
    network.class_head.bias.data[[0, -1]] = -30.0
    network.mask_head.convs[0].weight.data[:, network.mask_head.channels :] *= 100
    for lateral in network.mask_head.laterals:
        lateral.weight.data *= 0.1


@cache
def small_model(per="prediction"):
    torch.manual_seed(0)
    model = MODELS.build(small_config(per=per))
    spread(model)
    return model.eval()


# --- videos ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [1, 3, 4, 5, 11])
def test_results_do_not_depend_on_how_the_video_is_cut(num_frames):
    frames = video(0, num_frames)
    whole = run(small_model(), frames, num_frames)
    assert len(whole[0]) == num_frames and len(whole[1]) > 1
    for cuts in (1, 3):
        assert_same(run(small_model(), frames, cuts), whole)


def test_two_videos_at_once():
    videos = video(1, 9), video(2, 9)
    alone = [run(small_model(), frames, 9) for frames in videos]
    for together, by_itself in zip(run_interleaved(small_model(), videos), alone, strict=True):
        assert_same(together, by_itself)


def test_a_short_video_is_repeated_to_the_length_of_a_clip():
    """Tracks are those of the repeated video, cut to the frames that there are."""
    frames = video(3, 3)
    short, _ = run(small_model(), frames, 3)
    repeated, _ = run(small_model(), frames[[0, 1, 2, 0]], 4)
    for one, other in zip(short, repeated[:3], strict=True):
        assert one.pred_track_instances.masks == other.pred_track_instances.masks


def test_windows_of_a_long_video_are_linked():
    """A still picture, and nothing that depends on the place in a window: every window gives the
    same tracks, which keep their identities."""
    cfg = small_config(per="instance")
    cfg.network.positional_encoding = None
    cfg.network.mask_head.clip_channels = None
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    spread(model)
    results, tracks = run(model.eval(), video(4, 1).expand(10, -1, -1, -1), 10)
    assert tracks.instances_id.tolist() == list(range(len(tracks))) and len(tracks) > 1
    for result in results:
        assert result.pred_track_instances.masks == results[0].pred_track_instances.masks
        assert result.pred_track_instances.instances_id.tolist() == tracks.instances_id.tolist()


def test_padding_is_cut_off_at_test_time():
    """The network gets the frames without what the data preprocessor padded."""
    sizes, model = [], small_model()
    hook = model.network.backbone.register_forward_pre_hook(
        lambda _, args: sizes.append(tuple(args[0].shape[-2:]))
    )
    run(model, video(0, 2), 2)
    hook.remove()
    assert set(sizes) == {tuple(metas(1)[0]["img_shape"])}


def test_memory_does_not_grow_with_the_video():
    model = copy.deepcopy(small_model())
    # What is kept between frames is of interest, not the network.
    model.segment_window = lambda frames, metas: small_tracks(len(frames))
    peaks = [peak_memory(model, count) for count in (300, 900)]
    assert peaks[1] < 1.02 * peaks[0] + 2e5


def small_tracks(num_frames):
    from mmvis_plugin.models.windowed import WindowTracks

    masks = torch.full((2, num_frames, 8, 12), -1.0)
    masks[0, :, :4] = masks[1, :, 4:] = 1
    return WindowTracks(masks, torch.tensor([0, 1]), torch.tensor([0.9, 0.8]))


def peak_memory(model, num_frames):
    """Bytes of Python's own objects at the peak, results apart."""
    state = model.start_video({})
    facts = metas(num_frames)
    frame = video(0, 1)
    tracemalloc.start()
    for t in range(num_frames):
        model.step(state, frame, facts[t : t + 1])
    model.finish(state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_bfloat16():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results, tracks = run(small_model(), video(0, 5), 5)
    assert len(results) == 5 and tracks.scores.isfinite().all() and len(tracks)


def test_queries_of_instances_fit_any_length():
    cfg = small_config(per="instance")
    cfg.windows.length = 6
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    spread(model)
    results, _ = run(model.eval(), video(0, 7), 7)
    assert len(results) == 7


@pytest.mark.parametrize("per", ["prediction", "frame"])
def test_windows_of_another_length_than_the_queries(per):
    cfg = small_config(per=per)
    cfg.windows.length = 6
    with pytest.raises(ValueError, match=r"windows\.length is 6, but the queries are for 4 frames"):
        MODELS.build(cfg)


def test_class_and_score_of_a_track():
    """Majority of the frames' best columns and the mean of their probabilities; slow form."""
    logits = torch.randn(1, 7, 40, 5, generator=torch.Generator().manual_seed(0))
    logits[0, :, 0, 2] = torch.tensor([9.0, 0, 9, 0, 9, 0, 9])
    logits[0, :, 0, 1] = torch.tensor([0.0, 9, 0, 9, 0, 9, 0])
    logits[0, :, 1, 4] = 12  # no object
    columns, scores, shown = track_classes(ClipPredictions(logits, None), 6)
    probabilities = logits[0, :6].softmax(-1)[..., :-1].numpy()
    for n in range(40):
        best = probabilities[:, n].argmax(-1)
        assert int(columns[n]) == np.bincount(best).argmax()
        assert float(scores[n]) == pytest.approx(probabilities[:, n].max(-1).mean())
        assert shown[n].tolist() == (probabilities[:, n].max(-1) >= 0.001).tolist()
    assert int(columns[0]) == 1  # three frames each: the lower
    assert not shown[1].any()


def test_absent_tracks_and_frames_are_dropped():
    model = copy.deepcopy(small_model())
    head = model.network.class_head
    head.weight.data.zero_()
    head.bias.data.fill_(-9)
    head.bias.data[0] = 5  # absence
    _, tracks = run(model, video(0, 4), 4)
    assert not len(tracks)
    head.bias.data[0] = -9
    head.bias.data[-1] = 5  # no object: every frame is below the least probability
    results, tracks = run(model, video(0, 4), 4)
    assert not len(tracks) and not any(len(r.pred_track_instances) for r in results)


# --- training -------------------------------------------------------------------------------------


def clips(num_frames=LENGTH):
    return [
        TrainingClip(clip.frames[:num_frames], clip.masks[:, :num_frames], clip.labels % 6 + 1)
        for clip in training_clips()
    ]


def train(model, given):
    batch = training_batch(model, given)
    losses = model.loss(**batch)
    model.zero_grad()
    sum(losses.values()).backward()
    return {key: float(loss) for key, loss in losses.items()}


def trainable(per="prediction"):
    model = copy.deepcopy(small_model(per))
    model.train()
    return model


def test_a_batch_of_clips_of_different_sizes_is_the_sum_of_its_clips():
    """Padding changes nothing: not in attention, positions and maps, nor in the losses but the
    masks', whose statistics are of all pixels."""
    model, given = trainable(), clips()
    together = train(model, given)
    alone = [train(model, [clip]) for clip in given]
    tracks = [len(clip.masks) for clip in given]
    for term in ("bbox", "iou"):
        for layer in range(2):
            key = f"d{layer}.loss_{term}"
            mean = sum(n * losses[key] for n, losses in zip(tracks, alone, strict=True))
            # Features at the border see the padding.
            assert together[key] == pytest.approx(mean / sum(tracks), rel=0.02)


@pytest.mark.parametrize("per", ["prediction", "instance", "frame", "clip"])
def test_every_weight_gets_a_gradient_without_objects(per):
    model, clip = trainable(per), clips()[0]
    empty = TrainingClip(clip.frames, clip.masks[:0], clip.labels[:0])
    losses = train(model, [empty])
    assert losses["d1.loss_mask"] == losses["d1.loss_bbox"] == losses["d1.loss_dice"] == 0
    missing = [k for k, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_more_tracks_than_instances():
    model, clip = trainable(), clips()[0]
    repeated = TrainingClip(clip.frames, clip.masks[[0, 1, 2] * 3], clip.labels[[0, 1, 2] * 3])
    assert np.isfinite(list(train(model, [repeated]).values())).all()


def test_a_clip_of_another_length_than_the_queries():
    with pytest.raises(ValueError, match="a clip of 3 frames came to queries of 4 frames"):
        trainable().loss(**training_batch(small_model(), clips(3)))


def test_training_learns_a_clip():
    """Also through the checkpointed losses at the size of the frames."""
    torch.manual_seed(0)
    model = MODELS.build(small_config()).train()
    given = clips()[:1]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    first = None
    for _ in range(40):
        losses = train(model, given)
        first = first or losses
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert losses["d1.loss_dice"] < 0.95 * first["d1.loss_dice"]


def test_only_frames_that_show_the_object_are_supervised():
    """Where the matched object is absent: "no object", no loss of box and mask."""
    model, (clip, _) = trainable(), clips()
    absent = ~clip.masks.any(axis=(2, 3))
    assert absent[0].tolist() == [False, True, True, False] and not absent[1:].any()
    matchings = []
    match = model.criterion.match
    model.criterion.match = lambda *given: matchings.append(match(*given)) or matchings[-1]
    batch = training_batch(model, [clip])
    predictions, _ = predict(model, batch)
    for values in predictions:
        values.logits.retain_grad(), values.boxes.retain_grad()
    matching = model.criterion.match(predictions[-1], targets_of(model, batch))
    losses = model.criterion(predictions[-1], matching)
    sum(losses.values()).backward()
    boxes = predictions[-1].boxes.grad[0]  # (T, N, 4)
    for query, present in zip(matching.queries.tolist(), matching.tracks.present, strict=True):
        assert (boxes[:, query].abs().sum(-1) > 0).tolist() == present.tolist()
    others = [n for n in range(NUM_INSTANCES) if n not in matching.queries.tolist()]
    assert not boxes[:, others].any()
    # Logits of a pushed column have a negative gradient.
    pushed = predictions[-1].logits.grad[0].argmin(-1)  # (T, N)
    track = matching.tracks.present.all(1).logical_not().nonzero().item()
    column, query = int(clip.labels[0]), matching.queries[track]
    assert pushed[:, query].tolist() == [column, 7, 7, column]
    assert (pushed[:, others] == 7).all()


def predict(model, batch):
    from mmvis_plugin.models.vistr.network import FrameFeatures

    inputs = batch["inputs"]
    frames = model.network.frame_features(inputs.flatten(0, 1))
    features = FrameFeatures(
        frames.cells.unflatten(0, inputs.shape[:2]),
        tuple(lateral.unflatten(0, inputs.shape[:2]) for lateral in frames.laterals),
    )
    size = tuple(inputs.shape[-2:])
    return model.network(features, size, [size])


def targets_of(model, batch):
    from mmvis_plugin.models.vistr.criterion import track_targets

    size = batch["inputs"].shape[-2:]
    return [track_targets(sample, size) for sample in batch["data_samples"]]


# --- images ---------------------------------------------------------------------------------------


def test_images_of_different_sizes():
    """The detector of the COCO start trains on a padded batch and finds instances of each image."""
    init_default_scope("mmdet")
    cfg = small_config().copy()
    cfg.network.queries.update(per="instance", num_frames=1, num_instances=7)
    cfg.network.mask_head.update(deformable=False, clip_channels=None)
    frames = dict(cfg.data_preprocessor, type="DetDataPreprocessor")
    torch.manual_seed(0)
    detector = MODELS.build(
        dict(
            type="VisTRDetector",
            network=cfg.network,
            criterion=cfg.criterion,
            data_preprocessor=frames,
        )
    )
    batch = dict(inputs=[], data_samples=[])
    for clip in clips(1):
        size = clip.frames.shape[1:3]
        objects = InstanceData(
            bboxes=torch.from_numpy(clip.boxes()[:, 0]),
            labels=torch.from_numpy(clip.labels - 1),
            masks=BitmapMasks(clip.masks[:, 0].astype(np.uint8), *size),
        )
        original = size[0] * 2, size[1] * 2
        meta = dict(img_shape=size, ori_shape=original, scale_factor=(0.5, 0.5))
        batch["data_samples"].append(DetDataSample(metainfo=meta, gt_instances=objects))
        batch["inputs"].append(torch.from_numpy(clip.frames[0]).permute(2, 0, 1))
    data = detector.data_preprocessor(copy.deepcopy(batch), training=True)
    losses = detector(**data, mode="loss")
    sum(losses.values()).backward()
    assert not [k for k, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    with torch.no_grad():
        found = detector.eval()(**detector.data_preprocessor(batch), mode="predict")
    for sample, clip in zip(found, clips(1), strict=True):
        size = 2 * clip.frames.shape[1], 2 * clip.frames.shape[2]
        objects = sample.pred_instances
        assert objects.masks.shape == (7, *size) and objects.masks.any()
        assert objects.bboxes[:, 2].max() <= 1.5 * size[1]
