"""The order of samples, and the loader."""
