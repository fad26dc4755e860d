"""Photographs as files: reading and writing them in many formats, with their metadata."""
