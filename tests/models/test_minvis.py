"""MinVIS: linking, streaming, tracks, training and the shapes config."""

import copy
import itertools
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from streaming import ORIGINAL, SIZE, assert_same, metas, run, run_interleaved, video

from mmvis_plugin.apis import VISInferencer
from mmvis_plugin.config import remove_pretrained
from mmvis_plugin.models.minvis import match_queries
from mmvis_plugin.models.minvis.head import QueryOutputs

CONFIGS = Path(__file__).parents[2] / "configs/minvis"
CONFIG = CONFIGS / "minvis_r18_shapes.py"
NUM_QUERIES, NUM_CLASSES = 20, 6


def shapes_config() -> ConfigDict:
    cfg = Config.fromfile(CONFIG)
    remove_pretrained(cfg)
    return cfg.model


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(shapes_config())
    model.init_weights()
    # Untrained, all queries are nearly the same, and so are all frames.
    for embedding in (model.panoptic_head.query_feat, model.panoptic_head.query_embed):
        torch.nn.init.normal_(embedding.weight, std=2)
    torch.nn.init.normal_(model.panoptic_head.cls_embed.weight, std=0.5)
    return model.eval()


# --- linking --------------------------------------------------------------------------------------


def test_the_assignment_is_the_best_of_all():
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        previous, current = torch.randn(2, 5, 3, generator=generator).double()
        cosines = torch.nn.functional.cosine_similarity(previous[:, None], current, dim=-1)
        sums = {
            order: sum(cosines[i, row] for i, row in enumerate(order))
            for order in itertools.permutations(range(5))
        }
        assert tuple(match_queries(previous, current).tolist()) == max(sums, key=sums.get)
        # Lengths do not matter.
        scaled = current * torch.rand(5, 1, generator=generator) * 10
        assert torch.equal(match_queries(previous, scaled), match_queries(previous, current))


def permute_queries(model, order):
    for embedding in (model.panoptic_head.query_feat, model.panoptic_head.query_embed):
        embedding.weight.data = embedding.weight.data[order]


def test_identities_are_kept_when_the_order_of_queries_changes_between_frames(model):
    """The order of a frame's queries means nothing, so a network may have another in each frame."""
    frames = video(1, 6)
    frames[1:] = frames[:1] + 0.2 * frames[1:]  # a slow video
    expected = run(model, frames, cuts=1)
    shuffled = copy.deepcopy(model)
    state, results = shuffled.start_video({}), []
    generator = torch.Generator().manual_seed(0)
    for t, meta in enumerate(metas(6)):
        results += shuffled.step(state, frames[t : t + 1], [meta])
        permute_queries(shuffled, torch.randperm(NUM_QUERIES, generator=generator))
    rest, tracks = shuffled.finish(state)
    shown = [frame.pred_track_instances for frame in results]
    assert rest == [] and all(len(instances) > 5 for instances in shown)
    for frame, other in zip(expected[0], results, strict=True):
        frame, other = frame.pred_track_instances, other.pred_track_instances
        assert frame.instances_id.tolist() == other.instances_id.tolist()
        assert frame.labels.tolist() == other.labels.tolist()
        torch.testing.assert_close(frame.scores, other.scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(frame.bboxes, other.bboxes, atol=1, rtol=0)
    assert tracks.instances_id.tolist() == expected[1].instances_id.tolist()
    assert tracks.labels.tolist() == expected[1].labels.tolist()


# --- streaming ------------------------------------------------------------------------------------


def test_results_do_not_depend_on_the_cuts(model):
    frames = video(2, 9)
    whole = run(model, frames, cuts=9)
    assert sum(len(frame.pred_track_instances) for frame in whole[0]) > 9
    for cuts in (1, 7):
        assert_same(whole, run(model, frames, cuts))


def test_interleaved_videos(model):
    videos = [video(seed, 5) for seed in (3, 4)]
    for frames, together in zip(videos, run_interleaved(model, videos), strict=True):
        assert_same(run(model, frames, cuts=1), together)


def test_testing_is_the_same_stream(model):
    frames = video(5, 5)
    final = []
    for t, meta in enumerate(metas(5)):
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=meta)]
        (output,) = model(frames[None, t : t + 1], [sample], mode="predict")
        assert len(output.video_data_samples) == 1  # an online method
        final += output.video_data_samples
    assert_same(run(model, frames, cuts=5), (final, output.pred_tracks))


