"""IFC's network, criterion and streaming on small models."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from streaming import SIZE, assert_same, metas, run, run_interleaved, video

from mmvis_plugin.models.ifc.criterion import track_targets
from mmvis_plugin.models.ifc.encoder import IFCEncoder
from mmvis_plugin.models.ifc.ifc import clip_losses
from mmvis_plugin.models.ifc.network import FrameFeatures, padded_cells

CONFIG = Path(__file__).resolve().parents[2] / "configs/ifc/ifc_r18_shapes.py"


def small_model(**changes):
    """A model for ShapesVIS with random weights whose queries find objects now and then."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIG)
    cfg.model.network.backbone.init_cfg = None
    cfg.model.update(changes)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    last = model.network.class_head.layers[-1]
    last.weight.data *= 8
    last.bias.data[-1] = 1.0
    model.network.query_embed.weight.data *= 3
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return small_model()


# --- the network ----------------------------------------------------------------------------------


def encoder(**switches):
    torch.manual_seed(0)
    return IFCEncoder(2, 16, 4, 24, dropout=0.0, **switches).eval()


def influence(module, num_frames=4, num_cells=6):
    """(T, T) bool: whether the cells of frame i, put out, depend on the input of frame j."""
    torch.manual_seed(1)
    cells = torch.randn(1, num_frames, num_cells, 16, requires_grad=True)
    position = torch.randn(1, 1, num_cells, 16).expand(-1, num_frames, -1, -1)
    x, _, _ = module(cells, position, None)
    weights = torch.randn(num_cells, 16)
    rows = [
        torch.autograd.grad((x[0, t, :num_cells] * weights).sum(), cells, retain_graph=True)[0]
        for t in range(num_frames)
    ]
    return torch.stack([row[0].flatten(1).abs().amax(1) for row in rows]) > 1e-9


@pytest.mark.parametrize(
    ("switches", "communicates"),
    [
        (dict(communication="memory"), True),
        (dict(communication="memory", unified_memory=True), True),
        (dict(communication="full"), True),
        (dict(communication="divided"), True),
        (dict(communication="none"), False),
    ],
)
def test_which_frames_tell_each_other_something(switches, communicates):
    depends = influence(encoder(**switches))
    assert depends.diagonal().all()
    others = depends[~torch.eye(4, dtype=torch.bool)]
    assert others.all() if communicates else not others.any()


@pytest.mark.parametrize("communication", ["memory", "full", "divided"])
def test_a_clip_is_a_set_of_frames(communication):
    module = encoder(communication=communication)
    cells, position = torch.randn(2, 5, 6, 16), torch.randn(2, 1, 6, 16).expand(-1, 5, -1, -1)
    order = torch.tensor([3, 0, 4, 1, 2])
    x, _, _ = module(cells, position, None)
    permuted, _, _ = module(cells[:, order], position, None)
    torch.testing.assert_close(permuted, x[:, order], atol=1e-5, rtol=0)


def test_each_token_speaks_to_itself_alone_unless_they_are_unified():
    """After one block a token depends on the same token of other frames, not on other tokens."""
    for unified in (False, True):
        module = IFCEncoder(1, 16, 4, 24, num_memory=3, unified_memory=unified).eval()
        tokens = torch.randn(1, 4, 3, 16, requires_grad=True)
        out = module._gather(module.time_layers[0], tokens)
        (gradient,) = torch.autograd.grad((out[0, 0, 1] * torch.randn(16)).sum(), tokens)
        depends = gradient[0].abs().amax(-1) > 1e-9
        assert depends[:, 1].all()
        assert depends.all() if unified else not depends[:, [0, 2]].any()


@pytest.mark.parametrize("communication", ["memory", "none", "full", "divided"])
def test_what_is_in_padded_cells_does_not_matter(communication):
    network = small_model().network
    parts = Config.fromfile(CONFIG).model.network.encoder
    torch.manual_seed(0)
    network.encoder = MODELS.build({**parts, "communication": communication}).eval()
    alone = FrameFeatures(*(torch.randn(1, 3, 96, 4 * n, 5 * n) for n in (1, 2, 4)))
    padded = FrameFeatures(*(torch.randn(1, 3, 96, 6 * n, 8 * n) for n in (1, 2, 4)))
    padded.cells[..., :4, :5] = alone.cells
    with torch.no_grad():
        expected, _ = network(alone)
        torch.testing.assert_close(network(padded, [(64, 80)])[0], expected, atol=1e-4, rtol=0)
        assert (network(padded, [(96, 128)])[0] - expected).abs().max() > 1e-2


