"""`fit`, `compile` and export, used from Python."""

ROWS = []
