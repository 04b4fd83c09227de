"""Train: fingerprint, plan, prepare, train, join. From a cohort with references to a model folder."""

from tasks.train.dataset import Dataset, Split, describe_dataset, involved, read_folds, refused, select, split_cases
from tasks.train.fingerprint import fingerprint
from tasks.train.plan import PlanConfig
from tasks.train.prepare import prepare
from tasks.train.train import TrainConfig, join, plan, train

__all__ = [
    "Dataset",
    "PlanConfig",
    "Split",
    "TrainConfig",
    "describe_dataset",
    "fingerprint",
    "involved",
    "join",
    "plan",
    "prepare",
    "read_folds",
    "refused",
    "select",
    "split_cases",
    "train",
]
