"""How much memory a piece of work takes, and how much there is for it."""

import contextlib
import pathlib
from typing import NamedTuple

from keras_ssl import distribute

_PROC, _GROUPS = pathlib.Path("/proc"), pathlib.Path("/sys/fs/cgroup")


class Reading(NamedTuple):
    """Bytes that the work had `used` at its peak, and bytes that it may use: its `room`."""

    used: int
    room: int


class Memory:
    """Peaks of this machine's memory and of its accelerators'; Linux alone.

    This machine's are counted from what the process holds when this object is made; an
    accelerator's are all that the process has there. An accelerator whose size the backend does
    not tell is left out.

    Raises:
        ValueError: if the system does not tell what a process uses.
    """

    def __init__(self):
        try:
            self._at_first = _of_process("VmRSS")
            self.forget()
        except (OSError, KeyError) as error:
            raise ValueError(
                "`batch_size` 'auto' needs a system that tells the memory of a process in "
                f"{_PROC}, as Linux does. Received: {error}. Give a number."
            ) from error

    def forget(self) -> None:
        """Count peaks from here on."""
        (_PROC / "self" / "clear_refs").write_text("5")  # see man 5 proc
        distribute.forget_peaks()

    def read(self) -> dict[str, Reading]:
        """The peak since `forget` and the room, by the name of the memory."""
        held = _of_process("VmRSS") - self._at_first
        host = Reading(_of_process("VmHWM") - self._at_first, held + _available())
        devices = distribute.device_memory().items()
        return {
            "this machine": host,
            **{name: Reading(peak, limit) for name, (peak, limit) in devices if limit},
        }


def _of_process(name: str) -> int:
    return _bytes_in(_PROC / "self" / "status", name)


def _available() -> int:
    """Bytes that the machine can still give, and the control groups that this process is in."""
    return min([_bytes_in(_PROC / "meminfo", "MemAvailable"), *_left_in_groups()])


def _bytes_in(path: pathlib.Path, name: str) -> int:
    """The number that a line `name: number kB` of a file gives."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return 1024 * int(value.removesuffix("kB"))
    raise KeyError(f"{path} without {name}")


def _left_in_groups() -> list[int]:
    """What each limited group around this process has left, of either version of Linux' groups."""
    left: list[int] = []
    groups = _PROC / "self" / "cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, limit, usage, cache = _GROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in kinds.split(","):
            root, limit = _GROUPS / "memory", "memory.limit_in_bytes"
            usage, cache = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            # In a container the path may be one of the machine outside, and not be there.
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                most = int((folder / limit).read_text())
                stats = dict(s.split() for s in (folder / "memory.stat").read_text().splitlines())
                used = int((folder / usage).read_text()) - int(stats.get(cache, 0))
                left.append(most - used)
            if folder == root:
                break
    return left
