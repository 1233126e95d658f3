"""The folder of a run: its settings, its figures, and a state to go on from, bit for bit.

    config.json                settings; the same command finds its own run by them
    metrics.csv                one row an epoch; row 0 is the untrained network
    checkpoints/epoch-00012/   weights, optimizer state and rows after 12 epochs; the last two
    tensorboard/               scalars of every epoch
    encoder/, encoder.keras    the result, once training has ended
    report.html                the page on the run

Everything is written beside its place and then renamed, so that a run killed at any moment leaves a
usable folder.
"""

import contextlib
import csv
import io
import json
import os
import pathlib
import shutil
import tempfile

import h5py
import keras

from keras_ssl.callbacks.divergence import DivergenceGuard

try:
    import fcntl
except ImportError:  # not on Windows, where two processes are not kept apart
    fcntl = None

_KEPT = 2


class RunFolder:
    """Opens a run folder, new or to be continued.

    Args:
        path: the folder; made where absent.
        config: settings, JSON-able; they decide whether an existing folder is this run's.
        writes: whether this process writes. Of several, the chief alone does; the others read the
            checkpoints.

    Raises:
        ValueError: if the folder holds something else, or another run.
        RuntimeError: if another process is at work in it.
    """

    def __init__(self, path, config: dict, writes: bool = True):
        self.path = pathlib.Path(path)
        self._writes, self._lock = writes, None
        self._config = json.loads(json.dumps(config))
        self.rows: list[dict] = []
        if writes:
            self._claim()
        elif self._record.exists():
            self._compare()

    @property
    def encoder(self) -> pathlib.Path:
        """The SavedModel."""
        return self.path / "encoder"

    @property
    def report(self) -> pathlib.Path:
        """The page on the run."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    def epochs_done(self) -> int:
        """Epochs that the newest complete checkpoint has behind it; 0 where there is none."""
        return max(self._saved(), default=0)

    def restore(self, model) -> int:
        """Load the newest checkpoint into a compiled `model`; returns the epochs behind it."""
        epoch = self.epochs_done()
        folder = self.checkpoints / _name(epoch)
        if folder.is_dir():
            model.build_optimizer()
            model.load_weights(folder / "state.weights.h5")
            self.rows = json.loads((folder / "metrics.json").read_text())
            if self._writes:
                self._write_metrics()
        return epoch

    def save(self, model, epoch: int) -> None:
        """Keep the state after `epoch` epochs: model, optimizer, and the metrics so far."""
        if not self._writes:
            # Saving reads variables, some of which all processes of a run must read together.
            with tempfile.TemporaryDirectory() as scratch:
                model.save_weights(pathlib.Path(scratch) / "state.weights.h5")
            return
        target, partial = self.checkpoints / _name(epoch), self.checkpoints / f".partial-{epoch}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _save_weights(model, partial / "state.weights.h5")
            (partial / "metrics.json").write_text(json.dumps(self.rows))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
            self._write_metrics()
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            kept = self.epochs_done()
            raise RuntimeError(
                f"Could not save epoch {epoch} in {self.path}: {error}. The checkpoint of epoch "
                f"{kept} is kept; free some space and run the same "
                "command again to go on from there."
            ) from error
        for old in sorted(self._saved())[:-_KEPT]:
            shutil.rmtree(self.checkpoints / _name(old))

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.close()

    @property
    def _record(self):
        return self.path / "config.json"

    def _claim(self):
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(
                f"`out` must be a folder. Received: {self.path}, a file. Choose another name."
            )
        if (
            self.path.is_dir()
            and not self._record.exists()
            and any(p.name != ".lock" for p in self.path.iterdir())
        ):
            raise ValueError(
                "`out` must be a new or empty folder, or that of a run to continue. Received: "
                f"{self.path}, which holds other files. Choose another."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / ".lock", "w")
        try:
            if fcntl:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RuntimeError(
                f"Another process is at work in {self.path}. Wait for it, or choose another `out`."
            ) from error
        if self._record.exists():
            self._compare()
        else:
            write_atomically(self._record, json.dumps(self._config, indent=2) + "\n")
        for partial in self.checkpoints.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)

    def _compare(self):
        try:
            known = json.loads(self._record.read_text())
        except ValueError as error:
            self.close()
            raise ValueError(
                f"{self._record} is not a run's record: {error}. Choose another `out`."
            ) from error
        if known.get("version") != self._config.get("version"):
            self.close()
            raise ValueError(
                f"{self.path} holds a run of keras_ssl {known.get('version')}, whose checkpoints "
                f"have another form. Received: version {self._config.get('version')}. Continue it "
                "with the version it was begun with, or choose another `out`."
            )
        names = sorted(set(known) | set(self._config))
        differing = [n for n in names if known.get(n) != self._config.get(n)]
        if differing:
            self.close()
            listed = "; ".join(
                f"{n}: {known.get(n)!r} there, {self._config.get(n)!r} asked for" for n in differing
            )
            raise ValueError(
                f"{self.path} holds another run ({listed}). Choose another `out`, or repeat that "
                "run's settings to continue it."
            )

    def _saved(self):
        with contextlib.suppress(FileNotFoundError):
            return [
                int(p.name.removeprefix("epoch-"))
                for p in self.checkpoints.iterdir()
                if p.name.startswith("epoch-")
            ]
        return []

    def _write_metrics(self):
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path / "metrics.csv", text.getvalue())


class Recorder(keras.callbacks.Callback):
    """A row of metrics and a checkpoint after each epoch; last, to see what other callbacks log."""

    def __init__(self, folder: RunFolder, every: int, epochs: int):
        super().__init__()
        self._folder, self._every, self._epochs = folder, every, epochs

    def on_epoch_end(self, epoch, logs=None):
        """Add the row; save where it is due."""
        self._folder.rows.append(
            {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}}
        )
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            self._folder.save(self.model, epoch + 1)


def recorded(path, name: str):
    """The setting `name` of the run in the folder `path`; None where there is none."""
    try:
        settings = json.loads((pathlib.Path(path) / "config.json").read_text())
    except (OSError, ValueError, TypeError):  # `RunFolder` says what is wrong with the folder
        return None
    return settings.get(name) if isinstance(settings, dict) else None


def guard(folder: RunFolder) -> DivergenceGuard:
    """A guard whose message says where the last good checkpoint is."""
    return DivergenceGuard(
        f"The last good checkpoint is the newest in {folder.checkpoints}, from before that epoch."
    )


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Write `text` beside `path` and rename, so that a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def _save_weights(model, path):
    """Save, and read back: HDF5 can lose what a full disk refuses without a word."""
    model.save_weights(path)
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda _, item: found.append(item))
        for item in found:
            if isinstance(item, h5py.Dataset):
                item[()]


def _name(epoch: int) -> str:
    return f"epoch-{epoch:05d}"
