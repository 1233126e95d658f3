r"""The results table: records of runs, and the page made of them.

    python -m benchmarks.results runs/simclr-small    # adds a recipe's run; writes RESULTS.md
    python -m benchmarks.results                      # writes RESULTS.md anew from the records

With the page goes a file in the package, the accuracies that `keras-ssl methods` tells. Records
stand in `benchmarks/records.jsonl`, one a line: what was run, by which command, at which commit, on
what, and the figures. A record replaces an older one of the same kind and title.
"""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
RECORDS, PAGE = HERE / "records.jsonl", HERE / "RESULTS.md"
LISTED = HERE.parent / "keras_ssl" / "methods" / "results.json"

HEAD = """# Results

Written by `python -m benchmarks.results` from `benchmarks/records.jsonl`. What is not listed was
not run.

"""
SECTIONS = {
    "recipe": (
        "Learning on real and on drawn images",
        "kNN: weighted, k 200, temperature 0.07, all training images as the bank, the whole test "
        "split as queries, features of the pooled backbone. Linear probe: logistic regression on "
        "the same features. `random` is the same network before training. SupCon learns from the "
        "labels, FeatureDistillation from the encoder of SimCLR's row, Auxiliary (RotNet) from a "
        "tenth of the labels, all others from images alone. Minutes include the evaluation and "
        "are no benchmark: most runs shared the two cores with others. A row is of the commit "
        "that it names.",
    ),
    "study": (
        "Studies",
        "Many short runs that differ in one thing; figures as above. They are too short to be "
        "compared with the papers' own, and with those above. Those from 2026-11-22 have the "
        "views, heads and optimizers of that day, not the methods' defaults of 0.3.0, with which "
        "they have not been run again.",
    ),
    "speed": (
        "Speed",
        "Medians; ratios are medians over neighbouring turns of the contestants, with their range. "
        "Such machines are noisy.",
    ),
}
# Columns of the methods' tables: heading, and the figure's name up to its first comma where the
# rest only tells the number of images. A column that no row of a table fills is left out.
COLUMNS = {
    "kNN": "kNN, trained encoder",
    "kNN, random": "kNN, random encoder",
    "linear probe": "linear probe, trained encoder",
    "linear probe, random": "linear probe, random encoder",
    "collapse monitor": "collapse monitor",
    "bits per dimension": "bits per dimension",
    "bits per pixel in the palette": "bits per pixel in the palette",
    "bits per pixel, independent tokens": "bits per pixel of independent tokens",
    "reconstruction error / shuffled": "reconstruction error / that of shuffled pairs",
    "minutes": "minutes, evaluation included",
}
BITS = ("bits per dimension", "bits per pixel in the palette")
ACCURACIES = ("kNN", "kNN, random", "linear probe", "linear probe, random")


def hardware() -> str:
    """Processor, cores and versions, in a line."""
    import keras
    import tensorflow as tf

    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    gpus = [
        tf.config.experimental.get_device_details(d)["device_name"]
        for d in tf.config.list_physical_devices("GPU")
    ]
    devices = ", ".join(gpus) or f"{model}, {os.cpu_count()} cores, no GPU"
    return f"{devices}; TensorFlow {tf.__version__}, Keras {keras.__version__}"


def commit() -> str:
    """Short name of the commit, with + where files other than the results differ from it."""

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=HERE, capture_output=True, text=True, check=False
        ).stdout.strip()

    root = HERE.parent
    others = [f":(top,exclude){path.relative_to(root)}" for path in (RECORDS, PAGE, LISTED)]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *others)
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def record(kind: str, title: str, command: str, figures: dict, **more) -> None:
    """Keep a record of what was just measured, and write the page.

    Args:
        kind: "recipe" or "speed".
        title: what was run; a record of the same kind and title is replaced.
        command: the command that did it.
        figures: numbers or texts by name.
        **more: further facts, such as `seed` and `epochs`.
    """
    new = {
        "kind": kind,
        "title": title,
        "command": command,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        **more,
        "figures": figures,
    }
    add(new)


