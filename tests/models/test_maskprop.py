"""The MaskProp segmentor: training targets, gradients, and the streaming contract."""

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
from streaming import SIZE, assert_same, metas, run, run_interleaved, video

from mmvis_plugin.models.maskprop.maskprop import propagation_targets, resize_to_original
from mmvis_plugin.models.maskprop.tracker import ClipTracks

CONFIG = Path(__file__).parents[2] / "configs/maskprop/maskprop_r18_shapes.py"
REACH = 2


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmdet")
    settings = Config.fromfile(CONFIG).model
    settings.detector.pop("init_cfg")
    settings.reach = REACH
    # Untrained, so every score is low; without a threshold there is something to track.
    settings.detector.test_cfg.rcnn.score_thr = 0.0
    settings.detector.test_cfg.rcnn.max_per_img = 4
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    torch.nn.init.normal_(model.propagation_head.offset.bias)
    # Untrained scores are all alike, and a rounding error would decide which boxes survive.
    torch.nn.init.normal_(model.detector.rpn_head.rpn_cls.weight, std=0.2)
    torch.nn.init.normal_(model.detector.roi_head.bbox_head.fc_cls.weight, std=0.2)
    return model.eval()


@pytest.mark.parametrize("cut", [1, 7, 11])
def test_results_do_not_depend_on_how_frames_are_cut(model, cut):
    frames = video(0, 11)
    reference = run(model, frames, [3, 1, 5, 2])
    assert [frame.frame_id for frame in reference[0]] == list(range(11))
    assert sum(len(frame.pred_track_instances) for frame in reference[0]) > 11
    assert_same(run(model, frames, cut), reference)


@torch.no_grad()
def whole_video(model, frames):
    """The method with all frames at hand: every clip is cut from their list."""
    observed = [model._observe(*pair) for pair in zip(frames, metas(len(frames)), strict=True)]
    clips, results = [], []
    for t, key in enumerate(observed):
        first = max(0, t - REACH)
        features = [frame.features for frame in observed[first : t + REACH + 1]]
        masks = model.propagation_head.propagate(
            key.features, torch.stack(features), key.instances.grid_masks
        )
        clip = ClipTracks(first, masks.flatten(2), key.instances.labels)
        num_ids = max((int(i) + 1 for earlier in clips for i in earlier.ids), default=0)
        clip.ids = model.tracker.assign(clip, clips, num_ids)  # of those that overlap
        clips.append(clip)
        results.append(model._final_frame(key, masks[:, t - first], torch.from_numpy(clip.ids)))
    return results, None


@pytest.mark.parametrize("key_masks", ["detected", "propagated"])
def test_the_stream_is_the_method_on_the_whole_video(model, monkeypatch, key_masks):
    monkeypatch.setattr(model, "key_masks", key_masks)
    frames = video(10, 8)
    expected = whole_video(model, frames)
    assert sum(len(frame.pred_track_instances) for frame in expected[0]) > 8
    assert_same(run(model, frames, 4), expected)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_videos_shorter_than_a_clip(model, length):
    results, _ = run(model, video(1, length), 1)
    assert [frame.frame_id for frame in results] == list(range(length))


def test_two_videos_can_be_interleaved(model):
    videos = [video(2, 6), video(3, 6)]
    for frames, result in zip(videos, run_interleaved(model, videos), strict=True):
        assert_same(result, run(model, frames, 1))


def test_state_is_bounded_by_the_clip(model):
    frames = video(4, 30)
    state = model.start_video({})
    for t in range(30):
        final = model.step(state, frames[t : t + 1], metas(30)[t : t + 1])
        assert [frame.frame_id for frame in final] == ([t - REACH] if t >= REACH else [])
        assert len(state.window) <= 2 * REACH + 1
        assert len(state.history) <= 2 * REACH


def test_frames_come_out_at_their_original_size(model):
    (_, frame, _), _ = run(model, video(5, 3), 3)
    instances = frame.pred_track_instances
    assert len(set(instances.instances_id.tolist())) == len(instances)
    for mask in instances.masks:
        decoded = mask_utils.decode(mask)
        assert decoded.shape == (90, 130)
        assert decoded.any()
    assert instances.bboxes[:, 2].max() <= 130.01


def test_predict_is_the_stream_frame_by_frame(model):
    frames, facts, results = video(6, 7), metas(7), []
    for t in range(7):
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=facts[t])]
        outputs = model(frames[None, t : t + 1], [sample], mode="predict")
        (output,) = outputs
        final = output.get("video_data_samples", [])
        assert len(final) == (0 if t < REACH else 1 if t < 6 else 1 + REACH)
        assert "pred_tracks" not in output
        results += final
    assert_same((results, None), run(model, frames, 7))


