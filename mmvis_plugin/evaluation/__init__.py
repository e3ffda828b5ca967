"""Scoring: the YouTube-VIS protocol and its MMEngine metric, what goes wrong, HOTA."""

from .bootstrap import BOOTSTRAP_FIGURES, Difference, paired_bootstrap
from .error_analysis import (
    ERROR_KINDS,
    LINKING_KINDS,
    ErrorAnalysis,
    analyze_errors,
    mend_results,
)
from .hota import HOTA_FIGURES, evaluate_hota
from .track_counts import count_tracks
from .ytvis_eval import (
    GroundTruth,
    VideoMatches,
    accumulate,
    evaluate_ytvis,
    format_table,
    load_ground_truth,
    load_results,
    match_videos,
)
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
    "count_tracks",
    "evaluate_hota",
    "evaluate_ytvis",
    "format_table",
    "load_ground_truth",
    "load_results",
    "match_videos",
    "mend_results",
    "paired_bootstrap",
]
