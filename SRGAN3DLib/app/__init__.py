"""The doors: command line, worker, demo, and the one dispatcher behind them."""
