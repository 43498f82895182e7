"""The candidates among which *sprint* was chosen on validation images, derived from what was chosen."""

from dataclasses import replace

from helpers.recipe import SPRINT

SPRINT_CANDIDATES = {
    "AdamW": replace(SPRINT, label_smoothing=0.0),
    "AdamW, smooth labels": SPRINT,
    "AdamW, smoother labels": replace(SPRINT, label_smoothing=0.1),
    "SGD, smooth labels": replace(SPRINT, optimizer="sgd", nesterov=True, lr=0.1, weight_decay=0.0),
}
