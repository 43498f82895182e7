"""What pictures are read with: the paper around the ink, marks told apart, and groups of strokes that are digits."""
