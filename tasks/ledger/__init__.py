"""The ledger: what is known of each case from the nights before, so that a night does only what is new."""

from tasks.ledger.keys import STAGES, Recipes, describe_recipes
from tasks.ledger.note import note, record
from tasks.ledger.recall import Ledger, Tonight, recall
from tasks.ledger.table import LEDGER, check_ledger, read_expected

__all__ = [
    "LEDGER",
    "STAGES",
    "Ledger",
    "Recipes",
    "Tonight",
    "check_ledger",
    "describe_recipes",
    "note",
    "read_expected",
    "recall",
    "record",
]
