from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmvis_plugin.engine.hooks.lowest_score_hook import LowestScoreHook

MODEL = dict(detector=dict(test_cfg=dict(score_thr=0.05, rcnn=dict(score_thr=0.4))), score_thr=0)
THRESHOLDS = (
    "model.detector.test_cfg.score_thr = 0.05, model.detector.test_cfg.rcnn.score_thr = 0.4"
)


@pytest.mark.parametrize("stage", ["after_val_epoch", "after_test_epoch"])
@pytest.mark.parametrize(
    "model, metrics, explained",
    [
        (MODEL, {"ytvis/AP": 0.0, "ytvis/AP50": 0.0}, True),
        (MODEL, {"ytvis/AP": 0.001, "ytvis/APs": 0.0}, False),
        (MODEL, {"ytvis/AP": -1.0}, False),  # nothing to find
        (MODEL, None, False),
        (dict(score_thr=0), {"ytvis/AP": 0.0}, False),
    ],
)
def test_an_ap_of_zero_names_the_lowest_score_that_is_kept(stage, model, metrics, explained):
    said = []
    runner = SimpleNamespace(
        cfg=Config(dict(model=model)), logger=SimpleNamespace(info=said.append)
    )
    getattr(LowestScoreHook(), stage)(runner, metrics)
    assert len(said) == explained
    if explained:
        assert said[0].startswith("ytvis/AP is 0: ") and THRESHOLDS in said[0]