def test_a_cell_with_a_pixel_is_not_padding():
    cells = torch.zeros(2, 1, 1, 4, 5)
    padding = padded_cells(cells, [(97, 130), (64, 160)], stride=32)
    assert (~padding).sum((1, 2)).tolist() == [4 * 5, 2 * 5]
    assert padded_cells(cells, [(97, 130), (128, 160)], stride=32) is None
    assert padded_cells(cells, None, stride=32) is None


def test_encoder_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="memory, none, full, divided"):
        encoder(communication="shout")
    with pytest.raises(ValueError, match="num_memory"):
        encoder(num_memory=0)


# --- losses ---------------------------------------------------------------------------------------


def frame_sample(boxes, labels, ids, size=SIZE):
    """Objects that are rectangles (top, left, bottom, right)."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    objects = InstanceData(
        labels=torch.tensor(labels, dtype=torch.long),
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)[:, [1, 0, 3, 2]],
        masks=BitmapMasks(masks.numpy(), *size),
        instances_ids=torch.tensor(ids, dtype=torch.long),
    )
    return DetDataSample(metainfo=dict(img_shape=size, ori_shape=size), gt_instances=objects)


def clip_sample(frames):
    sample = TrackDataSample()
    sample.video_data_samples = frames
    return sample


def test_targets_are_soft_and_leave_out_what_is_not_there(model):
    """An object absent from a frame has an empty mask there; one without a pixel is no track."""
    frames = [
        frame_sample([(0, 0, 9, 10), (5, 5, 5, 9)], [1, 2], [4, 7]),
        frame_sample([], [], []),
    ]
    (target,) = model.criterion.prepare([track_targets(clip_sample(frames), SIZE)])
    assert target.labels.tolist() == [1]
    assert target.masks.shape == (1, 2, SIZE[0] // 2, SIZE[1] // 2)
    assert target.masks[0, 1].sum() == 0
    assert target.masks[0, 0].sum() * 4 == 9 * 10
    assert target.masks[0, 0, 4, 0] == 0.5


def slow_losses(model, logits, masks, targets):
    """Losses of one layer by loops over clips, queries and tracks (Sec. 3.2 and the repository)."""
    weights = torch.ones(7)
    weights[6] = 0.1
    labels, total, mask_loss, dice_loss = [], 0, 0.0, 0.0
    for b, target in enumerate(targets):
        size = target.masks.shape[-2:]
        large = torch.nn.functional.interpolate(masks[b].transpose(0, 1), size, mode="bilinear")
        costs = torch.zeros(len(logits[b]), len(target))
        for q, mask in enumerate(large.sigmoid()):
            for g, true in enumerate(target.masks):
                dice = (2 * (mask * true).sum() + 1) / (mask.sum() + true.sum() + 1)
                costs[q, g] = logits[b, q].softmax(0)[target.labels[g]] + 3 * dice
        clip_labels = torch.full((len(logits[b]),), 6)
        rows, columns = linear_sum_assignment(costs.detach().numpy(), maximize=True)
        for q, g in zip(rows, columns, strict=True):
            clip_labels[q] = target.labels[g]
            p, true = large[q].sigmoid(), target.masks[g]
            ce = -(true * p.log() + (1 - true) * (1 - p).log())
            pt = p * true + (1 - p) * (1 - true)
            alpha = 0.25 * true + 0.75 * (1 - true)
            mask_loss = mask_loss + (alpha * (1 - pt) ** 2 * ce).mean()
            dice_loss = dice_loss + 1 - (2 * (p * true).sum() + 1) / (p.sum() + true.sum() + 1)
        labels.append(clip_labels)
        total += len(target)
    labels = torch.cat(labels)
    losses = -logits.flatten(0, 1).log_softmax(1)[torch.arange(len(labels)), labels]
    ce = (losses * weights[labels]).sum() / weights[labels].sum()
    return ce, 3 * mask_loss / max(total, 1), 3 * dice_loss / max(total, 1)


def test_losses_are_those_of_the_slow_form(model):
    torch.manual_seed(0)
    clips = [
        clip_sample([frame_sample([(4, 4, 30, 40), (20, 50, 60, 90)], [0, 3], [0, 1])] * 2),
        clip_sample([frame_sample([], [], []), frame_sample([(10, 10, 50, 20)], [5], [2])]),
        clip_sample([frame_sample([], [], [])] * 2),
    ]
    targets = model.criterion.prepare([track_targets(clip, SIZE) for clip in clips])
    logits, masks = torch.randn(3, 9, 7), torch.randn(3, 2, 9, 16, 24)
    matching = model.criterion.match(logits, masks, targets)
    assert matching.clips.tolist() == [0, 0, 1] and matching.total == 3
    matched = masks.transpose(1, 2)[matching.clips, matching.queries]
    losses = model.criterion(logits, matched, matching)
    expected = slow_losses(model, logits, masks, targets)
    for name, value in zip(("loss_cls", "loss_mask", "loss_dice"), expected, strict=True):
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)


def test_total_is_the_mean_over_processes(model, monkeypatch):
    clips = [clip_sample([frame_sample([(4, 4, 30, 40)], [0], [0])] * 2)]
    targets = model.criterion.prepare([track_targets(clip, SIZE) for clip in clips])
    logits, masks = torch.randn(1, 9, 7), torch.randn(1, 2, 9, 16, 24)
    alone = model.criterion.match(logits, masks, targets)
    matched = masks.transpose(1, 2)[alone.clips, alone.queries]
    losses = model.criterion(logits, matched, alone)
    # Another process has seven tracks: the mean of two is four.
    monkeypatch.setattr(
        "mmvis_plugin.models.layers.clip_matching.reduce_mean", lambda total: (total + 7) / 2
    )
    among = model.criterion.match(logits, masks, targets)
    assert among.total == 4
    shared = model.criterion(logits, matched, among)
    torch.testing.assert_close(shared["loss_mask"] * 4, losses["loss_mask"])
    torch.testing.assert_close(shared["loss_dice"] * 4, losses["loss_dice"])
    torch.testing.assert_close(shared["loss_cls"], losses["loss_cls"])


def test_a_clip_without_objects_gives_every_parameter_a_gradient():
    model = small_model().train()
    sample = clip_sample([frame_sample([], [], [])] * 3)
    losses = model.loss(torch.randn(1, 3, 3, *SIZE), [sample])
    assert len(losses) == 9 and all(value.isfinite() for value in losses.values())
    assert losses["d2.loss_mask"] == losses["d2.loss_dice"] == 0
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_masks_of_unmatched_queries_need_no_gradient(model):
    """The largest tensor that is kept for the gradient is not one of all queries' masks."""
    sample = clip_sample([frame_sample([(4, 4, 30, 40)], [0], [0])] * 3)
    inputs = torch.randn(1, 3, 3, *SIZE)
    kept = []

    def pack(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        clip_losses(model.network, model.criterion, inputs, [SIZE], [track_targets(sample, SIZE)])
    queries = model.network.query_embed.num_embeddings
    assert not [shape for shape in kept if len(shape) > 2 and queries in shape and 24 in shape]


def test_an_image_is_a_clip_of_one_frame(model):
    """The detector has the losses of the video model, and gives the queries whose class is one."""
    cfg = Config.fromfile(CONFIG)
    parts = dict(network=cfg.model.network, criterion=cfg.model.criterion)
    parts["network"].backbone.init_cfg = None
    detector = MODELS.build(dict(type="IFCDetector", **parts)).eval()
    detector.load_state_dict(model.state_dict())
    frames = torch.randn(2, 3, *SIZE) * 3
    samples = [
        frame_sample([(4, 4, 30, 40), (20, 50, 60, 90)], [0, 3], [0, 1]),
        frame_sample([], [], []),
    ]
    expected = model.loss(frames[:, None], [clip_sample([sample]) for sample in samples])
    losses = detector.loss(frames, samples)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)

    with torch.no_grad():
        results = detector.predict(frames, samples)
        logits, masks = detector._forward(frames, samples)
    assert sum(len(result.pred_instances) for result in results) > 0
    for result, scores, grid in zip(results, logits.softmax(2), masks, strict=True):
        found = result.pred_instances
        best, labels = scores.max(1)
        kept = (labels < 6) & (grid > 0).flatten(1).any(1)
        assert found.labels.tolist() == labels[kept].tolist()
        torch.testing.assert_close(found.scores, best[kept])
        assert found.masks.shape[1:] == SIZE and found.bboxes.shape == (len(found), 4)
        for mask, box in zip(found.masks, found.bboxes, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(corner) for corner in corners]
    with pytest.raises(ValueError, match="original size"):
        detector.predict(frames, samples, rescale=False)


