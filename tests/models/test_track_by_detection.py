"""Image instance segmenters as the source of tracks, and the video around them."""

import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from streaming import assert_same, metas, run, run_interleaved, video
from torch.nn.modules.batchnorm import _BatchNorm

from mmvis_plugin.apis import VISInferencer, build_video_segmentor
from mmvis_plugin.apis.image_models import read_image_config, with_linker
from mmvis_plugin.models import TrackByDetection
from mmvis_plugin.models.track_by_detection.linkers import OnlineLinker

# A config of each family, its layers whose outputs are classes or masks, and whether classes
# compete in a softmax with "no object".
FAMILIES = {
    "mask_rcnn/mask-rcnn_r50_fpn_1x_coco": ("fc_cls|conv_logits", True),
    "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco": ("rtm_cls|rtm_kernel", False),
    "queryinst/queryinst_r50_fpn_1x_coco": ("fc_cls|conv_logits", False),
    "condinst/condinst_r50_fpn_ms-poly-90k_coco_instance": ("conv_cls|controller$", False),
    "mask2former/mask2former_r50_8xb2-lsj-50e_coco": ("cls_embed|mask_embed.4", True),
}
COCO = (80, 81)  # outputs of a layer for COCO's classes, without and with "no object"


class EverybodyIsNew(OnlineLinker):
    """Drops nothing, so that a frame's tracks are its detections."""

    def link(self, state, detections):
        return state.new_ids(len(detections))


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmdet")


def strips(count):
    """Frames so thin that the configs, which enlarge them to 1333 pixels, stay quick."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (count, 4, 40, 3), dtype=np.uint8)
    return [cv2.resize(frame, (240, 16)) for frame in noise]


def make_lively(detector, pattern, softmax, see):
    """Give random layers outputs that differ, and classes 0 to 2 a bias so that some are found."""
    norms = [m for m in detector.modules() if isinstance(m, _BatchNorm)]
    layers = [m for n, m in detector.named_modules() if re.search(pattern, n) and _has_bias(m)]

    def scale(layer, inputs, output):
        if len(layer.bias) not in COCO:
            return
        axis = 1 if output.dim() == 4 else -1
        logits = output.movedim(axis, -1).flatten(0, -2) - layer.bias
        factor = 4 / logits.abs().max()  # no scores so near to 1 that they are equal
        layer.weight.data *= factor
        best = (factor * logits[:, :3]).flatten().sort(descending=True).values
        layer.bias.data.zero_()
        layer.bias.data[:3] = (4.4 if softmax else 0) - best[: min(12, len(best))][-1]

    hooks = [layer.register_forward_hook(scale) for layer in layers]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    see()
    for hook in hooks:
        hook.remove()
    detector.eval()
    for name, module in detector.named_modules():
        if name.endswith("fc_reg"):  # boxes that leave the picture have a test of their own
            for layer in module.modules():
                if _has_bias(layer):
                    layer.weight.data *= 0.01


def _has_bias(module):
    return isinstance(getattr(module, "bias", None), torch.Tensor)


@pytest.mark.parametrize("name", FAMILIES)
def test_detections_are_those_of_the_detector(name):
    pattern, softmax = FAMILIES[name]
    torch.manual_seed(0)
    cfg = with_linker(f"mmdet::{name}", "iou-plus")
    model = build_video_segmentor(cfg, device="cpu", require_weights=False)
    assert len(model.dataset_meta["classes"]) == 80
    model.linker, model.max_per_frame = EverybodyIsNew(), 100
    frames = strips(2)
    with VISInferencer(model) as inferencer:
        make_lively(model.detector, pattern, softmax, lambda: list(inferencer(frames[:1], fps=1)))
        results = [result.instances for result in inferencer(frames, fps=1)]
        model.max_per_frame = 5
        label = int(results[0].labels[-1])
        classes = [model.dataset_meta["classes"][label]]
        few = next(inferencer(frames[:1], fps=1, classes=classes)).instances
    original = init_detector(read_image_config(f"mmdet::{name}"), None, "none", "cpu")
    original.load_state_dict(model.detector.state_dict(), strict=False)
    for ours, frame in zip(results, frames, strict=True):
        theirs = best(inference_detector(original, frame).pred_instances)
        assert len(theirs) >= 5
        assert torch.equal(ours.scores, theirs.scores)
        assert torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.bboxes, theirs.bboxes, atol=1e-4, rtol=0)
        # With fewer instances in a batch, sums are rounded differently.
        differing = theirs.masks ^ decoded(ours.masks)
        assert differing.float().mean() < 1e-3
        assert len({rle["counts"] for rle in ours.masks}) > 1
    some = results[0][results[0].labels == label][:5]
    assert 0 < len(some) <= len(few) <= 5
    assert (few.labels == label).all()
    torch.testing.assert_close(few.scores[: len(some)], some.scores)
    assert (decoded(few.masks[: len(some)]) ^ decoded(some.masks)).float().mean() < 1e-3


def best(found):
    found = found[found.scores > 0.05]
    return found[found.scores.argsort(descending=True, stable=True)]


def decoded(masks):
    return torch.from_numpy(mask_utils.decode(masks)).permute(2, 0, 1).bool()


# --- around the detector ------------------------------------------------------------------------


@MODELS.register_module()
class SquareFinder(BaseDetector):
    """Finds squares that move with the frame's mean, some of them only now and then."""

    def __init__(self, with_masks=True, **kwargs):
        super().__init__(**kwargs)
        self.with_masks = with_masks
        self.scale = torch.nn.Parameter(torch.ones(()))

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        height, width = batch_data_samples[0].ori_shape
        generator = torch.Generator().manual_seed(int(batch_inputs.abs().sum() * 1000))
        count = 6
        corners = 20.0 * torch.arange(count)[:, None] + 3 * torch.rand(
            count, 2, generator=generator
        )
        boxes = torch.cat([corners, corners + 15], 1)
        seen = torch.rand(count, generator=generator) < 0.8
        x, y = torch.arange(width), torch.arange(height)[:, None]
        x1, y1, x2, y2 = boxes[..., None, None].unbind(1)
        found = InstanceData(
            bboxes=boxes,
            scores=torch.rand(count, generator=generator),
            labels=torch.arange(count) % 2,
        )
        if self.with_masks:
            found.masks = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        batch_data_samples[0].pred_instances = found[seen]
        return batch_data_samples

    def loss(self, *args): ...

    def extract_feat(self, *args): ...

    def _forward(self, *args): ...


