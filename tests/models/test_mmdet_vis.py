"""MMDetection's own VIS models as streams, and their shapes configs."""

import copy
import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks, mask2bbox
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmvis_plugin.engine.pretrained import fits_of
from mmvis_plugin.models import VideoSegmentor
from mmvis_plugin.models.mmdet_vis import last_claims
from mmvis_plugin.models.windowed import WindowSettings

CONFIGS = Path(__file__).parents[2] / "configs"
INPUT, IMAGE, ORIGINAL = (64, 96), (60, 90), (48, 72)
CUTS = (1, 7, 9)


@pytest.fixture(scope="module", autouse=True)
def mmdet_scope():
    init_default_scope("mmdet")


def without_weights(node):
    """A config without the weights it would load."""
    if isinstance(node, dict):
        return ConfigDict({k: without_weights(v) for k, v in node.items() if k != "init_cfg"})
    return [without_weights(item) for item in node] if isinstance(node, list) else node


def model_config(name: str) -> ConfigDict:
    """The model of a shapes config, to be initialised at random."""
    return without_weights(Config.fromfile(CONFIGS / name).model)


def masktrack_config() -> ConfigDict:
    cfg = model_config("masktrack_rcnn/masktrack_rcnn_r18_shapes.py")
    cfg.tracker.num_frames_retain = 3
    cfg.detector.test_cfg.rcnn.score_thr = 0.1  # untrained, it is sure of nothing
    return cfg


def mask2former_config() -> ConfigDict:
    cfg = model_config("mask2former_vis/mask2former_vis_r18_shapes.py")
    cfg.windows = dict(length=4, overlap=2)
    cfg.frames_per_batch = 3
    return cfg


def build(cfg: dict):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model.eval()


@pytest.fixture(scope="module")
def masktrack():
    return build(masktrack_config())


@pytest.fixture(scope="module")
def mask2former():
    return build(mask2former_config())


@pytest.fixture(params=["masktrack", "mask2former"])
def model(request):
    return request.getfixturevalue(request.param)


def video(num_frames: int, seed: int = 0) -> tuple[torch.Tensor, list[dict]]:
    """Frames that change slowly, and their metainfo."""
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 1, 3, *INPUT, generator=generator)
    weights = torch.linspace(0, 1, num_frames)[:, None, None, None]
    metas = [
        dict(
            img_id=t,
            frame_id=t,
            video_id=seed,
            ori_video_length=num_frames,
            ori_shape=ORIGINAL,
            img_shape=IMAGE,
            batch_input_shape=INPUT,
            scale_factor=(1.25, 1.25),
        )
        for t in range(num_frames)
    ]
    return start + weights * (end - start), metas


def stream(model, frames, metas, cut: int):
    """All final frames, and the tracks, of a video fed ``cut`` frames at a time."""
    state, final = model.start_video(metas[0]), []
    for start in range(0, len(frames), cut):
        final += model.step(state, frames[start : start + cut], metas[start : start + cut])
    rest, tracks = model.finish(state)
    return final + rest, tracks


def assert_same(a: list[DetDataSample], b: list[DetDataSample]) -> None:
    """Equal frames, bit by bit."""
    assert [frame.frame_id for frame in a] == [frame.frame_id for frame in b]
    for first, second in zip(a, b, strict=True):
        first, second = first.pred_track_instances, second.pred_track_instances
        assert first.masks == second.masks
        for key in ("bboxes", "labels", "scores", "instances_id"):
            assert torch.equal(first[key], second[key]), key


def clip_sample(labels: list[int]) -> tuple[torch.Tensor, TrackDataSample]:
    """A pair of frames with boxes of the given classes, present in both; (1, 2, 3, H, W)."""
    frames = []
    for t in range(2):
        boxes = [[4.0 + 24 * i + t, 8.0, 24.0 + 24 * i + t, 40.0] for i in range(len(labels))]
        masks = np.zeros((len(labels), *INPUT), dtype=np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
        frame = DetDataSample(
            metainfo=dict(
                img_shape=INPUT,
                ori_shape=INPUT,
                pad_shape=INPUT,
                batch_input_shape=INPUT,
                scale_factor=(1.0, 1.0),
            )
        )
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes),
            labels=torch.tensor(labels),
            masks=BitmapMasks(masks, *INPUT),
            instances_ids=torch.arange(len(labels)),
        )
        frames.append(frame)
    sample = TrackDataSample(metainfo=dict(key_frames_inds=[0], ref_frames_inds=[1]))
    sample.video_data_samples = frames
    return torch.randn(1, 2, 3, *INPUT, generator=torch.Generator().manual_seed(0)), sample


