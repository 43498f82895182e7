"""What pictures are read with: noise taken away, paper around ink, marks told apart, groups of strokes that are digits."""
