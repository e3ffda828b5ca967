"""STMask's image model: anchors, calibration, backbone, pyramid and prototypes."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import deform_conv2d
from mmdet.models.dense_heads import YOLACTProtonet
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmvis_plugin.models import (
    IntervalDCNResNet,
    MaskPrototypes,
    STMaskFPN,
    STMaskHead,
)
from mmvis_plugin.models.stmask.calibration import (
    CalibratedPrediction,
    OffsetConv2d,
    aligned_offsets,
)
from mmvis_plugin.models.stmask.prototypes import inside_boxes, instance_masks

STDS = (0.1, 0.1, 0.2, 0.2)


@pytest.fixture(autouse=True)
def seed():
    init_default_scope("mmdet")
    torch.manual_seed(0)


def small_head(**kwargs):
    return STMaskHead(num_classes=3, in_channels=8, feat_channels=8, num_coeffs=4, **kwargs)


# --- anchors -------------------------------------------------------------------------------------


def test_priors_and_their_number_at_the_size_of_the_paper():
    head = small_head()
    sizes = [(48, 80), (24, 40), (12, 20), (6, 10), (3, 5)]
    priors = torch.cat([head._level_priors(torch.zeros(1, 8, *size)) for size in sizes])
    assert len(priors) == 15345
    expected, kernels = [], [(3, 3), (3, 5), (5, 3)]
    for height, width in sizes[3:]:
        for y in range(height):
            for x in range(width):
                for kernel_h, kernel_w in kernels:
                    cx, cy, w, h = (x + 0.5) / width, (y + 0.5) / height, kernel_w / width, kernel_h
                    h /= height
                    expected.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    torch.testing.assert_close(priors[-len(expected) :], torch.tensor(expected))


def test_anchors_run_by_level_row_column_and_kernel():
    """Boxes, classes, coefficients and embeddings of an anchor are those of its layer and place."""
    head = small_head(centerness_order="position").eval()
    feats = [torch.randn(2, 8, 4, 5), torch.randn(2, 8, 2, 3)]
    outputs = head(feats)
    features = [head.shared_conv(feat) for feat in feats]
    index = 0
    for feature in features:
        towers = [convs(feature) for convs in (head.reg_convs, head.mask_convs, head.track_convs)]
        for y in range(feature.shape[2]):
            for x in range(feature.shape[3]):
                for k in range(3):
                    deltas = head.reg_preds[k](towers[0])[:, :, y, x]
                    coeffs = head.mask_preds[k](towers[1])[:, :, y, x]
                    embeddings = F.normalize(head.track_preds[k](towers[2])[:, :, y, x])
                    centerness = head.centerness_preds[k](towers[0])[:, 0, y, x].tanh()
                    torch.testing.assert_close(outputs.deltas[:, index], deltas)
                    torch.testing.assert_close(outputs.coeffs[:, index], coeffs)
                    torch.testing.assert_close(outputs.embeddings[:, index], embeddings)
                    torch.testing.assert_close(outputs.centerness[:, index], centerness)
                    index += 1
    assert index == outputs.deltas.shape[1] == len(outputs.priors)


def test_centerness_of_released_models_is_stored_kernel_by_kernel():
    head = small_head(centerness_order="kernel").eval()
    feats = [torch.randn(1, 8, 4, 5), torch.randn(1, 8, 2, 3)]
    reg_x = [head.reg_convs(head.shared_conv(feat)) for feat in feats]
    expected = [layer(x).flatten() for x in reg_x for layer in head.centerness_preds]
    torch.testing.assert_close(head(feats).centerness[0], torch.cat(expected).tanh())


def test_equal_kernels_are_one_layer_for_all_anchors():
    """Without FCA: three 3 x 3 layers of one anchor are one layer of three anchors."""
    head = small_head(
        kernel_sizes=((3, 3),) * 3, anchor_sizes=((3, 3), (4.2426, 2.1213), (2.1213, 4.2426))
    ).eval()
    feat = torch.randn(1, 8, 4, 5)
    weight = torch.cat([layer.weight for layer in head.reg_preds])
    bias = torch.cat([layer.bias for layer in head.reg_preds])
    together = F.conv2d(head.reg_convs(head.shared_conv(feat)), weight, bias, padding=1)
    expected = together.permute(0, 2, 3, 1).reshape(1, -1, 4)
    torch.testing.assert_close(head([feat]).deltas, expected)
    sizes = head([feat]).priors[:3]
    areas = (sizes[:, 2] - sizes[:, 0]) * 5 * (sizes[:, 3] - sizes[:, 1]) * 4
    torch.testing.assert_close(areas, torch.full((3,), 9.0), atol=1e-3, rtol=0)


def test_even_kernels_see_one_cell_more_on_the_right_and_below():
    head = small_head(kernel_sizes=((3, 2), (2, 3))).eval()
    layer, x = head.reg_preds[0], torch.randn(1, 8, 4, 5)
    expected = F.conv2d(F.pad(x, (0, 1, 1, 1)), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    assert head([x]).deltas.shape == (1, 4 * 5 * 2, 4)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(fcb=dict(box="ada")), "branches"),
        (dict(fcb=dict(cls="adaptive")), "'ada' or 'ali'"),
        (dict(fcb=dict(cls="ada"), kernel_sizes=((3, 2),)), "odd kernels"),
        (dict(centerness_order="anchor"), "centerness_order"),
        (dict(anchor_sizes=((3, 3),)), "each kernel has one anchor"),
    ],
)
def test_wrong_choices_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        small_head(**wrong)


# --- calibration for boxes -----------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [(3, 3), (3, 5), (5, 3)])
def test_aligned_taps_lie_evenly_in_the_regressed_box(kernel):
    """Equations 6 to 8, by the geometry they stand for: the taps' cells tile the decoded box."""
    deltas = torch.randn(1, 4, 4, 6) * 2
    offsets = aligned_offsets(deltas, kernel, kernel, STDS).unflatten(1, (*kernel, 2))
    for y in range(4):
        for x in range(6):
            dx, dy, dw, dh = deltas[0, :, y, x].tolist()
            width, height = kernel[1] * math.exp(0.2 * dw), kernel[0] * math.exp(0.2 * dh)
            left = x + 0.1 * dx * kernel[1] - width / 2
            top = y + 0.1 * dy * kernel[0] - height / 2
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    offset_y, offset_x = offsets[0, i, j, :, y, x].tolist()
                    tap_y = y + i - kernel[0] // 2 + offset_y
                    tap_x = x + j - kernel[1] // 2 + offset_x
                    assert tap_y == pytest.approx(top + (i + 0.5) * height / kernel[0], abs=1e-4)
                    assert tap_x == pytest.approx(left + (j + 0.5) * width / kernel[1], abs=1e-4)