# --- streaming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [dict(length=5, stride=1), dict(length=6, stride=4)])
def test_results_do_not_depend_on_the_cut(windows):
    model = small_model(windows=windows)
    frames = video(3, 11, contrast=3.0)
    whole = run(model, frames, 11)
    assert sum(len(frame.pred_track_instances) for frame in whole[0]) > 11
    assert len(whole[1]) > 1
    for cuts in (1, 2, 7):
        assert_same(run(model, frames, cuts), whole)


def test_two_videos_are_interleaved(model):
    videos = [video(3, 9, contrast=3.0), video(4, 9, contrast=3.0)]
    together = run_interleaved(model, videos)
    for frames, result in zip(videos, together, strict=True):
        assert_same(result, run(model, frames, 1))


@pytest.mark.parametrize(
    ("length", "stride", "num_frames"),
    [(5, 1, 12), (5, 3, 12), (5, 5, 11), (6, 4, 12), (8, 4, 3), (4, 2, 4), (1, 1, 3)],
)
def test_when_frames_are_final_and_which_windows_there_are(length, stride, num_frames):
    model = small_model(windows=dict(length=length, stride=stride))
    closed, ready, held = [], [], []
    state, facts = model.start_video({}), metas(num_frames)
    link = state.linker.link

    def record(first, masks, probabilities):
        closed.append((first, masks.shape[1]))
        return link(first, masks, probabilities)

    state.linker.link = record
    for t, frame in enumerate(video(0, num_frames)):
        ready += [(f.frame_id, t) for f in model.step(state, frame[None], facts[t : t + 1])]
        held.append(len(state.frames))
    rest, _ = model.finish(state)
    ready += [(f.frame_id, num_frames) for f in rest]

    starts = []
    for start in range(0, num_frames, stride):
        if start + length >= num_frames:
            starts.append(max(0, num_frames - length))
            break
        starts.append(start)
    assert closed == [(start, min(length, num_frames)) for start in starts]
    assert [frame for frame, _ in ready] == list(range(num_frames))
    assert max(held) <= length
    # With stride 1 a frame waits for the window that begins with it.
    assert all(at - frame <= length for frame, at in ready)
    if stride == 1:
        assert all(at - frame == length - 1 for frame, at in ready if at < num_frames)