def square_tracker(linker="IoUPlusLinker", with_masks=True, **settings):
    detector = dict(type="SquareFinder", with_masks=with_masks)
    return TrackByDetection(detector, dict(type=linker), **settings).eval()


LINKERS = ["IoUPlusLinker", "SeqLinker", "SORTLinker", "ByteTrackLinker", "OCSORTLinker"]


@pytest.mark.parametrize("linker", LINKERS)
def test_tracks_do_not_depend_on_cuts_and_videos_do_not_mix(linker):
    model = square_tracker(linker)
    videos = [video(seed, 60) for seed in (0, 1)]
    alone = [run(model, frames, 1) for frames in videos]
    assert any(len(frame.pred_track_instances) for frame in alone[0][0])
    for cut in (7, 60):
        assert_same(run(model, videos[0], cut), alone[0])
    for together, by_itself in zip(run_interleaved(model, videos), alone, strict=True):
        assert_same(together, by_itself)


@pytest.mark.parametrize("linker", ["IoUPlusLinker", "SeqLinker"])
def test_memory_does_not_grow_with_the_video(linker):
    """3,000 frames need no more than 300: the largest state of each is measured."""
    model = square_tracker(linker)
    frames, (meta,) = video(0, 40), metas(1)
    state, sizes = model.start_video({}), []
    for index in range(3000):
        model.step(state, frames[index % 40][None], [meta])
        if index % 10 == 0:
            sizes.append(len(pickle.dumps(state.links)))
    assert max(sizes) <= 1.03 * max(sizes[:30])


def test_a_detector_without_masks_is_refused():
    with pytest.raises(ValueError, match="SquareFinder gives no instance masks: take an instance"):
        run(square_tracker(with_masks=False), video(0, 1), 1)


def test_masks_that_are_nearly_the_same_are_left_out_if_asked():
    model = square_tracker(max_per_frame=3)
    frame, (meta,) = video(0, 1)[0], metas(1)
    masks = torch.zeros(3, 90, 130, dtype=torch.bool)
    masks[0, 10:30, 10:30] = masks[1, 10:30, 10:29] = masks[2, 50:60, 50:60] = True
    found = InstanceData(
        bboxes=torch.zeros(3, 4),
        scores=torch.tensor([0.5, 0.9, 0.3]),
        labels=torch.tensor([0, 1, 0]),
        masks=masks,
    )

    def predict(images, samples, rescale):
        samples[0].pred_instances = found
        return samples

    model.detector.predict = predict
    model.linker = EverybodyIsNew()
    for max_iou, scores in ((None, [0.9, 0.5, 0.3]), (0.8, [0.9, 0.3])):
        model.mask_nms_iou = max_iou
        (result,) = model.step(model.start_video({}), frame[None], [meta])
        assert result.pred_track_instances.scores.tolist() == pytest.approx(scores)


def test_a_detectors_own_checkpoint_fits_as_well_as_the_whole():
    model = square_tracker()
    own = {"scale": torch.tensor(3.0)}
    assert not model.load_state_dict(own, strict=True).missing_keys
    assert model.detector.scale == 3
    other = square_tracker()
    other.load_state_dict(model.state_dict(), strict=True)
    assert other.detector.scale == 3


def test_a_linker_that_compares_appearance_asks_for_one():
    with pytest.raises(ValueError, match="DeepSORTLinker compares objects by their appearance"):
        square_tracker("DeepSORTLinker")
    assert TASK_UTILS.get("DeepSORTLinker").needs_features
