"""Infer: what the network says of every prepared case."""

from tasks.infer.config import InferenceConfig, Machine, Opened, Weights

__all__ = ["InferenceConfig", "Machine", "Opened", "Weights"]
