"""Tracks drawn on frames, and the test hook that writes them as videos."""

from .colors import track_color, track_palette
from .hook import TrackVisHook
from .track_visualizer import TrackVisualizer

__all__ = ["TrackVisHook", "TrackVisualizer", "track_color", "track_palette"]
