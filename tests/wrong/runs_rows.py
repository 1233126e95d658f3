"""Run folders: lost, damaged, repeated, extended; and what they are compared by."""

ROWS = []
