"""Compare: two runs over the same cases. What became better or worse, by how much, and may that be chance?"""

from tasks.compare.differences import Comparison, compare_runs, losses
from tasks.compare.page import write_comparison

__all__ = ["Comparison", "compare_runs", "losses", "write_comparison"]
