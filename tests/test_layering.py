"""Imports go one way, and TensorFlow stays where it belongs."""

import ast
import pathlib
import shutil
import subprocess

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_ssl"
TENSORFLOW = {
    "data",
    "views",
    "distribute.py",
    "engine/tensorflow_step.py",
    "export.py",
    "callbacks/tensorboard.py",
}
MAY_IMPORT = {
    "ops": {"ops"},
    "losses": {"losses", "ops"},
    "distribute": set(),
    "layers": {"layers", "ops", "distribute"},
    "optimizers": {"optimizers", "ops"},
    "backbones": {"backbones", "layers", "ops"},
    "views": {"views", "ops"},
    "data": {"data", "views", "ops"},
    "engine": {
        "engine",
        "callbacks",
        "distribute",
        "data",
        "export",
        "layers",
        "ops",
        "optimizers",
    },
    "evaluation": {"evaluation", "ops", "data", "backbones", "encoders", "optimizers", "views"},
    "callbacks": {"callbacks", "evaluation", "ops"},
    "export": {"ops", "backbones", "encoders"},
    "encoders": {"backbones"},
    "methods": {
        "methods",
        "encoders",
        "engine",
        "layers",
        "losses",
        "ops",
        "optimizers",
        "distribute",
        "views",
        "backbones",
    },
    "report": {"report"},
    "runs": {
        "runs",
        "backbones",
        "encoders",
        "optimizers",
        "methods",
        "engine",
        "views",
        "data",
        "evaluation",
        "callbacks",
        "report",
        "export",
        "distribute",
        "ops",
    },
    "cli": {"runs", "methods", "ops", "encoders", "export"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def owner(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports(path):
    where = path.relative_to(PACKAGE).as_posix()
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "tensorflow":
            assert where in TENSORFLOW or where.split("/")[0] in TENSORFLOW, (
                f"{where} imports tensorflow"
            )
        if parts[0] == "absl" and "flags" in parts:
            assert where == "cli.py"
        if parts[0] == "keras_ssl" and len(parts) > 1 and owner(path) != "__init__":
            assert parts[1] in MAY_IMPORT[owner(path)], f"{where} imports {name}"
        assert parts[0] not in {"keras_cv", "keras_hub", "torch", "lightly"}, (
            f"{where} imports {name}"
        )


def test_every_part_is_restricted():
    parts = {owner(path) for path in FILES} - {"__init__"}
    assert parts == set(MAY_IMPORT)


def test_every_folder_is_a_package_that_git_keeps():
    """`setup.py` finds packages by their `__init__.py`; a rule of .gitignore must not hide one."""
    missing = {p.parent for p in FILES} - {p.parent for p in FILES if p.name == "__init__.py"}
    assert not missing
    if not (PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    files = [str(p.relative_to(PACKAGE.parent)) for p in FILES]
    git = ["git", "check-ignore", "--no-index", *files]
    ignored = subprocess.run(git, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert ignored.stdout == ""
