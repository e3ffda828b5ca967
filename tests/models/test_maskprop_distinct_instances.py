"""Which detections of a frame MaskProp keeps: a slow form, and what it is for."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmvis_plugin.models.maskprop.roi_masks import distinct_instances


def rectangle(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(16, 16)
    mask[top:bottom, left:right] = 1
    return mask


def test_a_part_of_a_better_instance_is_dropped():
    whole, part, other = (
        rectangle(0, 0, 10, 10),
        rectangle(1, 1, 4, 4),
        rectangle(9, 9, 16, 16),
    )
    masks = torch.stack([part, other, whole])
    kept = distinct_instances(masks, torch.tensor([0.6, 0.7, 0.9]), 0.5)
    assert kept.tolist() == [False, True, True]


def test_a_better_part_drops_the_whole():
    masks = torch.stack([rectangle(0, 0, 10, 10), rectangle(1, 1, 4, 4)])
    assert distinct_instances(masks, torch.tensor([0.6, 0.9]), 0.5).tolist() == [False, True]


def test_shares_are_not_rounded_under_autocast():
    """100,003 of 200,000 cells in common: more than half, by less than 16 bits tell."""
    masks = torch.zeros(2, 1, 300_000)
    masks[0, :, :200_000] = masks[1, :, 99_997:299_997] = 1
    scores = torch.tensor([0.9, 0.8])
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert distinct_instances(masks, scores, 0.5).tolist() == [True, False]
            assert distinct_instances(masks, scores, 0.50002).tolist() == [True, True]


def test_one_keeps_all():
    """Also where rounding makes a share of all larger, as for soft masks within a full one."""
    torch.manual_seed(0)
    for _ in range(100):
        soft = torch.rand(16, 16) * rectangle(2, 3, 11, 14)
        masks = torch.stack([rectangle(0, 0, 16, 16), soft, soft])
        assert distinct_instances(masks, torch.tensor([0.9, 0.8, 0.7]), 1.0).all()


def test_nothing_detected():
    assert distinct_instances(torch.zeros(0, 16, 16), torch.zeros(0), 0.5).shape == (0,)


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.05, 0.95))
def test_slow_form(seed, number, max_overlap):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(number, 4, 5, generator=generator, dtype=torch.float64).square()
    scores = torch.rand(number, generator=generator)
    expected = []
    for i in range(number):
        worst = 0.0
        for j in range(number):
            if scores[j] > scores[i]:
                common = (masks[i] * masks[j]).sum()
                worst = max(worst, float(common / min(masks[i].sum(), masks[j].sum())))
        expected.append(worst <= max_overlap)
    assert distinct_instances(masks, scores, max_overlap).tolist() == expected
