"""README's code: each Python block runs by itself, each command is one that `keras-ssl` takes."""

import contextlib
import io
import pathlib
import re
import shlex
from unittest import mock

import pytest
from PIL import Image
from toys import images

from keras_ssl import cli, runs
from keras_ssl.methods.create import find

README = pathlib.Path(__file__).parents[1] / "README.md"
GUIDES = sorted((README.parent / "docs" / "pages").rglob("*.md"))
# What is smaller here than on the page: blocks run as printed but for these words.
SMALLER = {
    'fit("shapes", epochs=1)': "fit(keras_ssl.data.shapes(32), epochs=1, verbose=0)",  # of 5,000
    "resnet50()": "small_conv((16, 16, 3))",
    "batch_size=4096, epochs=100": "batch_size=8, epochs=1, verbose=0",  # of 8 images
}
# A TFDS data set must lie on the disk; `tests/data` reads one.
WITHOUT = 'images = keras_ssl.data.load("cifar10", data_dir="path/to/tfds")'


def blocks(language, page=README):
    """Code blocks of a page, but those below a comment `<!-- not run: reason -->`."""
    pattern = rf"^(<!-- not run: .+ -->\n)?```{language}\n(.*?)^```$"
    found = re.findall(pattern, page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for mark, code in found if not mark]


def commands(page=README):
    """The words after `keras-ssl` of each command on a page, in blocks and in lines."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for code in blocks for line in code.splitlines()]
    lines += re.findall(r"`(keras-ssl [^`]+)`", text)
    lines += [
        words.replace(",", " ") for words in re.findall(r"command: \[(keras-ssl,[^\]]+)\]", text)
    ]
    return [shlex.split(line)[1:] for line in lines if line.startswith("keras-ssl ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reader's folder, with images; what a block writes is there for those below it."""
    path = tmp_path_factory.mktemp("reader")
    (path / "path/to/images").mkdir(parents=True)
    for i, image in enumerate(images(8, (16, 16, 3))):
        Image.fromarray(image).save(path / f"path/to/images/{i}.png")
    with contextlib.chdir(path):
        yield path


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run_as_they_stand(folder, number):
    code = blocks("python")[number]
    for printed, small in SMALLER.items():
        code = code.replace(printed, small)
    lines = [line for line in code.splitlines() if not line.startswith(WITHOUT)]
    exec(compile("\n".join(lines), f"README.md, Python block {number + 1}", "exec"), {})


@pytest.mark.slow
def test_the_five_lines_run_as_printed(tmp_path):
    code = blocks("python")[0]
    assert code.count("\n") <= 8
    with contextlib.chdir(tmp_path):
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "encoder" / "saved_model.pb").exists()


def test_what_is_replaced_is_on_the_page():
    text = README.read_text()
    assert all(printed in text for printed in SMALLER) and WITHOUT in text
    assert len(blocks("python")) >= 6


def test_pages_have_commands():
    assert len(commands()) >= 8 and len(GUIDES) >= 8


@pytest.mark.parametrize("page", [README, *GUIDES], ids=lambda page: page.name)
def test_commands_are_understood(page):
    for words in commands(page):
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            called = {
                name: stack.enter_context(mock.patch.object(module, function))
                for name, module, function in (
                    ("pretrain", runs, "pretrain"),
                    ("evaluate", runs, "evaluate"),
                    ("embed", runs, "embed"),
                    ("compare", runs, "compare"),
                    ("export", cli, "export_encoder"),
                )
            }
            stack.enter_context(mock.patch.object(cli, "load_encoder"))
            assert cli.main(words) == 0, words
        for name, function in called.items():
            assert function.called == (words[0] == name and "--help" not in words)


def test_the_table_of_methods_tells_their_families():
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([^|]+) \|.*arxiv", README.read_text(), re.MULTILINE)
    assert len(rows) >= 19
    for name, family in rows:
        assert find(name).family == family.strip()
