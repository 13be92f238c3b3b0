"""Volumes in, super-resolved volumes out: devices, memory, tiling and the resolver."""
