"""Slices and channels that are innermost give mmcv's operators the same numbers."""

from pathlib import Path

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack

from mmvis_plugin.apis import VISInferencer
from mmvis_plugin.datasets.shapes_vis import generate_video
from mmvis_plugin.models.layers.memory_format import crop_rois, to_channels_last
from mmvis_plugin.models.maskprop.refinement import MaskRefiner
from mmvis_plugin.ytvis.categories import SHAPES

CONFIGS = Path(__file__).parents[2] / "configs"


def test_crops_of_slices_and_of_innermost_channels():
    features = torch.randn(2, 3, 4, 12, 16, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0, 1, 2, 9.0, 8], [1, 0, 3, 15, 10]])
    wanted = crop_rois(features[:, 1].contiguous(), rois, 5)
    assert torch.equal(crop_rois(features[:, 1], rois, 5), wanted)
    innermost = features[:, 1].contiguous(memory_format=torch.channels_last)
    assert torch.equal(crop_rois(innermost, rois, 5), wanted)


def test_a_slice_of_the_clip_is_refined_as_the_mask_that_it_holds():
    """A key frame's masks are a slice of those of its clip."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.randn(3, 48, 64, generator=generator)
    masks = torch.zeros(2, 5, 6, 8)
    masks[0, :, 1:3, 1:3] = 1
    masks[1, :, 3:5, 4:7] = 1
    masks[:, :2] = 0  # the other frames' are elsewhere
    refiner = MaskRefiner(size=16, stride=2, channels=32, num_blocks=1)
    refiner.init_weights()
    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(48, 64))
    found = refiner.refine(frame, masks[:, 3], 8, meta)
    assert torch.equal(found, refiner.refine(frame, masks[:, 3].contiguous(), 8, meta))
    for mask, (top, left, bottom, right) in zip(
        found, [(8, 8, 24, 24), (24, 32, 40, 56)], strict=True
    ):
        wanted = torch.zeros_like(mask)
        wanted[top:bottom, left:right] = True
        assert (mask & wanted).sum() > 0.8 * (mask | wanted).sum()


def test_operators_are_left_in_their_format():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), ModulatedDeformConv2dPack(8, 8, 3, padding=1)
    )
    torch.nn.init.normal_(model[1].conv_offset.weight)
    x = torch.randn(2, 3, 12, 16)
    wanted = model(x)
    to_channels_last(model)
    assert model[0].weight.stride(1) == 1 and model[1].weight.is_contiguous()
    found = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["maskprop_r18_shapes", "stmask_r18_shapes"])
def test_tracks_are_the_same_with_channels_innermost(name):
    video = generate_video(7, "valid", 0, (24, 24), (96, 128), len(SHAPES), 1).frames[:8]

    def tracks(channels_last):
        with VISInferencer(name, device="cpu", channels_last=channels_last) as inferencer:
            return [
                (result.index, track.id, track.label, round(track.score, 3))
                for result in inferencer(video)
                for track in result.tracks
            ]

    found = tracks(True)
    assert len(found) > 8
    assert found == tracks(False)
