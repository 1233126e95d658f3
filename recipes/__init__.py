"""One runnable file per paper."""
