"""Images that are wrong, or change."""

ROWS = []
