"""Names that a user may have meant."""

import difflib


def near(name: str, names) -> str:
    """The end of an error about an unknown name: near ones first, then all."""
    close = difflib.get_close_matches(name.lower(), list(names), n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return f"{hint} Known: {', '.join(sorted(names))}."
