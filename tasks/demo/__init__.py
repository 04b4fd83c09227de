"""The demo cohort: synthetic people with real anatomy, half as DICOM series, half as NIfTI; two scans are broken."""

from tasks.demo.cohort import LABELS, DemoCohort, make_cohort
from tasks.demo.person import PATIENT_NAME

__all__ = ["LABELS", "PATIENT_NAME", "DemoCohort", "make_cohort"]
