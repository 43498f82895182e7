"""The benchmark: the stock pipeline and this project's, measured side by side by ``python -m evidence.benchmark``."""
