"""What pictures are read with: noise taken away, ink told from paper, marks told apart, strokes that are digits."""
