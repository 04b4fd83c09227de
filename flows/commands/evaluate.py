"""`segment-cohort evaluate`: metrics of label maps that are already there, whoever made them."""

from __future__ import annotations

from argparse import Namespace

from flows.commands.arguments import pool_flags
from flows.night import check_cohort
from flows.settings import Settings, load_settings
from tasks.evaluate.folders import compare_folders
from tasks.pool import open_pool
from tasks.report.groups import read_groups, write_groups
from tasks.report.tables import write_metrics
from tasks.scan.errors import UnwritableOutput


def execute(arguments: Namespace) -> int:
    """0 when every prediction was compared with its reference, else 1."""
    settings = load_settings(Settings, arguments.settings, {"pool": pool_flags(arguments)})
    groups = read_groups(arguments.groups) if arguments.groups else None
    check_cohort(arguments.predictions)
    check_cohort(arguments.references)
    with open_pool(settings.pool) as pool:
        outcomes, labels = compare_folders(
            arguments.predictions.resolve(), arguments.references.resolve(), settings.evaluation, pool
        )
    try:
        write_metrics(outcomes, labels, arguments.output)
        if groups is not None:
            write_groups(outcomes, labels, groups, arguments.output.with_name("summary_groups.csv"))
    except OSError as error:
        raise UnwritableOutput(f"'{arguments.output}': {error.strerror}; choose another --output") from error
    troubled = [outcome for outcome in outcomes if outcome.problem]
    for outcome in troubled:
        print(f"{outcome.name}: {outcome.problem and outcome.problem.message}")
    print(f"{len(outcomes) - len(troubled)} of {len(outcomes)} cases compared: {arguments.output}")
    return 1 if troubled else 0
