"""Measurements: each prints its table. None is a test; `docs/training.md` and `docs/metrics.md` say what came out."""