def held_bytes(state) -> int:
    """Bytes of all tensors that can be reached from a state."""
    storages, seen, todo = {}, set(), [state]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        else:
            todo += gc.get_referents(item)
    return sum(storages.values())


class TestEveryModel:
    def test_is_a_video_segmentor(self, model):
        assert isinstance(model, VideoSegmentor)

    def test_results_do_not_depend_on_the_cuts(self, model):
        frames, metas = video(9)
        (whole, tracks), *others = (stream(model, frames, metas, cut) for cut in CUTS)
        assert len(whole) == 9
        assert sum(len(frame.pred_track_instances) for frame in whole) > 9
        for final, other_tracks in others:
            assert_same(whole, final)
            assert (tracks is None) == (other_tracks is None)
            for key in tracks.keys() if tracks is not None else ():
                assert torch.equal(tracks[key], other_tracks[key]), key

    def test_interleaved_videos(self, model):
        videos = [video(9, seed) for seed in (1, 2)]
        alone = [stream(model, *each, cut=1)[0] for each in videos]
        states = [model.start_video(metas[0]) for _, metas in videos]
        final = [[], []]
        for t in range(9):
            for i, (frames, metas) in enumerate(videos):
                final[i] += model.step(states[i], frames[t : t + 1], metas[t : t + 1])
        for i in range(2):
            assert_same(alone[i], final[i] + model.finish(states[i])[0])

    def test_state_is_bounded(self, model):
        frames, metas = video(24)
        state = model.start_video(metas[0])
        sizes = []
        for meta in metas:
            model.step(state, frames[:1], [meta])  # a still video: nothing comes or goes
            sizes.append(held_bytes(state))
        assert max(sizes[8:]) <= max(sizes[:8])

    def test_a_long_step_is_not_kept_alive(self, model):
        frames, metas = video(9)
        at_once, one_by_one = (model.start_video({}) for _ in range(2))
        model.step(at_once, frames, metas)
        for t in range(9):
            model.step(one_by_one, frames[t : t + 1].clone(), metas[t : t + 1])
        assert held_bytes(at_once) == held_bytes(one_by_one)

    def test_predict_is_the_same_stream(self, model):
        frames, metas = video(9)
        expected, tracks = stream(model, frames, metas, cut=9)
        final = []
        for t in range(9):
            sample = TrackDataSample()
            sample.video_data_samples = [DetDataSample(metainfo=metas[t])]
            outputs = model(frames[None, t : t + 1], [sample], mode="predict")
            final += outputs[0].get("video_data_samples", [])
        assert_same(expected, final)
        assert ("pred_tracks" in outputs[0]) == (tracks is not None)

    def test_frames_are_of_original_size(self, model):
        final, _ = stream(model, *video(9), cut=9)
        for frame in final:
            instances = frame.pred_track_instances
            assert len(set(instances.instances_id.tolist())) == len(instances)
            assert all(rle["size"] == list(ORIGINAL) for rle in instances.masks)
            assert (instances.bboxes[:, 2] <= ORIGINAL[1]).all()
            assert (instances.bboxes[:, 3] <= ORIGINAL[0]).all()
            assert instances.bboxes.dtype == instances.scores.dtype == torch.float32

    def test_prediction_under_bfloat16_autocast(self, model):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            final, _ = stream(model, *video(5), cut=5)
        assert len(final) == 5
        assert all(frame.pred_track_instances.scores.isfinite().all() for frame in final)

    def test_training_step(self, model):
        model = copy.deepcopy(model).train()
        inputs, sample = clip_sample([0, 3])
        losses = model(inputs, [sample], mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
        assert total.isfinite()
        without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []

    def test_checkpoints_fit_in_both_directions(self, model):
        cfg = dict(
            masktrack_config() if "MaskTrack" in type(model).__name__ else mask2former_config()
        )
        for key in ("windows", "frames_per_batch"):
            cfg.pop(key, None)
        theirs = build(ConfigDict(cfg, type=type(model).__name__.removeprefix("Streaming")))
        assert type(theirs) is not type(model)
        theirs.load_state_dict(model.state_dict(), strict=True)
        copy.deepcopy(model).load_state_dict(theirs.state_dict(), strict=True)


class TestMaskTrackRCNN:
    def test_equals_mmdetection(self, masktrack):
        frames, metas = video(9)
        theirs = build(ConfigDict(masktrack_config(), type="MaskTrackRCNN"))
        theirs.load_state_dict(masktrack.state_dict())
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=meta) for meta in metas]
        with torch.no_grad():
            expected = theirs(frames[None], [sample], mode="predict")[0]
        final, tracks = stream(masktrack, frames, metas, cut=1)
        assert tracks is None
        for ours, frame in zip(final, expected, strict=True):
            ours, frame = ours.pred_track_instances, frame.pred_track_instances
            last = {track: row for row, track in enumerate(frame.instances_id.tolist())}
            frame = frame[sorted(last.values())]  # it gives some identities twice
            for key in ("bboxes", "labels", "scores", "instances_id"):
                assert torch.equal(ours[key], frame[key]), key
            masks = [mask_utils.decode(rle) for rle in ours.masks]
            assert np.array_equal(np.stack(masks), frame.masks.numpy())

    def test_an_identity_given_twice_stays_with_the_last(self):
        assert last_claims(torch.tensor([4, 7, 4, 2, 4, 7])).tolist() == [0, 0, 0, 1, 1, 1]
        assert last_claims(torch.zeros(0, dtype=torch.long)).tolist() == []

    def test_frames_without_detections(self, masktrack):
        model = copy.deepcopy(masktrack)
        frames, metas = video(3)
        state = model.start_video({})
        before = model.step(state, frames[:1], metas[:1])[0].pred_track_instances
        model.detector.roi_head.test_cfg.score_thr = 1.0
        nothing = model.step(state, frames[1:2], metas[1:2])[0].pred_track_instances
        assert len(before) > 0
        assert len(nothing) == 0
        assert nothing.masks == []

    def test_masks_stay_out_of_the_memory(self, masktrack):
        frames, metas = video(4)
        state = masktrack.start_video({})
        masktrack.step(state, frames, metas)
        assert len(state.tracker.tracks) > 0
        for track in state.tracker.tracks.values():
            assert {len(buffer) for buffer in track.values()} == {1}
            assert track["masks"][0].numel() == 1

    @pytest.mark.parametrize(
        ("rpn_head", "trained"), [("RPNHead", False), ("AgnosticRPNHead", True)]
    )
    def test_proposals_of_every_class_are_trained(self, rpn_head, trained):
        """MaskTrackRCNN hands class labels to the RPN, for which 0 alone is foreground."""
        cfg = masktrack_config()
        cfg.detector.rpn_head.type = rpn_head
        model = build(cfg).train()
        wants_more = []  # per loss: anchors whose objectness the loss pushes up

        def record(module, args, loss):
            (gradient,) = torch.autograd.grad(loss, args[0], retain_graph=True)
            wants_more.append(int((gradient < 0).sum()))

        model.detector.rpn_head.loss_cls.register_forward_hook(record)
        inputs, sample = clip_sample([3, 2])
        model.loss(inputs, [sample])
        assert (sum(wants_more) > 0) == trained
        # Class 0 is foreground for both.
        wants_more.clear()
        inputs, sample = clip_sample([0, 0])
        model.loss(inputs, [sample])
        assert sum(wants_more) > 0

    def test_pair_whose_second_frame_is_empty(self, masktrack):
        model = copy.deepcopy(masktrack).train()
        inputs, sample = clip_sample([0, 3])
        sample[1].gt_instances = sample[1].gt_instances[:0]
        losses = model.loss(inputs, [sample])
        assert model.parse_losses(losses)[0].isfinite()


