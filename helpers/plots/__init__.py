"""Every figure and table of the lesson, one module for each of its subjects."""

from helpers.plots.data import plot_augmentation, plot_digits
from helpers.plots.depth import plot_depth
from helpers.plots.errors import plot_confusion, plot_mistakes
from helpers.plots.fields import plot_effective_field, plot_receptive_fields
from helpers.plots.figure import save_figure
from helpers.plots.inside import plot_journey, plot_strongest
from helpers.plots.normalisation import plot_averaged, plot_channels, plot_noise, plot_scale_and_shift
from helpers.plots.predictions import plot_predictions
from helpers.plots.studies import plot_intervals, plot_rates
from helpers.plots.text import Table as table
from helpers.plots.text import approximate, compare, show_source
from helpers.plots.training import plot_accuracies, plot_history, plot_seeds

__all__ = [
    "approximate",
    "compare",
    "plot_accuracies",
    "plot_augmentation",
    "plot_averaged",
    "plot_channels",
    "plot_confusion",
    "plot_depth",
    "plot_digits",
    "plot_effective_field",
    "plot_history",
    "plot_intervals",
    "plot_journey",
    "plot_mistakes",
    "plot_noise",
    "plot_predictions",
    "plot_rates",
    "plot_receptive_fields",
    "plot_scale_and_shift",
    "plot_seeds",
    "plot_strongest",
    "save_figure",
    "show_source",
    "table",
]
