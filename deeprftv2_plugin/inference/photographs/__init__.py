"""Read and write photographs in many file formats, with their metadata."""
