"""Scoring: the YouTube-VIS protocol and its MMEngine metric, errors, tracking figures."""

import warnings

from .bootstrap import BOOTSTRAP_FIGURES, Difference, paired_bootstrap
from .error_analysis import (
    ERROR_KINDS,
    LINKING_KINDS,
    ErrorAnalysis,
    analyze_errors,
    correct_results,
)
from .protocol import VideoMatches, accumulate, match_videos
from .tracking import HOTA_FIGURES, evaluate_tracking
from .tracks import GroundTruth
from .ytvis_eval import evaluate_ytvis, format_table, load_ground_truth, load_results
from .ytvis_metric import YTVISMetric

__all__ = [
    "BOOTSTRAP_FIGURES",
    "Difference",
    "ERROR_KINDS",
    "ErrorAnalysis",
    "GroundTruth",
    "HOTA_FIGURES",
    "LINKING_KINDS",
    "VideoMatches",
    "YTVISMetric",
    "accumulate",
    "analyze_errors",
    "correct_results",
    "evaluate_tracking",
    "evaluate_ytvis",
    "format_table",
    "load_ground_truth",
    "load_results",
    "match_videos",
    "paired_bootstrap",
]


def __getattr__(name: str):
    if name != "mend_results":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    message = "mend_results is now correct_results; the old name goes with the next release"
    warnings.warn(message, FutureWarning, stacklevel=2)
    return correct_results
