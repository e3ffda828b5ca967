"""MinVIS (Huang et al., NeurIPS 2022)."""

from .head import MinVISHead
from .linking import match_queries
from .minvis import MinVIS

__all__ = ["MinVIS", "MinVISHead", "match_queries"]
