"""The former place of :mod:`mmvis_plugin.ytvis.checking`."""

import warnings

from mmvis_plugin.ytvis.checking import Problem, Report, check_ytvis

__all__ = ["Problem", "Report", "check_ytvis"]

warnings.warn(
    "mmvis_plugin.datasets.checking is now mmvis_plugin.ytvis.checking; the old name goes with the "
    "next release",
    FutureWarning,
    stacklevel=2,
)
