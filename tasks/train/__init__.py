"""Train: fingerprint, plan, prepare, train, join. From a cohort with references to a model folder."""

from tasks.train.config import PlanConfig, TrainConfig

__all__ = ["PlanConfig", "TrainConfig"]
