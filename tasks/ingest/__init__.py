"""Ingest: which files are which case, and whether their headers can be used. Nothing here reads a voxel."""

from tasks.ingest.found import Found, IngestConfig, Intake, SetAside

__all__ = ["Found", "IngestConfig", "Intake", "SetAside"]
