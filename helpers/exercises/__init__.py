"""The notebook's exercises: checks that say what they saw and what to look at next, handing out, and grading."""

from helpers.exercises.batch_norm import check_batch_norm
from helpers.exercises.choice import check_choice
from helpers.exercises.network import batch_norm_at_work, check_network
from helpers.exercises.parameters import check_parameter_count
from helpers.exercises.receptive_fields import LaterPooling, check_receptive_fields

__all__ = [
    "LaterPooling",
    "batch_norm_at_work",
    "check_batch_norm",
    "check_choice",
    "check_network",
    "check_parameter_count",
    "check_receptive_fields",
]
