"""What a scanner does to a scan, how to estimate it, and how to undo it."""
