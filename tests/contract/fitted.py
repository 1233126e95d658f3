"""One trained model of a case, which all checks that only look at it share.

Training and tracing are what the contract costs, so each kind of run is made once a case: three
steps; from the start again, twenty on one batch (`model`); and a run from plain images with all
settings at their defaults, copied inside its second epoch as a kill would leave it (`whole`).
"""

import functools
import shutil

import keras
import numpy as np
from contract.cases import BATCH, CASES, COUNT, fresh, method_class, source, train

from keras_ssl.engine import optimizer
from keras_ssl.runs.folder import Recorder, RunFolder

EPOCHS = 3  # of `whole`


def state(model):
    """Every variable that training may change, by path."""
    return {
        **{f"{i} {w.path}": np.array(w) for i, w in enumerate(model.weights)},
        **{f"{i} {v.path}": np.array(v) for i, v in enumerate(model.optimizer.variables)},
    }


def check_same(a, b):
    """All variables equal bit for bit; names of layers may differ by their numbers."""
    assert len(a) == len(b)
    for (name, old), new in zip(a.items(), b.values()):
        np.testing.assert_array_equal(old, new, err_msg=name)


class Losses(keras.callbacks.Callback):
    """Running mean of the loss after every step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(logs["loss"])


class CopyOfAKilledRun(keras.callbacks.Callback):
    """Copies the run folder inside the second epoch: what a SIGKILL there leaves behind."""

    def __init__(self, folder, copy):
        super().__init__()
        self.folder, self.copy, self.epoch = folder, copy, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            shutil.copytree(self.folder, self.copy)


class Fitted:
    """The models of a case; what was not asked for is not trained."""

    def __init__(self, name, folder):
        self.name, self.cls, self.folder = name, method_class(name), folder
        self.traces, self.dtypes = 0, set()

    @functools.cached_property
    def start(self):
        """The first weights."""
        return [np.array(w) for w in fresh(self.name).get_weights()]

    @functools.cached_property
    def three_steps(self):
        """The model after three steps of plain SGD, and arrays as `distributed/job.py` leaves."""
        model, losses = fresh(self.name), Losses()
        model.build_optimizer()
        self._untrained = [np.array(v) for v in model.optimizer.variables]
        train(model, 3, callbacks=[losses])
        arrays = {str(i): np.array(w) for i, w in enumerate(model.get_weights())}
        return model, {"loss": np.array(losses.values), **arrays}

    @functools.cached_property
    def model(self):
        """The same model after twenty steps on one batch. Checks must leave it as it is."""
        model, _ = self.three_steps
        model.set_weights(self.start)
        for variable, value in zip(model.optimizer.variables, self._untrained):
            variable.assign(value)
        train(model, 1, epochs=20)
        return model

    @functools.cached_property
    def whole(self):
        """The model and history of a run of plain images that was not killed."""
        return self.run(self.folder / "whole", self.folder / "killed")

    def run(self, path, killed=None):
        """Train as a user's five lines would, in a run folder; continues what is there."""
        keras.utils.set_random_seed(1)
        model = CASES[self.name].make()
        if killed:
            self._count(model)
        if path.exists():  # else `fit` compiles
            optimizer.compile_default(model, EPOCHS, COUNT // BATCH, BATCH)
        folder = RunFolder(path, {})
        done = folder.restore(model)
        callbacks = [CopyOfAKilledRun(path, killed)] if killed else []
        history = model.fit(
            source(),
            batch_size=BATCH,
            epochs=EPOCHS,
            initial_epoch=done,
            seed=3,
            verbose=0,
            callbacks=[*callbacks, Recorder(folder, 1, EPOCHS)],
        )
        folder.close()
        return model, history.history

    def _count(self, model):
        """Counts traces of the step, and notes the types of the losses that it logs."""
        update = model.update

        def counting(batch):
            self.traces += 1
            losses = update(batch)
            self.dtypes |= {keras.backend.standardize_dtype(x.dtype) for x in losses.values()}
            return losses

        model.update = counting
