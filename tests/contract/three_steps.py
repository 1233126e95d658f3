"""Losses and weights of every contract case after three steps, to compare two versions bit for bit.

python tests/contract/three_steps.py write before.npz        # with the old version
python tests/contract/three_steps.py compare before.npz      # with the new one
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import keras  # noqa: E402
import numpy as np  # noqa: E402
from contract.cases import CASES, fresh, train  # noqa: E402


class Losses(keras.callbacks.Callback):
    """The running means after each step."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append([float(logs[name]) for name in sorted(logs)])


def three_steps(name):
    """Losses of three steps and all weights and optimizer variables after them, by name."""
    model, losses = fresh(name), Losses()
    train(model, 3, callbacks=[losses])
    # Counters of the frame are no part of what a method computes.
    counters = ("total_steps", "steps_per_epoch", "batches_seen")
    state = [v for v in model.weights if not v.path.endswith(counters)]
    state += model.optimizer.variables
    arrays = {f"{name}/{i}": np.array(v) for i, v in enumerate(state)}
    return {f"{name}/losses": np.array(losses.rows), **arrays}


def main(action, path, *names):
    """Write the arrays of all cases (or of `names`) to `path`, or compare them with it."""
    found = {}
    for name in names or sorted(n for n in CASES if not n.startswith("Toy")):
        keras.backend.clear_session()
        found |= three_steps(name)
    if action == "write":
        np.savez(path, **found)
        print(f"{len(found)} arrays of {len(names or CASES)} cases")
        return
    before = dict(np.load(path))
    if names:
        before = {k: v for k, v in before.items() if k.split("/")[0] in names}
    differing = sorted(
        key
        for key in before.keys() | found.keys()
        if key not in before or key not in found or not np.array_equal(before[key], found[key])
    )
    for key in differing:
        if key in before and key in found and before[key].shape == found[key].shape:
            print(key, "differs by up to", np.max(np.abs(before[key] - found[key])))
        else:
            print(key, "is in one alone, or of another shape")
    print(f"{len(found) - len(differing)} of {len(before)} arrays equal bit for bit")
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main(*sys.argv[1:])
