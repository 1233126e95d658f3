"""Views a second through `data.stream`, from an array in memory.

Run: `python -m benchmarks.views_speed`.
"""

import statistics
import sys
import time

import numpy as np

from benchmarks import results
from keras_ssl import data, views

_IMAGES = 4096
_BATCH = 256
_WARM_UP = 6  # batches, so that AUTOTUNE has settled and the prefetch buffer is drained


def measure(image_size: int, seconds: float = 3.0, runs: int = 5) -> list[float]:
    """Views a second in each of `runs` runs of `seconds`, of SimCLR's views for that size."""
    images = np.random.default_rng(0).integers(
        0, 256, (_IMAGES, image_size, image_size, 3), np.uint8
    )
    batches = iter(data.stream(data.from_array(images), views.simclr(image_size), _BATCH, seed=0))
    speeds = []
    for _ in range(runs):
        for _ in range(_WARM_UP):
            next(batches)
        start, made = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(batches)
            made += 2 * _BATCH
        speeds.append(made / (time.perf_counter() - start))
    return speeds


def main() -> None:
    """Print, and with `--record` keep, the figures."""
    figures = {}
    for size in (32, 96):
        rates = measure(size)
        spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
        figures[f"{size} px"] = f"{statistics.median(rates):,.0f} views/s {spread}"
        print(f"{size} px: median {figures[f'{size} px']}")
    if "--record" in sys.argv[1:]:
        command = "python -m benchmarks.views_speed --record"
        results.record("speed", "SimCLR's views from an array in memory", command, figures)


if __name__ == "__main__":
    main()
