"""Infer: what the network says of every prepared case."""

from tasks.infer.case import infer_case
from tasks.infer.infer import infer, open_network
from tasks.infer.machine import InferenceConfig, Machine, Weights

__all__ = ["InferenceConfig", "Machine", "Weights", "infer", "infer_case", "open_network"]
