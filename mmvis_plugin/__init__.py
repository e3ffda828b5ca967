"""Video instance segmentation for MMDetection 3.x.

Importing the package registers its datasets, metrics, models, hooks and visualizers in
MMDetection's registries. Over an environment in which they cannot work it raises an ImportError
that says what is wrong and which command fixes it.
"""

from mmvis_plugin.environment import require_openmmlab
from mmvis_plugin.version import __version__

require_openmmlab()

from mmvis_plugin import (  # noqa: E402
    checkpoint,
    datasets,
    engine,
    evaluation,
    models,
    visualization,
)

__all__ = [
    "__version__",
    "checkpoint",
    "datasets",
    "engine",
    "evaluation",
    "models",
    "visualization",
]
