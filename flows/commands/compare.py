"""`segment-cohort compare`: what became better or worse between two runs; with a gate for a fixed cohort."""

from __future__ import annotations

from argparse import Namespace

from tasks.compare import compare_runs, losses, write_comparison
from tasks.scan.errors import UnknownSetting, UnwritableOutput


def execute(arguments: Namespace) -> int:
    """0; or 1 when there is a gate and the mean Dice of a label fell by more than its margin."""
    margin = arguments.gate
    if margin is not None and not 0 <= margin <= 1:
        raise UnknownSetting(f"--gate {margin}: needed: a loss of Dice from 0 to 1")
    runs = (arguments.first.resolve(), arguments.second.resolve())
    comparison = compare_runs(*runs)
    fallen = {} if margin is None else {name: loss for name, loss in losses(comparison).items() if loss > margin}
    try:
        write_comparison(comparison, runs, fallen, margin, arguments.output)
    except OSError as error:
        raise UnwritableOutput(f"'{arguments.output}': {error.strerror}; choose another --output") from error
    for row in comparison.labels[comparison.labels["metric"] == "dice"].itertuples():
        print(
            f"{row.name}: Dice {row.difference_mean:+.4f} "
            f"({row.difference_ci95_low:+.4f} to {row.difference_ci95_high:+.4f}), p {row.p_holm:.3g} after Holm; "
            f"{row.n_better} better, {row.n_worse} worse, {row.n_same} same, {row.n_new} new, {row.n_gone} gone"
        )
    for name, loss in fallen.items():
        print(f"gate: {name} lost {loss:.4f} Dice in the mean, {margin} is allowed")
    print(f"page: {arguments.output / 'comparison.html'}")
    return 1 if fallen else 0