def add(new: dict) -> None:
    """Put a record into the file in the place of an older one, and write what is made of them."""
    kept = [r for r in records() if (r["kind"], r["title"]) != (new["kind"], new["title"])]
    RECORDS.write_text("".join(json.dumps(r) + "\n" for r in [*kept, new]))
    write()


def records() -> list[dict]:
    """All records, in their order."""
    return (
        [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    )


def write() -> None:
    """Write what is made of the records: the page, and the file in the package."""
    found = records()
    PAGE.write_text(render(found))
    LISTED.write_text(json.dumps(listed(found), indent=1) + "\n")


def listed(found: list[dict]) -> dict:
    """For each method its recipe's runs, as `keras_ssl.methods.listing` reads them."""
    methods = {}
    for r in found:
        if r["kind"] == "recipe":
            method, data, network = r["title"].split(", ", 2)
            accuracies = {name: _figure(r)(COLUMNS[name]) for name in ACCURACIES}
            facts = {name: r[name] for name in ("epochs", "seed", "commit")}
            bits = {name: _figure(r)(name) for name in BITS if _figure(r)(name)}
            run = {"data": data, "network": network, **accuracies, **bits, **facts}
            methods.setdefault(method, []).append(run)
    return dict(sorted(methods.items()))


def render(found: list[dict]) -> str:
    """The page: the methods' tables, one a protocol, then a table for each study and benchmark."""
    parts = [HEAD]
    for kind, (title, note) in SECTIONS.items():
        parts.append(f"## {title}\n\n{note}\n\n")
        chosen = [r for r in found if r["kind"] == kind]
        if kind == "recipe":
            parts += _methods(chosen)
            continue
        for r in chosen:
            facts = [f"{k} {r[k]}" for k in ("seed", "epochs") if k in r]
            facts = "; ".join([*facts, f"commit {r['commit']}", r["date"], r["hardware"]])
            parts.append(f"### {r['title']}\n\n`{r['command']}`\n\n{facts}\n\n")
            parts += [_table(r.get("table") or [["", ""], *r["figures"].items()]), "\n"]
    return "".join(parts).rstrip() + "\n"


def _methods(found: list[dict]) -> list[str]:
    """For each protocol a table with a row a method, best kNN first, and the commands below it.

    A record's title is "method, protocol"; the protocol tells data, network and size.
    """
    protocols, parts = {}, []
    for r in found:
        method, protocol = r["title"].split(", ", 1)
        protocols.setdefault(f"{protocol}, {r['epochs']} epochs", []).append((method, r))
    for protocol, rows in protocols.items():
        rows.sort(key=lambda row: row[1]["figures"]["kNN, trained encoder"], reverse=True)
        cells = [[method, *map(_figure(r), COLUMNS.values())] for method, r in rows]
        used = [i for i, column in enumerate(zip(*cells, strict=True)) if any(column)]
        head = ["method", *COLUMNS]
        table = [[head[i] for i in used] + ["seed", "commit"]]
        for row, (_, r) in zip(cells, rows, strict=True):
            table.append([row[i] for i in used] + [r["seed"], r["commit"]])
        parts += [f"### {protocol[0].upper()}{protocol[1:]}\n\n", _table(table), "\n"]
        runs = {}  # on the same day and machine: said once
        for method, r in rows:
            commands = runs.setdefault(f"{r['date']}; {r['hardware']}", [])
            commands.append(f"- {method}: `{r['command']}`")
        parts += ["\n".join([f"{facts}:\n", *commands, "\n"]) for facts, commands in runs.items()]
    return parts


def _figure(r: dict):
    def cell(name):
        figures = r["figures"]
        return figures.get(name) or next(
            (v for k, v in figures.items() if k.startswith(f"{name}, ")), ""
        )

    return cell


def _table(rows) -> str:
    rule = "|" + "---|" * len(rows[0]) + "\n"
    return "".join([_line(rows[0]), rule, *map(_line, rows[1:])])


def _line(cells) -> str:
    return "|" + "".join(f" {cell} |" if cell != "" else " |" for cell in cells) + "\n"


def main() -> None:
    """Add the runs named, or only write the page."""
    for folder in sys.argv[1:]:
        add(json.loads((pathlib.Path(folder) / "result.json").read_text()))
    write()


if __name__ == "__main__":
    main()
