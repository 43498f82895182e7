"""What makes a run safe and fast; a reader of the lesson may skip it. It knows only tensors, dictionaries and paths."""
