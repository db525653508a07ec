"""Fits what the box applies: heads, confidences and thresholds, from the given content alone, never the self-test."""
