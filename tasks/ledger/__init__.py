"""The ledger: what is known of each case from the nights before, so that a night does only what is new."""

from tasks.ledger.agree import ledger_findings
from tasks.ledger.keys import STAGES, Recipes, describe_recipes
from tasks.ledger.table import LEDGER, Entry, looked_at, read_entries, read_expected, read_recipes
from tasks.ledger.versions import check_ledger

__all__ = [
    "LEDGER",
    "STAGES",
    "Entry",
    "Recipes",
    "check_ledger",
    "describe_recipes",
    "ledger_findings",
    "looked_at",
    "read_entries",
    "read_expected",
    "read_recipes",
]
