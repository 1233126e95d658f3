"""Memory of tests: TensorFlow keeps the graphs of models that are gone."""

import gc

from tensorflow.python.framework import ops


def forget_graphs():
    """Let go of the graphs of all models that are no longer used, tens of MB for each.

    For every step that is traced, the optimizer's sum over replicas puts a gradient function into a
    registry of TensorFlow that never forgets, and the function holds the whole graph.
    """
    registry = ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()
