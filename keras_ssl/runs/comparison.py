"""The folder of a comparison: what identifies it, and the result of every run so far.

comparison.json                       settings, rows, and the results they are made of
comparison.csv                        the rows
comparison.html                       the page
<method>/seed-<s>/                    run folders of `pretrain`, with their evaluation.json
random-encoder/seed-<s>/              evaluation.json of the untrained backbone
"""

import contextlib
import csv
import io
import json
import math
import pathlib
import statistics

from keras_ssl.runs.evaluate import CARD
from keras_ssl.runs.folder import claim, differences, read_record, unusable, write_atomically

RECORD, TABLE, PAGE = "comparison.json", "comparison.csv", "comparison.html"
RANDOM = "random-encoder"  # no method's name has a hyphen


class Results:
    """Opens the folder of a comparison, new or to be continued, and keeps its results.

    Attributes:
        path: the folder.
        runs: results by method and seed: either "scores" and all else of a run, or "failed", why.

    Args:
        out: the folder; made where absent.
        settings: JSON-able; a folder with others is refused.
        options: of each method; those of a method with run folders must be the same.

    Raises:
        ValueError: if the folder cannot be used, or holds something else, or another comparison.
        RuntimeError: if another process is at work in it.
    """

    def __init__(self, out, settings: dict, options: dict):
        self.path = pathlib.Path(out)
        self._settings, self._options = json.loads(json.dumps([settings, options]))
        self.runs: dict[str, dict[str, dict]] = {}
        self._lock = None
        try:
            self._lock = claim(self.path, RECORD)
            if (self.path / RECORD).exists():
                self._take(read_record(self.path / RECORD))
            self._write()
        except OSError as error:
            self.close()
            raise unusable(self.path, error) from error
        except ValueError:
            self.close()
            raise

    def folder(self, method: str, seed: int | str) -> pathlib.Path:
        """Where a run lies."""
        return self.path / method / f"seed-{seed}"

    def has(self, method: str, seed: int) -> bool:
        """Whether a run has ended well."""
        return "scores" in self.runs.get(method, {}).get(str(seed), {})

    def keep(self, method: str, seed: int, result: dict) -> None:
        """Write down the result of a run."""
        self.runs.setdefault(method, {})[str(seed)] = _finite(result)
        self._write()

    def rows(self) -> list[dict]:
        """A row a method, best first by the first score; those without scores come last."""
        rows = [_row(method, runs) for method, runs in self.runs.items()]
        first = next((name for row in rows for name in row["scores"]), "")
        return sorted(rows, key=lambda row: -row["scores"].get(first, {"mean": -1})["mean"])

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.close()

    def _take(self, known):
        """The results in a record, if it is one of this comparison."""
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            differing, changed = differences(known["settings"], self._settings), set()
            for method, found in known["options"].items():
                asked = self._options.setdefault(method, found)
                if asked != found:
                    changed.add(method)
                    if any((self.path / method).glob("seed-*/config.json")):
                        differing[f"options of {method}"] = f"{found} there, {asked} asked for"
            if differing:
                listed = "; ".join(f"{name}: {text}" for name, text in differing.items())
                raise ValueError(
                    f"{self.path} holds another comparison ({listed}). Choose another `out`, or "
                    "repeat that comparison's settings to go on with it. Methods and seeds may be "
                    "added; a method whose folder is removed is begun anew."
                )
            for method, runs in known["runs"].items():
                for seed, result in runs.items():
                    done = (self.folder(method, seed) / CARD).is_file()
                    if done or ("failed" in result and method not in changed):
                        self.runs.setdefault(method, {})[seed] = result
            return
        raise ValueError(
            f"{self.path / RECORD} is not the record of a comparison. Choose another `out`."
        )

    def _write(self):
        rows = self.rows()
        record = {
            "settings": self._settings,
            "options": self._options,
            "rows": rows,
            "runs": self.runs,
        }
        write_atomically(self.path / RECORD, json.dumps(record, indent=2) + "\n")
        write_atomically(self.path / TABLE, _csv(rows))


def cells(row: dict) -> dict[str, str]:
    """A row as text by column, accuracies in %."""
    shown = {
        name: _percent(score["mean"])
        + ("" if score["std"] is None else f" ± {_percent(score['std'])}")
        for name, score in row["scores"].items()
    }
    shown["seeds"] = str(len(row["seeds"]))
    shown["minutes a run"] = "" if row["minutes"] is None else f"{row['minutes']:.1f}"
    statuses = list(row["verdicts"].values())
    counted = {status: statuses.count(status) for status in statuses}
    shown["collapse monitor"] = ", ".join(
        status if len(counted) == 1 else f"{status} ({count})" for status, count in counted.items()
    )
    if row["failed"]:
        shown["failed"] = reasons(row)
    return shown


def reasons(row: dict) -> str:
    """Why runs of a method failed, the seeds of each reason together."""
    seeds: dict[str, list[str]] = {}
    for seed, why in row["failed"].items():
        seeds.setdefault(why, []).append(seed)
    return " ".join(
        f"seed{'s' * (len(found) > 1)} {', '.join(found)}: {why}" for why, found in seeds.items()
    )


def by_seed(rows: list) -> dict[str, dict[str, str]]:
    """The scores of each seed in %, by the names of method and score."""
    return {
        f"{row['name']}, {name}": {f"seed {s}": _percent(v) for s, v in score["by_seed"].items()}
        for row in rows
        for name, score in row["scores"].items()
    }


def _row(method, runs):
    ended = {seed: result for seed, result in runs.items() if "scores" in result}
    minutes = [r["minutes"] for r in ended.values() if r.get("minutes") is not None]
    names = dict.fromkeys(name for result in ended.values() for name in result["scores"])
    return {
        "method": method,
        "name": next(iter(runs.values()))["name"],
        "seeds": [int(seed) for seed in ended],
        "scores": {name: _spread(name, ended) for name in names},
        "minutes": statistics.fmean(minutes) if minutes else None,
        "verdicts": {s: r["verdict"]["status"] for s, r in ended.items() if r.get("verdict")},
        "protocol_hash": " ".join(sorted({result["hash"] for result in ended.values()})),
        "failed": {seed: r["failed"] for seed, r in runs.items() if "failed" in r},
    }


def _spread(name, ended):
    values = {s: r["scores"][name] for s, r in ended.items() if name in r["scores"]}
    found = list(values.values())
    std = statistics.stdev(found) if len(found) > 1 else None  # divided by n - 1
    return {"mean": statistics.fmean(found), "std": std, "by_seed": values}


def _csv(rows):
    scores = dict.fromkeys(name for row in rows for name in row["scores"])
    columns = [(name, part) for name in scores for part in ("mean", "std")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "seeds", *(f"{name} {part}" for name, part in columns)]
        + ["minutes", "collapse monitor", "protocol", "failed"]
    )
    for row in rows:
        shown = cells(row)
        figures = [row["scores"].get(name, {}).get(part) for name, part in columns]
        last = [row["minutes"], shown["collapse monitor"], row["protocol_hash"]]
        writer.writerow([row["method"], len(row["seeds"]), *figures, *last, shown.get("failed")])
    return text.getvalue()


def _percent(share):
    return f"{100 * share:.1f}"


def _finite(value):
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
