"""The folder of a run: its settings, its figures, and a state to go on from, bit for bit.

    config.json                settings; the same command finds its own run by them
    metrics.csv                one row an epoch; row 0 is the untrained network
    checkpoints/epoch-00012/   weights, optimizer state and rows after 12 epochs, with their
                               checksums; the last two
    tensorboard/               scalars of every epoch
    encoder/, encoder.keras    the result, once training has ended
    teacher.keras              the frozen teacher of a method that has one and keeps it
    report.html                the page on the run

Everything is written beside its place and then renamed, so that a run killed at any moment leaves a
usable folder.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import tempfile
import warnings

import h5py
import keras

from keras_ssl.callbacks.divergence import DivergenceGuard
from keras_ssl.export import remove

try:
    import fcntl
except ImportError:  # not on Windows, where two processes are not kept apart
    fcntl = None

_KEPT, _RECORD = 2, "config.json"
_STATE, _ROWS, _CHECKSUMS = "state.weights.h5", "metrics.json", "checksums.json"
_DESCRIPTIONS = ("data",)  # settings that only describe: the images' own figures identify them


class RunFolder:
    """Opens a run folder, new or to be continued.

    A run whose settings differ in a larger number of `epochs` alone is continued, too.

    Attributes:
        rows: metrics by epoch.
        epochs_before: `epochs` of the run so far where it is asked to go on beyond them, else None.

    Args:
        path: the folder; made where absent.
        config: settings, JSON-able; they decide whether an existing folder is this run's.
        writes: whether this process writes. Of several, the chief alone does; the others read the
            checkpoints.

    Raises:
        ValueError: if the folder cannot be used, or holds something else, or another run.
        RuntimeError: if another process is at work in it.
    """

    def __init__(self, path, config: dict, writes: bool = True):
        check_path(path)
        self.path = pathlib.Path(path)
        self._writes, self._lock = writes, None
        self._config = _plain(config)
        self.rows: list[dict] = []
        self.epochs_before = None
        self._intact: dict[int, bool] = {}
        if writes:
            try:
                self._claim()
            except OSError as error:
                self.close()
                raise unusable(self.path, error) from error
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
        """Epochs that the newest intact checkpoint has behind it; 0 where there is none."""
        return max(self._saved(), default=0)

    def extend(self) -> None:
        """Keep the larger number of epochs in the record."""
        if self._writes:
            self._write_record()

    def restore(self, model) -> int:
        """Load the newest checkpoint into a compiled `model`; returns the epochs behind it."""
        epoch = self.epochs_done()
        if epoch:
            folder = self.checkpoints / _name(epoch)
            model.build_optimizer()
            model.load_weights(folder / _STATE)
            self.rows = json.loads((folder / _ROWS).read_text())
            if self._writes:
                self._write_metrics()
        return epoch

    def save(self, model, epoch: int) -> None:
        """Keep the state after `epoch` epochs: model, optimizer, and the metrics so far."""
        if not self._writes:
            # Saving reads variables, some of which all processes of a run must read together.
            with tempfile.TemporaryDirectory() as scratch:
                model.save_weights(pathlib.Path(scratch) / _STATE)
            return
        target, partial = self.checkpoints / _name(epoch), self.checkpoints / f".partial-{epoch}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _save_weights(model, partial / _STATE)
            (partial / _ROWS).write_text(json.dumps(self.rows))
            (partial / _CHECKSUMS).write_text(json.dumps(_checksums(partial)))
            remove(target)
            os.replace(partial, target)
            self._intact[epoch] = True
            self._write_metrics()
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise RuntimeError(
                f"Could not save epoch {epoch} in {self.path}: {error}. Free some space. "
                f"{self.kept()}"
            ) from error
        for old in [e for e in self._saved() if e <= epoch][:-_KEPT]:
            shutil.rmtree(self.checkpoints / _name(old))

    def kept(self) -> str:
        """A sentence that says from where the run can go on."""
        done = self.epochs_done()
        if not done:
            return "There is no checkpoint yet: the same command begins anew."
        return (
            f"The last good checkpoint, of epoch {done} in {self.checkpoints}, is kept: the same "
            "command goes on from there."
        )

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.close()

    @property
    def _record(self):
        return self.path / _RECORD

    def _claim(self):
        self._lock = claim(self.path, self._record.name)
        if self._record.exists():
            self._compare()
        else:
            self._write_record()
        for partial in self.checkpoints.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)

    def _compare(self):
        try:
            self._compare_with(read_record(self._record))
        except ValueError:
            self.close()
            raise

    def _compare_with(self, known):
        """Raise where `known` is another run's record."""
        asked = self._config
        if known.get("version") != asked.get("version"):
            raise ValueError(
                f"{self.path} holds a run of keras_ssl {known.get('version')}, whose checkpoints "
                f"have another form. Received: version {asked.get('version')}. Continue it "
                "with the version it was begun with, or choose another `out`."
            )
        differing = differences(known, asked)
        before, epochs = known.get("epochs"), asked.get("epochs")
        if list(differing) == ["epochs"] and isinstance(before, int) and epochs > before:
            self.epochs_before, differing = before, {}
        if differing:
            listed = "; ".join(f"{name}: {text}" for name, text in differing.items())
            raise ValueError(
                f"{self.path} holds another run ({listed}). Choose another `out`, or repeat that "
                "run's settings to continue it."
            )
        if _times(known) != _times(asked):
            warnings.warn(
                "The image files were written anew since the run began. Their names and sizes, and "
                "the contents of a sample of them, are the same: the run goes on.",
                stacklevel=4,
            )

    def _saved(self):
        """Epochs of the intact checkpoints, increasing."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.checkpoints.iterdir():
                number = path.name.removeprefix("epoch-")
                if number.isdecimal() and path.name == _name(int(number)):
                    found.append(int(number))
        return sorted(epoch for epoch in found if self._is_intact(epoch))

    def _is_intact(self, epoch):
        """Whether the files of a checkpoint have the checksums that were written with them."""
        if epoch not in self._intact:
            folder = self.checkpoints / _name(epoch)
            try:
                same = json.loads((folder / _CHECKSUMS).read_text()) == _checksums(folder)
            except (OSError, ValueError):
                same = False
            self._intact[epoch] = same
            if not same:
                warnings.warn(
                    f"{folder} is damaged, or no checkpoint, and is left aside: its files are "
                    "missing or do not have their checksums.",
                    stacklevel=2,
                )
        return self._intact[epoch]

    def _write_record(self):
        write_atomically(self._record, json.dumps(self._config, indent=2) + "\n")

    def _write_metrics(self):
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path / "metrics.csv", text.getvalue())


class Recorder(keras.callbacks.Callback):
    """A row of metrics and a checkpoint after each epoch; last, to see what other callbacks log."""

    def __init__(
        self, folder: RunFolder, every: int, epochs: int, early_stopping: int | None = None
    ):
        super().__init__()
        self._folder, self._every, self._epochs = folder, every, epochs
        self._early_stopping = early_stopping

    def on_epoch_end(self, epoch, logs=None):
        """Add the row; save where it is due; stop where `early_stopping` says so."""
        self._folder.rows.append(
            {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}}
        )
        stalled = has_stalled(self._folder.rows, self._early_stopping)
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs or stalled:
            self._folder.save(self.model, epoch + 1)
        if stalled:
            self.model.stop_training = True


def has_stalled(rows: list, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better kNN accuracy, or no lower loss.

    A function of the rows alone, so that a resumed run stops where the whole one would.
    """
    trained = rows[1:]
    if patience is None or not trained:
        return False
    if "knn" in trained[-1]:
        scores = [row["knn"] for row in trained if "knn" in row]
    else:
        scores = [-row["loss"] for row in trained]
    return len(scores) - 1 - scores.index(max(scores)) >= patience


