"""Evaluate: the segmentation of each case against its reference, on the scan's own grid."""

from tasks.evaluate.config import EvaluationConfig

__all__ = ["EvaluationConfig"]
