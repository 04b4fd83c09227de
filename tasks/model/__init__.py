"""Models: of this program's own format, and of nnU-Net's. What they are; they are read in `tasks/model/folder.py`."""

from tasks.model.records import (
    DESCRIPTION,
    LARGEST_LABEL,
    LONGEST_NAME,
    WEIGHTS,
    KeepLargest,
    Model,
    NnunetRules,
    Plan,
    Scheme,
    SliceOrder,
    Window,
    is_label_name,
)

__all__ = [
    "DESCRIPTION",
    "LARGEST_LABEL",
    "LONGEST_NAME",
    "WEIGHTS",
    "KeepLargest",
    "Model",
    "NnunetRules",
    "Plan",
    "Scheme",
    "SliceOrder",
    "Window",
    "is_label_name",
]