def test_aligned_taps_of_a_small_kernel_spread_over_a_larger_anchor():
    offsets = aligned_offsets(torch.zeros(1, 4, 1, 1), (3, 3), (6, 3), STDS)
    steps = offsets.view(3, 3, 2)
    assert steps[..., 1].abs().max() == 0
    assert steps[:, 0, 0].tolist() == [-1, 0, 1]  # taps at -2, 0 and 2


@pytest.mark.parametrize("kernel", [(3, 3), (3, 5), (5, 3)])
@pytest.mark.parametrize("size", [(6, 7), (3, 5)])
def test_offset_convolution_is_that_of_mmcv(kernel, size):
    conv = OffsetConv2d(4, 5, kernel).double()
    x = torch.randn(3, 4, *size, dtype=torch.double, requires_grad=True)
    offset = torch.randn(3, 2 * kernel[0] * kernel[1], *size, dtype=torch.double) * 2
    offset.requires_grad_()
    padding = (kernel[0] // 2, kernel[1] // 2)
    # mmcv's operator refuses inputs smaller than the kernel; zeros around them change nothing.
    extra = [max(k - s, 0) for k, s in zip(kernel, size, strict=True)]
    padded = F.pad(x, (0, extra[1], 0, extra[0]))
    padded_offset = F.pad(offset, (0, extra[1], 0, extra[0]))
    expected = deform_conv2d(padded, padded_offset, conv.weight, 1, padding)
    expected = expected[..., : size[0], : size[1]]
    result = conv(x, offset)
    torch.testing.assert_close(result, expected)
    probe = torch.randn_like(result)
    inputs = (x, offset, conv.weight)
    for ours, theirs in zip(
        torch.autograd.grad((result * probe).sum(), inputs),
        torch.autograd.grad((expected * probe).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mode", ["ada", "ali"])
def test_calibrated_prediction_is_the_chain_of_its_steps(mode):
    layer = CalibratedPrediction(4, 6, (3, 5), (3, 5), mode, STDS)
    x, deltas = torch.randn(2, 4, 6, 7), torch.randn(2, 4, 6, 7, requires_grad=True)
    if mode == "ada":
        offset = F.conv2d(deltas, layer.conv_offset.weight)
        assert layer.conv_offset.bias is None and offset.shape[1] == 30
    else:
        offset = aligned_offsets(deltas, (3, 5), (3, 5), STDS)
    hidden = deform_conv2d(x, offset.detach(), layer.conv_adapt.weight, 1, (1, 2)).relu()
    expected = F.conv2d(hidden, layer.conv_pred.weight, layer.conv_pred.bias, padding=(1, 2))
    result = layer(x, deltas)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)
    result.sum().backward()
    assert deltas.grad is None  # the regression is not trained through the offsets


def test_offsets_are_zero_where_boxes_are_anchors():
    layer = CalibratedPrediction(4, 6, (3, 3), (3, 3), "ali", STDS)
    x = torch.randn(1, 4, 5, 5)
    plain = F.conv2d(x, layer.conv_adapt.weight, padding=1)
    torch.testing.assert_close(
        layer.conv_adapt(x, layer.offsets(torch.zeros(1, 4, 5, 5))), plain, atol=1e-5, rtol=1e-4
    )


# --- backbone, pyramid, prototypes ---------------------------------------------------------------


@pytest.mark.parametrize(
    "depth, interval, expected",
    [
        (50, 2, [[], [0, 2], [0, 2, 4], [0, 2]]),
        (101, 3, [[], [0, 3], [0, 3, 6, 9, 12, 15, 18, 21], [0]]),
    ],
)
def test_deformable_blocks(depth, interval, expected):
    with torch.device("meta"):
        backbone = IntervalDCNResNet(
            dcn_interval=interval,
            depth=depth,
            dcn=dict(type="Float32DCNv2", deform_groups=1),
            stage_with_dcn=(False, True, True, True),
        )
    for stage, blocks in zip(backbone.res_layers, expected, strict=True):
        layer = getattr(backbone, stage)
        for i, block in enumerate(layer):
            assert hasattr(block.conv2, "conv_offset") == (i in blocks)
            assert (block.conv2.bias is not None) == (i in blocks)  # it is trained


def test_deformable_block_starts_as_half_a_convolution_and_ignores_autocast():
    conv = MODELS.get("Float32DCNv2")(4, 4, 3, padding=1)
    before = conv.weight.clone()
    conv.conv_offset.weight.data.normal_()
    conv.init_weights()
    assert torch.equal(conv.weight, before)  # what the backbone was initialised with stays
    x = torch.randn(1, 4, 6, 6)
    plain = F.conv2d(x, conv.weight, padding=1) / 2
    torch.testing.assert_close(conv(x), plain, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv(x), conv(x.float())) and conv(x.bfloat16()).dtype == torch.float32


def test_deformable_block_begins_as_the_plain_one_whose_weights_it_gets():
    plain = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
    conv = MODELS.get("Float32DCNv2")(4, 4, 3, padding=1)
    conv.bias.data.fill_(1)
    assert conv.load_state_dict(plain.state_dict(), strict=False).missing_keys == [
        "conv_offset.weight",
        "conv_offset.bias",
    ]
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(conv(x), plain(x), atol=1e-5, rtol=1e-4)
    again = MODELS.get("Float32DCNv2")(4, 4, 3, padding=1)
    again.load_state_dict(conv.state_dict())
    assert torch.equal(again.weight, conv.weight)


def test_pyramid():
    neck = STMaskFPN([4, 6, 8], 5, 5)
    inputs = [torch.randn(1, 4, 12, 20), torch.randn(1, 6, 6, 10), torch.randn(1, 8, 3, 5)]
    laterals = [conv.conv(x) for conv, x in zip(neck.lateral_convs, inputs, strict=True)]
    for i in (1, 0):
        above = F.interpolate(laterals[i + 1], laterals[i].shape[-2:], mode="bilinear")
        laterals[i] = laterals[i] + above
    expected = [conv.conv(x).relu() for conv, x in zip(neck.fpn_convs, laterals, strict=False)]
    expected.append(neck.fpn_convs[3].conv(expected[2]))
    expected.append(neck.fpn_convs[4].conv(expected[3]))
    assert expected[3].min() < 0
    for level, other in zip(neck(inputs), expected, strict=True):
        torch.testing.assert_close(level, other)


def test_prototypes_are_those_of_yolact():
    ours = MaskPrototypes(4, 6, 3)
    theirs = YOLACTProtonet(
        1, 4, proto_channels=(6, 6, 6, None, 6, 3), num_protos=3, with_seg_branch=False
    )
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(ours(x), theirs.protonet(x))
    assert ours(x).shape == (1, 3, 10, 12) and ours(x).min() == 0


def test_masks_are_cropped_as_in_yolact():
    prototypes, coeffs = torch.rand(3, 9, 12), torch.randn(4, 3)
    boxes = torch.tensor(
        [[0.1, 0.2, 0.5, 0.6], [-0.3, 0.4, 1.4, 0.9], [0.7, 0.3, 0.4, 0.1], [1.5, 1.5, 1.6, 1.7]]
    )
    masks = instance_masks(prototypes, coeffs, boxes)
    for n, box in enumerate(boxes.tolist()):
        left, right = sorted((box[0] * 12, box[2] * 12))
        top, bottom = sorted((box[1] * 9, box[3] * 9))
        for y in range(9):
            for x in range(12):
                value = 0.0
                # The released models' bounds: enlarged by one cell, then kept within the grid.
                if max(left - 1, 0) <= x < min(right + 1, 12) and (
                    max(top - 1, 0) <= y < min(bottom + 1, 9)
                ):
                    values = prototypes[:, y, x]
                    dot = sum(math.tanh(c) * p for c, p in zip(coeffs[n], values, strict=True))
                    value = 1 / (1 + math.exp(-dot))
                assert masks[n, y, x].item() == pytest.approx(value, abs=1e-5)
    assert not inside_boxes(boxes[3:], (9, 12), margin=1).any()
