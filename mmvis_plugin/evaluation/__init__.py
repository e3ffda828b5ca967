"""Scoring: the YouTube-VIS protocol and its MMEngine metric."""

from .ytvis_eval import GroundTruth, evaluate_ytvis, format_table, load_ground_truth
from .ytvis_metric import YTVISMetric

__all__ = ["GroundTruth", "YTVISMetric", "evaluate_ytvis", "format_table", "load_ground_truth"]
