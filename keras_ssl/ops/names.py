"""Names in messages."""

import difflib
from collections.abc import Iterable, Sequence


def near(name: str, names: Iterable[str], list_all: bool = True) -> str:
    """The end of an error about an unknown name: at most two similar names, then all.

    Args:
        name: what was given, in any case.
        names: the known names.
        list_all: whether all names follow; False where there are hundreds.

    Returns:
        sentences that begin with a space; "" if there is nothing to say.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return hint + (f" Known: {', '.join(names)}." if list_all else "")


def some(words: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """The first `most` words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return separator.join(words[:most]) + more
