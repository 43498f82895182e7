"""What is measured against the stock pipeline, side by side: ``python -m evidence.benchmark``."""
