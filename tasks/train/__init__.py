"""Train: fingerprint, plan, prepare, train. From a cohort with references to a model folder."""

from tasks.train.dataset import Dataset, describe_dataset, hold_out, refused
from tasks.train.plan import PlanConfig
from tasks.train.train import TrainConfig, fingerprint, plan, prepare, train

__all__ = [
    "Dataset",
    "PlanConfig",
    "TrainConfig",
    "describe_dataset",
    "fingerprint",
    "hold_out",
    "plan",
    "prepare",
    "refused",
    "train",
]