def recorded(path, name: str):
    """The setting `name` of the run in the folder `path`; None where there is none."""
    try:
        settings = json.loads((pathlib.Path(path) / _RECORD).read_text())
    except (OSError, ValueError, TypeError):  # `RunFolder` says what is wrong with the folder
        return None
    return settings.get(name) if isinstance(settings, dict) else None


def check_ahead(out, config: dict) -> None:
    """Raise what `RunFolder` can tell of its arguments without writing; for work before a run."""
    check_path(out)
    _plain(config)
    try:
        _check_contents(pathlib.Path(out), _RECORD)
    except OSError as error:
        raise unusable(pathlib.Path(out), error) from error


def check_path(out) -> None:
    """Raise unless `out` can be the path of a folder."""
    if not isinstance(out, str | os.PathLike):
        raise ValueError(
            f"`out` must be the path of a folder. Received: out={out!r}. Use out='runs/1'."
        )


def claim(path: pathlib.Path, record: str):
    """Make the folder `path`, or take one that has the file `record`, for this process alone.

    Returns:
        The open lock file; closing it lets other processes in.

    Raises:
        ValueError: if it is a file, or holds other files.
        RuntimeError: if another process is at work in it.
        OSError: if it cannot be made or written; see `unusable`.
    """
    _check_contents(path, record)
    path.mkdir(parents=True, exist_ok=True)
    lock = open(path / ".lock", "w")
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise RuntimeError(
            f"Another process is at work in {path}. Wait for it, or choose another `out`."
        ) from error
    return lock