def test_prediction_in_bfloat16(model):
    frames = video(6, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results, tracks = run(model, frames, cuts=3)
    assert all(frame.pred_track_instances.scores.dtype == torch.float32 for frame in results)
    reference = run(model, frames, cuts=3)[1]
    torch.testing.assert_close(tracks.scores, reference.scores, atol=0.05, rtol=0)


# --- frames and tracks, of given outputs of the network -------------------------------------------


class Scripted(torch.nn.Module):
    """In place of the head: gives the frames' outputs in turn, over and over."""

    def __init__(self, class_logits, mask_logits, embeddings):
        super().__init__()
        self.outputs = class_logits, mask_logits, embeddings
        self.num_frames = 0

    def last_layer(self, x):
        t = self.num_frames % len(self.outputs[0])
        self.num_frames += 1
        return QueryOutputs(*(values[t : t + 1] for values in self.outputs))


def scripted(class_logits, mask_logits=None, **limits):
    """A model whose network says what it is told; its queries keep their order.

    Args:
        class_logits: (T, Q, K + 1).
        mask_logits: (T, Q, h, w); by default every query is everywhere.
        **limits: Of :class:`MinVIS`.
    """
    num_frames, num_queries = class_logits.shape[:2]
    if mask_logits is None:
        mask_logits = torch.ones(num_frames, num_queries, SIZE[0] // 4, SIZE[1] // 4)
    embeddings = torch.eye(num_queries).expand(num_frames, -1, -1)
    model = MODELS.build(dict(shapes_config(), **limits))
    model.backbone = torch.nn.Identity()
    model.panoptic_head = Scripted(class_logits, mask_logits, embeddings)
    return model.eval()


def test_tracks_are_the_best_pairs_of_query_and_class_by_mean_logits():
    class_logits = 3 * torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(0))
    _, tracks = run(scripted(class_logits, max_tracks=7), torch.zeros(4, 3, *SIZE), cuts=2)
    expected = {}
    for query in range(5):
        mean = sum(class_logits[t, query].double() for t in range(4)) / 4
        odds = [float(torch.exp(logit)) for logit in mean]
        for label in range(3):  # the fourth is no object
            expected[query, label] = odds[label] / sum(odds)
    best = sorted(expected, key=expected.get, reverse=True)[:7]
    pairs = list(zip(tracks.instances_id.tolist(), tracks.labels.tolist(), strict=True))
    assert pairs == best
    assert len({query for query, _ in pairs}) < 7  # an identity may come with several classes
    np.testing.assert_allclose(tracks.scores, [expected[pair] for pair in best], rtol=1e-6)


def test_a_frame_lists_the_best_queries_so_far():
    class_logits = torch.zeros(3, 4, 3)
    class_logits[0, :, 0] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    class_logits[2, :, 1] = torch.tensor([0.0, 0.0, 0.0, 12.0])
    frames, tracks = run(
        scripted(class_logits, max_candidates=2, max_tracks=1), torch.zeros(3, 3, *SIZE), cuts=1
    )
    shown = [frame.pred_track_instances for frame in frames]
    assert [instances.instances_id.tolist() for instances in shown] == [[0, 1], [0, 1], [0, 3]]
    assert shown[2].labels.tolist() == [0, 1]
    mean = torch.tensor([4 / 3, 0.0, 0.0]).softmax(0)[0]
    torch.testing.assert_close(shown[2].scores[0], mean)
    assert tracks.instances_id.tolist() == [3] and tracks.labels.tolist() == [1]


def test_queries_without_a_pixel_are_absent():
    mask_logits = torch.ones(2, 3, SIZE[0] // 4, SIZE[1] // 4)
    mask_logits[0, 1] = mask_logits[1, 2] = -1
    # Positive in the padding alone.
    mask_logits[1, 0] = -1
    mask_logits[1, 0, :, -1] = 1
    frames, _ = run(scripted(torch.zeros(2, 3, 3), mask_logits), torch.zeros(2, 3, *SIZE), cuts=1)
    ids = [frame.pred_track_instances.instances_id.tolist() for frame in frames]
    assert ids == [[0, 2], [1]]
    assert frames[0].pred_track_instances.masks[0]["size"] == list(ORIGINAL)
    assert frames[0].pred_track_instances.bboxes[0].tolist() == [0, 0, *ORIGINAL[::-1]]


def test_state_is_bounded():
    """900 frames leave no more behind than 300."""
    generator = torch.Generator().manual_seed(0)
    class_logits = torch.randn(7, 8, 4, generator=generator)
    model = scripted(class_logits, -torch.ones(7, 8, 16, 24))
    state, meta = model.start_video({}), metas(1)[0]
    held = {}
    for t in range(900):
        model.step(state, torch.zeros(1, 3, *SIZE), [meta])
        held[t + 1] = sum(value.numel() for value in vars(state).values() if torch.is_tensor(value))
    assert set(vars(state)) == {"meta", "num_frames", "num_final", "embeddings", "logit_sums"}
    assert held[300] == held[900] == 8 * 8 + 8 * 4


def test_a_video_without_frames(model):
    assert model.finish(model.start_video({})) == ([], None)


def test_limits_are_positive():
    with pytest.raises(ValueError, match="must be positive, got 10 and 0"):
        MODELS.build(dict(shapes_config(), max_candidates=0))


# --- training -------------------------------------------------------------------------------------


def clip(labels, num_frames=1):
    """Frames with a square of each class, as a sample; an empty list for no object."""
    frames = []
    for t in range(num_frames):
        masks = np.zeros((len(labels), *SIZE), np.uint8)
        for i, mask in enumerate(masks):
            mask[8 + 4 * t : 40 + 4 * t, 4 + 30 * i : 30 + 30 * i] = 1
        size = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), SIZE)
        frame = DetDataSample(metainfo=size)
        frame.gt_instances = InstanceData(
            labels=torch.tensor(labels, dtype=torch.long), masks=BitmapMasks(masks, *SIZE)
        )
        frames.append(frame)
    sample = TrackDataSample()
    sample.video_data_samples = frames
    return sample


