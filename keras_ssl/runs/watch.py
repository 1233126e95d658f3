"""Monitoring of a run: fixed images, and the monitors that the data and the method allow."""

import numpy as np

from keras_ssl import data, evaluation
from keras_ssl.callbacks import CollapseMonitor, KNNMonitor, LikelihoodMonitor

_PROBE = 1024  # images of the collapse monitor and the report
_HELD_OUT = 1000  # images of the generative figures
_BANK, _QUERIES = 5000, 2000  # labelled images of the kNN monitor
_ROWS = 12  # images whose views the report shows
_BATCH = 256


class Probe:
    """Fixed choices of images, with views and the untrained network's features.

    Attributes:
        images: training images `(n, height, width, channels)`.
        labels: their labels, or None.
        view_rows: for the first few of them a list of views, of any sizes.
        pair: two arrays of views of all of them, or None where fewer views have the images' size.
        held_out: test images, or None.
        untrained: the untrained network's features of `images`.
    """

    def __init__(self, model, source, test, views, seed):
        size = model.image_shape[:2]
        self.images, self.labels = source.arrays(size, limit=_PROBE)
        self.held_out = None if test is None else test.arrays(size, limit=_HELD_OUT)[0]
        self.view_rows, self.pair = self._draw(views, seed)
        self.untrained = evaluation.extract(model.encode, self.images)

    @property
    def judged(self):
        """The images of the generative figures, and what to call them."""
        if self.held_out is not None:
            return self.held_out, f"{len(self.held_out)} held-out images"
        images = self.images[:_HELD_OUT]
        return images, f"{len(images)} training images"

    def _draw(self, views, seed):
        count, shape = len(self.images), self.images.shape[1:]
        batch = min(_BATCH, count)
        steps = -(-count // batch)  # the last batch begins the order again
        stream = data.stream(
            data.from_array(self.images), views, batch, seed, steps_per_epoch=steps
        )
        rows, indices, pairs = {}, [], []
        for made in stream.take(steps).as_numpy_iterator():
            for place in np.flatnonzero(made["index"] < _ROWS):
                rows[int(made["index"][place])] = [view[place] for view in made["views"]]
            indices.append(made["index"])
            pairs.append([view for view in made["views"] if view.shape[1:] == shape][:2])
        _, first = np.unique(np.concatenate(indices), return_index=True)
        pair = [np.concatenate(parts)[first] for parts in zip(*pairs)]
        return [rows[index] for index in sorted(rows)], pair if len(pair) == 2 else None


def watchers(model, source, test, probe, monitor, knn_every):
    """The monitors that data and method allow."""
    made = []
    if source.has_labels and test is not None:
        size = model.image_shape[:2]
        bank, queries = source.arrays(size, limit=_BANK), test.arrays(size, limit=_QUERIES)
        made.append(KNNMonitor(bank, queries, every=knn_every))
    if model.can("log_prob"):
        made.append(LikelihoodMonitor(probe.judged[0], per=model.code_unit))
    if monitor and len(probe.images) >= 16:
        made.append(CollapseMonitor(probe.images, views=probe.pair))
    return made


def measure(model, watchers):
    """Current figures of all monitors, by name."""
    figures = {}
    for watcher in watchers:
        measured = watcher.measure(model)
        figures |= measured if isinstance(measured, dict) else {watcher.column: measured}
    return figures


def resume(model, watchers, rows):
    """Give the monitors the figures of an earlier part of the run."""
    for watcher in watchers:
        if isinstance(watcher, CollapseMonitor):
            history = [{**row, "epoch": row["epoch"] - 1} for row in rows[1:]]
            watcher.resume(model, {k: v for k, v in rows[0].items() if k != "epoch"}, history)
        else:
            watcher.untrained = rows[0].get(watcher.column)
