"""Frames of one's own camera."""
