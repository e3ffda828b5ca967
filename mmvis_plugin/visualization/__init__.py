"""Tracks drawn on frames."""

from .colors import track_color, track_palette
from .track_visualizer import TrackVisualizer, default_enlargement

__all__ = ["TrackVisualizer", "default_enlargement", "track_color", "track_palette"]
