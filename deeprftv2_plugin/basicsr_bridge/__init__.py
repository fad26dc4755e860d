"""The only place that patches, wraps or reads BasicSR's internals."""
