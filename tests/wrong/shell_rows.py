"""Commands in a shell."""

ROWS = []