def total(losses):
    return sum(value for name, value in losses.items() if "loss" in name)


def test_losses_are_mask2formers_on_single_frames(model):
    """As MMDetection's ``Mask2Former`` on the same frames; a clip is so many images."""
    cfg = shapes_config()
    head = dict(cfg.panoptic_head, type="Mask2FormerHead", num_stuff_classes=0)
    head["num_things_classes"] = head.pop("num_classes")
    head["loss_cls"] = dict(head["loss_cls"], class_weight=[1.0] * NUM_CLASSES + [0.1])
    fusion = dict(type="MaskFormerFusionHead", num_things_classes=NUM_CLASSES, num_stuff_classes=0)
    theirs = MODELS.build(
        ConfigDict(
            type="Mask2Former",
            backbone=cfg.backbone,
            train_cfg=head.pop("train_cfg"),
            panoptic_head=head,
            panoptic_fusion_head=fusion,
        )
    )
    # The weights fit in both directions.
    theirs.load_state_dict(model.state_dict(), strict=True)
    copy.deepcopy(model).load_state_dict(theirs.state_dict(), strict=True)
    samples = [clip([0, 3], num_frames=2), clip([2], num_frames=2)]
    frames = torch.stack([video(7, 2), video(8, 2)])
    torch.manual_seed(0)
    ours = model(frames, samples, mode="loss")
    torch.manual_seed(0)
    images = [frame for sample in samples for frame in sample.video_data_samples]
    expected = theirs.eval().loss(frames.flatten(0, 1), images)
    assert ours.keys() == expected.keys() and len(ours) == 4 * 3
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


def test_frames_without_an_object_do_not_weaken_the_others(model):
    model = copy.deepcopy(model).train()
    frames, samples = video(11, 2)[:, None], [clip([1, 4]), clip([])]
    alone, together = (model(frames[:count], samples[:count], mode="loss") for count in (1, 2))
    # The same points would give the same loss; these are others.
    for name in ("loss_mask", "loss_dice"):
        torch.testing.assert_close(together[name], alone[name], rtol=0.1, atol=0)


def test_training_steps_decrease_the_loss(model):
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    frames, samples = video(9, 1)[None], [clip([1, 4])]
    values = []
    for step in range(8):
        torch.manual_seed(step)
        loss = total(model(frames, samples, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    # Not in the first step, in which the blocks of the backbone add nothing.
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert max(values[-2:]) < 0.8 * values[0]


def test_a_batch_without_an_object_trains(model):
    model = copy.deepcopy(model).train()
    losses = model(video(10, 1)[None], [clip([])], mode="loss")
    total(losses).backward()
    assert total(losses).isfinite()
    assert float(losses["loss_mask"]) == float(losses["loss_dice"]) == 0


# --- MMDetection's weights ------------------------------------------------------------------------


def test_weights_of_images_find_tracks(tmp_path):
    """MMDetection's own COCO config and a checkpoint as it writes them, in ``minvis_r50_coco``."""
    shipped = Path(mmdet.__file__).parent / ".mim/configs/mask2former"
    cfg = Config.fromfile(shipped / "mask2former_r50_8xb2-lsj-50e_coco.py")
    remove_pretrained(cfg)
    weights = MODELS.build(cfg.model).state_dict()
    weights["panoptic_head.cls_embed.bias"][16] = 6
    checkpoint = dict(state_dict=weights, meta=dict(CLASSES=CocoDataset.METAINFO["classes"]))
    torch.save(checkpoint, tmp_path / "mask2former.pth")
    sides = {"test_dataloader.dataset.pipeline.0.transforms.1.scale": (96, 64)}
    inferencer = VISInferencer(
        CONFIGS / "minvis_r50_coco.py", tmp_path / "mask2former.pth", "cpu", cfg_options=sides
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, 80, 120, 3), dtype=np.uint8)
    stream = inferencer(list(frames))
    names = {track.class_name for result in stream for track in result.tracks}
    assert names == {"dog"}
    assert stream.tracks.labels.tolist() == [16] * 10
