"""How good a result is: metrics, the scoring protocol, reports and pictures."""