def _check_contents(path, record):
    """Raise where `path` is a file, or a folder with other files than those of `record`."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"`out` must be a folder. Received: {path}, a file. Choose another name.")
    # Files that a start may leave behind before there is a record.
    ours = (".lock", f".{record}.partial")
    if (
        path.is_dir()
        and not (path / record).exists()
        and any(p.name not in ours for p in path.iterdir())
    ):
        raise ValueError(
            "`out` must be a new or empty folder, or that of a run to continue. Received: "
            f"{path}, which holds other files. Choose another."
        )


def unusable(path: pathlib.Path, error: OSError) -> ValueError:
    """The error for a folder that cannot be made or written."""
    return ValueError(
        f"`out` must be a folder that can be written. Received: {path} ({error}). Free some space "
        "there, or choose another."
    )


def read_record(path: pathlib.Path) -> dict:
    """The record that lies at `path`; raises ValueError if it is none."""
    try:
        known = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a run's record: {error}. Choose another `out`.") from error
    if not isinstance(known, dict):
        raise ValueError(
            f"{path} is not a run's record: it holds a {type(known).__name__}. Choose another "
            "`out`."
        )
    return known


def differences(known: dict, asked: dict) -> dict[str, str]:
    """Both values of each setting that differs, as text by name; not of what only describes."""
    names = sorted({*known, *asked} - set(_DESCRIPTIONS))
    pairs = {n: (_identity(known.get(n)), _identity(asked.get(n))) for n in names}
    return {n: _differences(*pair) for n, pair in pairs.items() if pair[0] != pair[1]}


def guard(folder: RunFolder) -> DivergenceGuard:
    """A guard whose message says where the last good checkpoint is."""
    return DivergenceGuard(folder.kept)


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Write `text` beside `path` and rename, so that a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _save_weights(model, path):
    """Save, and read back: HDF5 can lose what a full disk refuses without a word."""
    _check_space(model, path)
    model.save_weights(path)
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda _, item: found.append(item))
        for item in found:
            if isinstance(item, h5py.Dataset):
                item[()]


def _check_space(model, path):
    """Raise OSError where the disk has no room: HDF5 would end the process later, in its clean-up.

    The room is taken for a moment, which also meets quotas and limits on the size of files.
    """
    variables = [*model.variables, *(model.optimizer.variables if model.compiled else [])]
    numbers = sum(math.prod(variable.shape) for variable in variables)
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):  # Linux
            # At most 4 bytes a number, and what HDF5 itself writes of each array.
            os.posix_fallocate(file.fileno(), 0, 4 * numbers + 4096 * (1 + len(variables)))
    path.unlink()


def _checksums(folder):
    """SHA-256 of the files of a checkpoint, by name."""
    sums = {}
    for name in (_STATE, _ROWS):
        with open(folder / name, "rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _plain(config):
    """Settings as JSON gives them back."""
    for name, value in config.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The settings of a run must be numbers, text, lists and dicts, which JSON can "
                f"hold. Received: {name}={value!r} ({error})."
            ) from error
    return json.loads(json.dumps(config))


def _identity(setting):
    """The part of a setting that identifies a run."""
    if isinstance(setting, dict):
        return {name: value for name, value in setting.items() if name not in ("times", "note")}
    return setting


def _differences(known, asked):
    """Both values of a setting; of dicts, the entries that differ."""
    if isinstance(known, dict) and isinstance(asked, dict):
        names = [n for n in {**known, **asked} if known.get(n) != asked.get(n)]
        return ", ".join(f"{n} {_differences(known.get(n), asked.get(n))}" for n in names)
    return f"{known!r} there, {asked!r} asked for"


def _times(config):
    images = config.get("images")
    return images.get("times") if isinstance(images, dict) else None


def _name(epoch: int) -> str:
    return f"epoch-{epoch:05d}"
