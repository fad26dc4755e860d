"""Images and LMDBs: reading and writing."""
