"""The only place that patches, wraps or reads the internals of BasicSR."""