class TestMask2Former:
    def test_equals_mmdetection(self, mask2former):
        model = copy.deepcopy(mask2former)
        model.windows = WindowSettings()
        frames, metas = video(9)
        cfg = dict(mask2former_config(), type="Mask2FormerVideo")
        del cfg["windows"], cfg["frames_per_batch"]
        theirs = build(ConfigDict(cfg))
        theirs.load_state_dict(model.state_dict())
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=meta) for meta in metas]
        with torch.no_grad():
            expected = theirs(frames[None], [sample], mode="predict")[0]
        final, tracks = stream(model, frames, metas, cut=1)
        order = expected[0].pred_track_instances.scores.argsort(descending=True, stable=True)
        ids, equal_frames = set(), 0
        for ours, frame in zip(final, expected, strict=True):
            ours, frame = ours.pred_track_instances, frame.pred_track_instances[order]
            present = frame.masks.flatten(1).any(1)
            assert ours.instances_id.tolist() == present.nonzero().flatten().tolist()
            masks = torch.from_numpy(mask_utils.decode(ours.masks)).permute(2, 0, 1).bool()
            differing = masks != frame.masks[present]
            assert differing.float().mean() < 1e-4
            torch.testing.assert_close(ours.scores, frame.scores[present])
            assert torch.equal(ours.labels, frame.labels[present])
            assert torch.equal(ours.bboxes, mask2bbox(masks))
            if not differing.any():
                assert torch.equal(ours.bboxes, frame.bboxes[present].float())
                equal_frames += 1
            ids |= set(ours.instances_id.tolist())
        assert equal_frames > 0
        assert tracks.instances_id.tolist() == sorted(ids)
        torch.testing.assert_close(
            tracks.scores, expected[0].pred_track_instances.scores[order][tracks.instances_id]
        )

    def test_tracks_go_on_over_windows(self, mask2former):
        """A still video: what a window finds, the next one finds again."""
        frames, metas = video(9)
        final, tracks = stream(mask2former, frames[:1].expand(9, -1, -1, -1), metas, cut=1)
        assert len(tracks.instances_id) <= mask2former.tracks_per_window
        first, last = final[0].pred_track_instances, final[-1].pred_track_instances
        assert set(first.instances_id.tolist()) & set(last.instances_id.tolist())

    def test_image_checkpoint_of_mmdetection(self, mask2former):
        """The COCO weights it starts from call the head ``panoptic_head``."""
        weights = {
            key.replace("track_head", "panoptic_head"): value + 1
            for key, value in mask2former.state_dict().items()
        }
        model = copy.deepcopy(mask2former)
        model.load_state_dict(weights, strict=True)
        key = "track_head.query_feat.weight"
        assert torch.equal(model.state_dict()[key], mask2former.state_dict()[key] + 1)

    def test_another_number_of_classes(self):
        """The list of class weights follows, and a start from the weights of others does."""
        cfg = mask2former_config()
        cfg.track_head.num_classes = 2
        model = build(cfg).train()
        assert model.track_head.loss_cls.class_weight == [1.0, 1.0, 0.1]
        inputs, sample = clip_sample([0, 1])
        total, _ = model.parse_losses(model(inputs, [sample], mode="loss"))
        assert total.isfinite()
        cfg.track_head.loss_cls.class_weight = [1.0, 2.0, 1.0, 0.1]
        with pytest.raises(ValueError, match="class_weight has 4 weights, but num_classes is 2"):
            build(cfg)
        cfg.track_head.loss_cls.class_weight = [1.0, 2.0, 0.1]
        assert build(cfg).track_head.loss_cls.class_weight == [1.0, 2.0, 0.1]

    def test_start_from_other_classes_under_another_name(self, mask2former, tmp_path):
        path = tmp_path / "coco.pth"
        weights = mask2former.state_dict()
        torch.save({k.replace("track_head", "panoptic_head"): v for k, v in weights.items()}, path)
        cfg = mask2former_config()
        cfg.track_head.num_classes = 2
        (fit,) = fits_of(build(cfg), str(path))
        assert fit.reshaped == ["track_head.cls_embed.weight", "track_head.cls_embed.bias"]
        assert len(fit.loaded) == fit.total - 2
