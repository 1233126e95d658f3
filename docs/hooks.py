"""Pages that are made from the code: a page a method, the commands, results and changes.

What comes later appears by itself: methods are those of `keras_ssl.methods.METHODS`, commands those
of `keras_ssl.cli.COMMANDS`, figures those of `keras_ssl.methods.listing` and
`benchmarks/records.jsonl`.
"""

import ast
import json
import pathlib
import sys

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the page is of this checkout, whatever is installed
RECORDS = ROOT / "benchmarks" / "records.jsonl"


def on_files(files, config):
    """Add the generated pages."""
    from keras_ssl import methods

    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    pages = {
        "methods/index.md": _overview(methods.METHODS),
        "commands.md": _commands(),
        "results.md": (ROOT / "benchmarks" / "RESULTS.md").read_text(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
    }
    for method in methods.METHODS:
        pages[f"methods/{_file(method)}.md"] = _method(method, records)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _file(method):
    return method.__module__.split(".")[-1]


def _overview(methods):
    from keras_ssl.methods.listing import backends, paper, state

    rows = [
        f"| [`{m.__name__}`]({_file(m)}.md) | {m.family} | {_first(m)} | {', '.join(backends(m))} "
        f"| [paper]({paper(m)}) | {state(m)} |"
        for m in methods
    ]
    heading = ["method", "family", "objective", "backends", "paper", "state"]
    head = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    note = (
        "All run under any `tf.distribute` strategy; one suite of checks compares losses and "
        "weights across strategies and backends."
    )
    return "\n".join(["# Methods\n", note, "", *head, *rows, ""])


def _first(method):
    return method.__doc__.strip().splitlines()[0]


def _method(method, records):
    from keras_ssl.methods.listing import paper, state

    module = sys.modules[method.__module__]
    name, own = _file(method), method.unsupported
    text = module.__doc__.strip().split("\n", 1)
    parts = [
        f"# {method.__name__}\n",
        f"{method.family} · [paper]({paper(method)}) · {state(method)}\n",
        text[0].partition(": ")[2].strip().capitalize() if ": " in text[0] else text[0],
        text[1] if len(text) > 1 else "",
        "\n## Use\n",
        f"```bash\nkeras-ssl pretrain --method={name} --data=path/to/images --out=runs/1\n```\n",
        _python(method, name),
        "## Results\n",
        _results(method, records),
        f"## Class\n\n::: {method.__module__}.{method.__name__}\n",
        "## Recipe\n",
        _recipe(name),
    ]
    if own:
        reasons = "".join(f"- {check}: {reason}\n" for check, reason in own.items())
        parts.append(f"## What it cannot do\n\n{reasons}")
    return "\n".join(parts)


def _python(method, name):
    from keras_ssl.methods.create import brings_network, needed

    network = "" if brings_network(method) else ', backbone="resnet18"'
    wanted = "".join(f', {argument}="..."' for argument in needed(method))
    return (
        "```python\nimport keras_ssl\n\n"
        f'model = keras_ssl.create("{name}", input_shape=(32, 32, 3){network}{wanted})'
        '\nmodel.fit("path/to/images", epochs=100)\nmodel.export_encoder("encoder")\n```\n'
    )


def _results(method, records):
    from benchmarks.results import ACCURACIES
    from keras_ssl.methods.listing import results

    lines = []
    for run in results(method):
        cells = " | ".join(run[name] for name in ACCURACIES)
        what = f"{run['data']}, {run['network']}, {run['epochs']} epochs"
        lines.append(f"| {what} | {cells} | `{run['commit']}` |")
    for study in records:
        for row in study.get("table", [])[1:]:
            if "Five lines" in study["title"] and row[0] == method.__name__:
                lines.append(f"| {study['title']} | {row[2]} | {row[1]} | | | `{row[-1]}` |")
    if not lines:
        return "None yet: its recipe has run for a few steps only.\n"
    head = f"| run | {' | '.join(ACCURACIES)} | commit |\n|{'---|' * (len(ACCURACIES) + 2)}"
    return "\n".join(
        [
            head,
            *lines,
            "\nAccuracies on CIFAR-10's test images or drawn ones; "
            "commands and machines: [results](../results.md).\n",
        ]
    )


def _recipe(name):
    path = ROOT / "recipes" / f"{name}.py"
    if not path.exists():
        return "It has none.\n"
    text = ast.get_docstring(ast.parse(path.read_text()))
    return f"`recipes/{name}.py`:\n\n```text\n{text}\n```\n"


def _commands():
    from keras_ssl import cli

    pages = [f"## {name}\n\n```text\n{cli._page(name)}\n```\n" for name in cli.COMMANDS]
    note = "RUN is a run folder, a `.keras` file or the folder of a SavedModel.\n"
    return "\n".join(["# Commands\n", note, *pages])
