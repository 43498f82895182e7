"""The layer table of any network: receptive fields computed layer by layer, and checked by perturbing the image."""

from helpers.receptive_field.markdown import to_markdown
from helpers.receptive_field.sliding import slide
from helpers.receptive_field.table import Row, blocks, layer_table, measured_receptive_field, stages

__all__ = ["Row", "blocks", "layer_table", "measured_receptive_field", "slide", "stages", "to_markdown"]
