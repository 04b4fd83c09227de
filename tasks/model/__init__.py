"""Models: of this program's own format, and of nnU-Net's; what they are, and how they are written and read."""

from tasks.model.folder import DESCRIPTION, WEIGHTS, load_networks, read_model, save_model
from tasks.model.records import (
    LARGEST_LABEL,
    LONGEST_NAME,
    KeepLargest,
    Model,
    NnunetRules,
    Plan,
    Scheme,
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
    "Window",
    "is_label_name",
    "load_networks",
    "read_model",
    "save_model",
]
