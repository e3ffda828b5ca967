"""Tracking by detection: any image instance segmenter, and a linker."""