def test_testing_is_the_same_stream(model):
    """The Runner's way, frame by frame, gives what the inferencer's calls give."""
    frames, final, delayed = video(3, 8, contrast=3.0), [], 0
    for t, meta in enumerate(metas(8)):
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=meta)]
        (output,) = model(frames[None, t : t + 1], [sample], mode="predict")
        final += output.get("video_data_samples", [])
        delayed += "video_data_samples" not in output
    assert delayed == 4
    assert_same(run(model, frames, 8), (final, output.pred_tracks))


def test_a_class_is_named_before_the_end_and_decided_at_the_end():
    model = small_model(class_threshold=0.2)
    frames, tracks = run(model, video(3, 9, contrast=3.0), 1)
    named = {i for frame in frames for i in frame.pred_track_instances.instances_id.tolist()}
    decided = set(tracks.instances_id.tolist())
    assert decided < named or decided == named
    assert (tracks.scores > 0.2).all()
    one = small_model(multi_class=False)
    _, single = run(one, video(3, 9, contrast=3.0), 1)
    assert single.instances_id.tolist() == sorted(named)


def test_a_video_without_frames(model):
    frames, tracks = model.finish(model.start_video({}))
    assert frames == [] and len(tracks) == 0


def test_bfloat16_changes_little(model):
    frames = video(3, 7, contrast=3.0)
    expected, _ = run(model, frames, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results, tracks = run(model, frames, 1)
    assert tracks.scores.dtype == torch.float32 and len(results) == len(expected)
    counts = [sum(len(f.pred_track_instances) for f in r) for r in (results, expected)]
    assert counts[0] == pytest.approx(counts[1], rel=0.4) and min(counts) > 0


def state_size(value, seen=None):
    """Bytes of all tensors that a value holds, each storage once."""
    seen = {} if seen is None else seen
    if isinstance(value, torch.Tensor):
        seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    elif isinstance(value, dict):
        for item in value.values():
            state_size(item, seen)
    elif isinstance(value, (list, tuple)) or hasattr(value, "popleft"):
        for item in value:
            state_size(item, seen)
    elif hasattr(value, "__dict__"):
        state_size(vars(value), seen)
    return sum(seen.values())


def test_memory_of_900_frames_is_that_of_300():
    """But for the classes' sums, K + 2 numbers an identity."""
    model = small_model(windows=dict(length=5, stride=4))
    clip = torch.nn.functional.avg_pool2d(video(3, 30, contrast=3.0), 2)
    height, width = clip.shape[-2:]
    facts = dict(img_shape=(height, width), ori_shape=(height, width))
    state, sizes = model.start_video({}), {}
    for t in range(900):
        model.step(state, clip[t % 30][None], [facts])
        if t + 1 in (300, 900):
            sums = 4 * state.linker._class_sums.numel() + 4 * state.linker._num_windows.numel()
            sizes[t + 1] = state_size(state) - sums
    assert state.linker.class_scores().shape[0] > 3
    assert sizes[900] == pytest.approx(sizes[300], rel=0.02)
