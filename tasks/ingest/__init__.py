"""Ingest: which files are which case, and whether their headers can be used. Nothing here reads a voxel."""

from tasks.ingest.discover import discover, ingest_case
from tasks.ingest.found import Found, IngestConfig, SetAside
from tasks.ingest.ingest import Intake, find_cases, ingest, search_in_pool
from tasks.ingest.layouts import Search
from tasks.ingest.references import with_segmentations

__all__ = [
    "Found",
    "IngestConfig",
    "Intake",
    "Search",
    "SetAside",
    "discover",
    "find_cases",
    "ingest",
    "ingest_case",
    "search_in_pool",
    "with_segmentations",
]
