"""What makes a run safe and fast; a reader of the lesson may skip it. It works on tensors, dictionaries and paths."""
