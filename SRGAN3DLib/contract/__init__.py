"""What every process agrees on: errors, configurations, events, jobs, checkpoint headers.

Standard library only: this is all of SRGAN3DLib that Slicer's own process may import.
"""