def test_predict_refuses_frames_out_of_order(model):
    def predict(frame_id):
        sample = TrackDataSample()
        sample.video_data_samples = [DetDataSample(metainfo=metas(7)[frame_id])]
        model(video(6, 1)[None], [sample], mode="predict")

    predict(0)
    predict(1)
    with pytest.raises(ValueError, match="frame 3 of video 0 does not follow"):
        predict(3)


def training_clip(ids_per_frame: list[list[int]], key: int) -> TrackDataSample:
    """A clip whose object ``i`` covers row band ``i`` of the frame; boxes agree."""
    frames = []
    for ids in ids_per_frame:
        masks = np.zeros((len(ids), *SIZE), dtype=np.uint8)
        for n, i in enumerate(ids):
            masks[n, 12 * i : 12 * i + 12, 8:40] = 1
        frame = DetDataSample(metainfo=dict(img_shape=SIZE, pad_shape=SIZE, batch_input_shape=SIZE))
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor([[8, 12 * i, 40, 12 * i + 12] for i in ids]).float().reshape(-1, 4),
            labels=torch.tensor(ids).long() % 6,
            masks=BitmapMasks(masks, *SIZE),
            instances_ids=torch.tensor(ids).long(),
        )
        frame.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        frames.append(frame)
    sample = TrackDataSample(metainfo=dict(key_frames_inds=[key]))
    sample.video_data_samples = frames
    return sample


def test_targets_follow_identities_not_positions_in_the_list():
    clips = [training_clip([[3, 1], [1, 3], [0]], key=1), training_clip([[2], [], [2, 0]], key=2)]
    targets = propagation_targets(clips, [1, 2], torch.zeros(2, 3, 3, *SIZE))
    rows = [[int(t.any(1).nonzero()[0]) // 12 if t.any() else None for t in m] for m in targets]
    assert rows == [[1, 1, None], [3, 3, None], [2, None, 2], [None, None, 0]]


def test_the_propagation_loss_reaches_the_mask_head_and_the_backbone(model):
    model.train()
    try:
        clips = [training_clip([[1], [1, 2], [1, 2]], key=1), training_clip([[], [0], []], key=1)]
        inputs = torch.stack([video(7, 3), video(8, 3)])
        model.zero_grad()
        losses = model.loss(inputs, clips)
        assert {"loss_rpn_cls", "loss_cls", "loss_bbox", "loss_mask", "loss_prop"} <= set(losses)
        losses["loss_prop"].backward()
    finally:
        model.eval()
    for name in (
        "detector.roi_head.mask_head.conv_logits.weight",
        "detector.backbone.layer2.0.downsample.0.weight",
        "propagation_head.deform.weight",
        "propagation_head.offset.weight",
    ):
        assert model.get_parameter(name).grad.abs().max() > 0, name


def test_clips_without_objects_train(model):
    model.train()
    try:
        losses = model.loss(video(9, 3)[None], [training_clip([[], [], []], key=1)])
        sum(v for k, v in losses.items() if k == "loss_prop").backward()
    finally:
        model.eval()
    assert losses["loss_prop"] == 0


def test_masks_return_to_the_original_frame():
    masks = torch.zeros(1, 16, 24)
    masks[0, 4:8, 6:12] = 1  # pixels 16-32 x 24-48 of the resized frame
    meta = dict(img_shape=(60, 90), ori_shape=(120, 180))
    full = resize_to_original(masks, 4, meta)[0]
    assert full.shape == (120, 180)
    ys, xs = full.nonzero(as_tuple=True)
    assert abs(int(ys.min()) - 32) <= 1 and abs(int(ys.max()) - 63) <= 1
    assert abs(int(xs.min()) - 48) <= 1 and abs(int(xs.max()) - 95) <= 1
    assert resize_to_original(masks[:0], 4, meta).shape == (0, 120, 180)


def test_wrong_settings_are_named():
    init_default_scope("mmdet")
    settings = Config.fromfile(CONFIG).model
    settings.detector.pop("init_cfg")
    with pytest.raises(ValueError, match="key_masks is 'both'"):
        MODELS.build(dict(settings, key_masks="both"))
    for changes in (dict(reach=-1), dict(max_overlap=-0.5), dict(max_overlap=1.5)):
        with pytest.raises(ValueError, match="reach .* max_overlap .* got"):
            MODELS.build(settings | changes)
    settings.detector = dict(type="RetinaNet", **_retinanet_parts())
    with pytest.raises(TypeError, match="RetinaNet has no roi_head"):
        MODELS.build(settings)


def _retinanet_parts() -> dict:
    return dict(
        backbone=dict(type="ResNet", depth=18),
        neck=dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=32, num_outs=5),
        bbox_head=dict(type="RetinaHead", num_classes=6, in_channels=32, feat_channels=32),
    )
