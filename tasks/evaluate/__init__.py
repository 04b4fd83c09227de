"""Evaluate: the segmentation of each case against its reference, on the scan's own grid."""

from tasks.evaluate.evaluate import EvaluationConfig, evaluate, evaluate_case
from tasks.evaluate.folders import compare_folders

__all__ = ["EvaluationConfig", "compare_folders", "evaluate", "evaluate_case"]
