"""Tracks drawn on frames."""

from .colors import track_color, track_palette
from .track_visualizer import TrackVisualizer

__all__ = ["TrackVisualizer", "track_color", "track_palette"]
