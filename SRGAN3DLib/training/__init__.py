"""From scans on disk to a checkpoint: data sets, losses, the training loop and its RUN folder."""
