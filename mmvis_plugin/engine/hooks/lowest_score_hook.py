"""Says why a test may have found nothing."""

from collections.abc import Iterator

from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvis_plugin.config import dicts_in


@HOOKS.register_module()
class LowestScoreHook(Hook):
    """If AP is 0, log the scores below which the model drops instances.

    Early in a training every score may be lower. :class:`VISRunner` has this hook.
    """

    priority = "VERY_LOW"

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Look at the figures of a validation."""
        zero = [name for name, value in (metrics or {}).items() if is_ap(name) and value == 0]
        thresholds = ", ".join(f"{name} = {value:g}" for name, value in lowest_scores(runner.cfg))
        if zero and thresholds:
            runner.logger.info(
                f"{zero[0]} is 0: maybe no instance reached the lowest score that the model keeps "
                f"({thresholds}). To keep more, set it lower"
            )

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Look at the figures of a test."""
        self.after_val_epoch(runner, metrics)


def is_ap(name: str) -> bool:
    """Whether a metric is an average precision over all thresholds."""
    return name.rpartition("/")[2] in ("AP", "bbox_mAP", "segm_mAP")


def lowest_scores(cfg: Config) -> Iterator[tuple[str, float]]:
    """The score thresholds above 0 in the config of a model, by dotted name."""
    for place, node in dicts_in(cfg.model, "model"):
        for key, value in node.items():
            if key.endswith("score_thr") and isinstance(value, int | float) and value > 0:
                yield f"{place}.{key}", value
