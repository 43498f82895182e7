"""Reusable parts of the notebook: data, model, layer table, summary, training, checkpoints, plots and studies."""
