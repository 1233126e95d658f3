"""Speed and quality, measured; RESULTS.md holds the figures with the commands that made them."""
