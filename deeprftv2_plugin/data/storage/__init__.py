"""Image files and LMDB databases: reading and writing."""
