"""Scans on disk and in memory: the volume, its geometry, the file formats, and how scans are found."""
