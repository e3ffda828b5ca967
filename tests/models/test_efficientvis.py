"""The EfficientVIS segmentor: clip pairs in training, and the streaming contract."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from streaming import SIZE, assert_same, metas, run, run_interleaved
from streaming import video as noise

from mmvis_plugin.models.efficientvis.efficientvis import inside
from mmvis_plugin.models.efficientvis.tracklet_head import TrackletPredictions
from mmvis_plugin.models.layers.clip_targets import clip_targets, sample_instances

CONFIG = Path(__file__).parents[2] / "configs/efficientvis/efficientvis_r18_shapes.py"
T, N = 4, 5


def build(**changes):
    """An untrained model whose queries disagree on classes and masks."""
    init_default_scope("mmdet")
    settings = Config.fromfile(CONFIG, import_custom_modules=False).model
    settings.pop("init_cfg")
    settings.tracklet_head.num_queries = N
    for key, value in (dict(clip_length=T, frames_per_batch=3) | changes).items():
        settings[key] = value
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    for stage in model.tracklet_head.stages:
        torch.nn.init.normal_(stage.fc_cls.weight, std=0.3)
        torch.nn.init.normal_(stage.fc_reg.weight, std=0.05)
        torch.nn.init.normal_(stage.mask_head.conv_logits.weight, std=1.0)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build()


def video(seed, num_frames):
    return noise(seed, num_frames, contrast=2.0)


# --- streaming ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 10])
def test_results_do_not_depend_on_how_frames_are_cut(model, cut):
    frames = video(0, 10)
    reference = run(model, frames, [3, 1, 5, 1])
    assert [frame.frame_id for frame in reference[0]] == list(range(10))
    assert sum(len(frame.pred_track_instances) for frame in reference[0]) > 5
    assert_same(run(model, frames, cut), reference)


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_videos_shorter_than_a_clip_and_clips_of_one_frame(model, length):
    results, _ = run(model, video(1, length), 1)
    assert [frame.frame_id for frame in results] == list(range(length))


def test_a_short_video_is_segmented_as_a_clip_of_its_length(model):
    short = build(clip_length=3)
    assert_same(run(model, video(1, 3), 1), run(short, video(1, 3), 1))


def test_two_videos_can_be_interleaved(model):
    videos = [video(2, 6), video(3, 6)]
    for frames, result in zip(videos, run_interleaved(model, videos), strict=True):
        assert_same(result, run(model, frames, 1))


def state_bytes(state):
    """Bytes of the tensors that a running video holds."""
    tensors = [*state.frames, *vars(state.links).values(), *state.scores.values()]
    return sum(x.nbytes for x in tensors if isinstance(x, torch.Tensor))


def test_state_is_bounded_by_the_clip():
    model = build(linking=dict(type="QueryLinking", reset_after=1))
    frames, state, most = video(4, 40), model.start_video({}), []
    for t in range(40):
        final = model.step(state, frames[t : t + 1], metas(40)[t : t + 1])
        assert [f.frame_id for f in final] == (list(range(t - 3, t + 1)) if t % T == 3 else [])
        assert len(state.frames) < T
        if t % T == T - 2:
            most.append(state_bytes(state))
    assert max(most) - min(most) <= 8 * len(state.scores) * 6


def test_predict_is_the_stream_frame_by_frame(model):
    frames, facts, results = video(6, 7), metas(7), []
    for t in range(7):
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=facts[t])]
        (output,) = model(frames[None, t : t + 1], [sample], mode="predict")
        final = output.get("video_data_samples", [])
        assert len(final) == {3: 4, 6: 3}.get(t, 0)
        assert ("pred_tracks" in output) == (t == 6)
        results += final
    assert_same((results, output.pred_tracks), run(model, frames, 7))


def test_frames_come_out_at_their_original_size(model):
    results, tracks = run(model, video(5, 6), 6)
    shown = set()
    for frame in results:
        instances = frame.pred_track_instances
        assert len(set(instances.instances_id.tolist())) == len(instances)
        assert (instances.bboxes >= 0).all()
        assert (instances.bboxes <= torch.tensor([130.0, 90, 130, 90])).all()
        assert all(mask_utils.decode(mask).shape == (90, 130) for mask in instances.masks)
        assert all(mask_utils.area(mask) > 0 for mask in instances.masks)
        shown |= set(instances.instances_id.tolist())
    assert sorted(shown) == tracks.instances_id.tolist()


def test_a_clip_has_a_frame():
    with pytest.raises(ValueError, match="clip_length must be at least 1, got 0"):
        build(clip_length=0)


def test_bfloat16_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results, tracks = run(model, video(0, 6), 6)
    assert len(results) == 6 and sum(len(f.pred_track_instances) for f in results) > 0
    assert tracks.scores.isfinite().all() and tracks.scores.dtype == torch.float32


# --- the queries from clip to clip --------------------------------------------------------------


class Recorder:
    """Notes what a head is given and gives."""

    def __init__(self, head, monkeypatch):
        self.given, self.out, self.predictions = [], [], []
        forward = head.forward

        def recording(x, queries, *args):
            predictions, out = forward(x, queries, *args)
            if out.requires_grad:
                out.retain_grad()
            self.given.append(queries)
            self.out.append(out)
            self.predictions.append(predictions)
            return predictions, out

        monkeypatch.setattr(head, "forward", recording)


def test_a_clip_starts_from_the_mean_queries_of_the_one_before(model, monkeypatch):
    calls = Recorder(model.tracklet_head, monkeypatch)
    results, _ = run(model, video(0, 10), 10)
    assert len(calls.given) == 3 and calls.out[2].shape[2] == 2  # a clip of the last two frames
    initial = model.tracklet_head.initial_queries
    assert torch.equal(calls.given[0][0], initial)
    for k in (1, 2):
        before = [i for f in results[: k * T] for i in f.pred_track_instances.instances_id.tolist()]
        for query in range(N):
            # Nothing is reset here: a query's number is its identity.
            held = query in before or not model.linking.free_unused
            expected = calls.out[k - 1][0, query].mean(0) if held else initial[query]
            assert torch.equal(calls.given[k][0, query], expected)
        # Proposals start anew in every clip.
        first = calls.predictions[k][0]
        assert first.boxes.shape == (1, N, (4, 4, 2)[k], 4)


def test_scores_are_means_over_the_frames_of_a_track(model, monkeypatch):
    calls = Recorder(model.tracklet_head, monkeypatch)
    results, tracks = run(model, video(0, 10), 10)
    logits = torch.cat([p[-1].logits[0] for p in calls.predictions], dim=1)
    probabilities = logits.softmax(-1)[..., :-1]
    listed = [set(f.pred_track_instances.instances_id.tolist()) for f in results]
    assert any(len(ids) < len(set.union(*listed)) for ids in listed), "some track is away"
    for track, label, score in zip(
        tracks.instances_id.tolist(), tracks.labels.tolist(), tracks.scores.tolist(), strict=True
    ):
        mean = probabilities[track, [t for t, ids in enumerate(listed) if track in ids]].mean(0)
        assert label == int(mean.argmax())
        assert score == pytest.approx(float(mean.max()), rel=1e-5)


@pytest.mark.parametrize(
    ("free_unused", "ids", "starts_anew"),
    [
        (True, [[0, 1, 2, 3, 4]] * 3 + [[0, 1, 2, 5, 4]] * 2, [[1], [1], [1, 3], [1, 3]]),
        (
            False,
            [[0, 1, 2, 3, 4]] * 2 + [[0, 5, 2, 3, 4], [0, 5, 2, 6, 4], [0, 7, 2, 6, 4]],
            [[], [1], [3], [1]],
        ),
    ],
)
def test_queries_of_nothing_are_free_and_gone_ones_are_reset(
    monkeypatch, free_unused, ids, starts_anew
):
    """Query 1 never holds anything; query 3 holds something in the first clip only."""
    model = build(linking=dict(type="QueryLinking", reset_after=2, free_unused=free_unused))
    calls = Recorder(model.tracklet_head, monkeypatch)
    background = [1]
    for stage in model.tracklet_head.stages:
        monkeypatch.setattr(stage, "classify", lambda f: fixed_logits(f, background))
    state, found = model.start_video({}), []
    facts = metas(5 * T)
    for k in range(5):
        found.append(state.links.ids.tolist())
        model.step(state, video(k, T), facts[k * T : (k + 1) * T])
        background[1:] = [3]
    assert found == ids
    initial = model.tracklet_head.initial_queries
    anew = [(given[0] == initial).all(1).nonzero()[:, 0].tolist() for given in calls.given]
    assert anew == [[0, 1, 2, 3, 4], *starts_anew]
    _, tracks = model.finish(state)
    assert tracks.instances_id.tolist() == [0, 2, 3, 4]


def fixed_logits(features, background):
    logits = torch.zeros(*features.shape[:3], 7)
    logits[..., 2] = 5
    logits[:, background, :, 6] = 10
    return logits


def test_hand_craft_links_by_rules_and_starts_every_clip_anew(monkeypatch):
    model = build(linking=dict(type="HandCraftLinking", min_affinity=0.3))
    calls = Recorder(model.tracklet_head, monkeypatch)
    frames = video(0, T).repeat(3, 1, 1, 1)  # the same clip three times
    results, tracks = run(model, frames, T)
    assert all(torch.equal(q[0], model.tracklet_head.initial_queries) for q in calls.given)
    first = [f.pred_track_instances.instances_id.tolist() for f in results[:T]]
    assert sum(map(len, first)) > 0
    for k in (1, 2):
        again = [f.pred_track_instances.instances_id.tolist() for f in results[k * T : (k + 1) * T]]
        assert again == first
    assert tracks.instances_id.tolist() == [0, 1]


def test_a_tracklet_outside_the_frame_has_no_mask(model, monkeypatch):
    """Nothing keeps the box of an absent object inside; MMDetection cannot paste there."""
    boxes = torch.tensor([[-50.0, 5, -20, 30], [90, 5, 120, 30], [-8, -8, 8, 8], [3, 70, 9, 80]])
    assert inside(boxes, (60, 87)).tolist() == [False, False, True, False]

    def forward(x, queries, image_sizes, valid=None):
        count, num_frames = queries.shape[1], len(x[0])
        away = boxes[:1].expand(1, count, num_frames, 4)
        logits = torch.zeros(1, count, num_frames, 7)
        logits[..., 0] = 5
        masks = torch.ones(1, count, num_frames, 20, 20)
        return [TrackletPredictions(logits, away, masks, away)], queries[:, :, None]

    monkeypatch.setattr(model.tracklet_head, "forward", forward)
    results, tracks = run(model, video(0, 4), 4)
    assert not any(len(frame.pred_track_instances) for frame in results)
    assert len(tracks) == 0


# --- training -----------------------------------------------------------------------------------


def clip_pair(ids_per_frame, padded=()):
    """Frames whose object ``i`` covers row band ``i``; boxes agree."""
    frames = []
    for t, ids in enumerate(ids_per_frame):
        masks = np.zeros((len(ids), *SIZE), dtype=np.uint8)
        for n, i in enumerate(ids):
            masks[n, 12 * i : 12 * i + 12, 8:40] = 1
        frame = DetDataSample(
            metainfo=dict(img_shape=SIZE, is_padding=t in padded, batch_input_shape=SIZE)
        )
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor([[8, 12 * i, 40, 12 * i + 12] for i in ids]).float().reshape(-1, 4),
            labels=torch.tensor(ids).long() % 6,
            masks=BitmapMasks(masks, *SIZE),
            instances_ids=torch.tensor(ids).int(),
        )
        frames.append(frame)
    sample = TrackDataSample()
    sample.video_data_samples = frames
    return sample


def test_targets_follow_identities_not_positions_in_the_list():
    sample = clip_pair([[3, 1], [1, 3], [], [0]])
    ids, labels = sample_instances(sample)
    assert ids.tolist() == [0, 1, 3] and labels.tolist() == [0, 1, 3]
    valid = torch.tensor([True, True, True, False])
    targets = clip_targets(sample.video_data_samples, ids, labels, valid, SIZE)
    assert targets.present.tolist() == [[0] * 4, [1, 1, 0, 0], [1, 1, 0, 0]]
    assert targets.bboxes[1, 1].tolist() == [8, 12, 40, 24]
    rows = targets.masks.any(-1).float()
    assert rows[2, 0].nonzero()[:, 0].tolist() == list(range(36, 48))
    assert not targets.masks[0].any() and not targets.masks[:, 2:].any()


@pytest.fixture
def training(model):
    model.train()
    model.zero_grad()
    yield model
    model.zero_grad()
    model.eval()


def test_a_pair_is_trained_with_one_assignment(training, monkeypatch):
    """Object 1 is in both clips and keeps its query; 2 is in the first only, 0 in the second."""
    model = training
    monkeypatch.setattr(model, "late_share", 0.0)
    calls = Recorder(model.tracklet_head, monkeypatch)
    assignments = []
    assign = model.criterion.assign
    monkeypatch.setattr(
        model.criterion, "assign", lambda *a: assignments.append(assign(*a)[0]) or [assignments[-1]]
    )
    sample = clip_pair([[1, 2]] * T + [[0, 1]] * T)
    losses = model.loss(video(7, 2 * T)[None], [sample])
    terms = ("cls", "bbox", "iou", "mask", "dice")
    assert set(losses) == {
        f"clip{c}.s{s}.loss_{x}" for c in (1, 2) for s in range(4) for x in terms
    }

    first, second = assignments[:4], assignments[4:]
    held = torch.zeros(N, dtype=torch.bool)
    held[first[-1][1:]] = True
    assert torch.equal(calls.given[1][0, held], calls.out[0].mean(2)[0, held])
    assert torch.equal(calls.given[1][0, ~held], model.tracklet_head.initial_queries[~held])
    assert all(a[0] == -1 and (a[1:] >= 0).all() for a in first)
    for assignment in second:
        assert assignment[1:].tolist() == first[-1][1:].tolist()
        assert assignment[0] >= 0 and assignment[0] not in first[-1]

    sum(value for name, value in losses.items() if name.startswith("clip2")).backward()
    gradient = calls.out[0].grad[0, held]
    assert (gradient.abs().sum(-1) > 0).all(), "the second clip trains the queries of the first"


def test_objects_treated_as_late_are_taken_up_by_free_queries(training, monkeypatch):
    model = training
    monkeypatch.setattr(model, "late_share", 1.0)
    calls = Recorder(model.tracklet_head, monkeypatch)
    assignments = []
    assign = model.criterion.assign
    monkeypatch.setattr(
        model.criterion, "assign", lambda *a: assignments.append(assign(*a)[0]) or [assignments[-1]]
    )
    model.loss(video(7, 2 * T)[None], [clip_pair([[1, 2]] * 2 * T)])
    assert torch.equal(calls.given[1][0], model.tracklet_head.initial_queries)
    assert all((assignment >= 0).all() for assignment in assignments)


def test_every_parameter_learns_from_a_pair(training):
    samples = [clip_pair([[1], [1, 2], [], [2]] * 2), clip_pair([[]] * 4 + [[3]] * 4)]
    losses = training.loss(torch.stack([video(8, 2 * T), video(9, 2 * T)]), samples)
    sum(losses.values()).backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for name in ("backbone.conv1.weight", "tracklet_head.tracklets.init_proposal_bboxes.weight"):
        assert training.get_parameter(name).grad.abs().max() > 0, name


def test_clips_without_objects_train(training):
    losses = training.loss(video(9, T)[None], [clip_pair([[]] * T)])
    sum(losses.values()).backward()
    assert all(v == 0 for k, v in losses.items() if "cls" not in k)


def test_padding_takes_no_part_in_training(training):
    """Its pixels and its ground truth have no influence."""
    samples = [clip_pair([[1]] * T), clip_pair([[2], [2], [1, 2], [1, 2]], padded=(2, 3))]
    inputs = torch.stack([video(8, T), video(9, T)]).requires_grad_()
    losses = training.loss(inputs, samples)
    sum(losses.values()).backward()
    assert inputs.grad[1, 2:].abs().max() == 0
    assert (inputs.grad.flatten(2).abs().sum(-1) > 0).tolist() == [
        [True] * 4,
        [True, True] + [False] * 2,
    ]
    other = [samples[0], clip_pair([[2], [2], [0], []], padded=(2, 3))]
    changed = training.loss(inputs.detach(), other)
    assert all(torch.allclose(changed[k], losses[k], rtol=1e-4) for k in losses)


def test_what_pads_the_whole_batch_is_not_computed(training, monkeypatch):
    calls = Recorder(training.tracklet_head, monkeypatch)
    sample = clip_pair([[1]] * T, padded=(2, 3))
    training.loss(video(8, T)[None], [sample])
    assert calls.out[0].shape[2] == 2


def test_wrong_settings_are_named(model):
    with pytest.raises(ValueError, match="samples of 6 frames do not make clips of 4"):
        model.loss(video(0, 6)[None], [clip_pair([[1]] * 6)])
    with pytest.raises(ValueError, match="reset_after must be at least 1 clip, got 0"):
        build(linking=dict(type="QueryLinking", reset_after=0))
    with pytest.raises(ValueError, match="min_affinity must be in"):
        build(linking=dict(type="HandCraftLinking", min_affinity=2))
