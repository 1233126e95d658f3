"""Chromium without a screen, for tests of pages with scripts."""

import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--window-size=1200,800 --virtual-time-budget=3000 --dump-dom"
).split()


def visit(page, folder, place="", screenshot=None):
    """The document of a page after its script has run; skips where there is no Chromium.

    Args:
        page: path of the page.
        folder: empty folder for the browser's own files.
        place: end of the address, such as "#12".
        screenshot: path of a picture to take.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    flags = [*FLAGS, f"--user-data-dir={folder}"]
    flags += [f"--screenshot={screenshot}"] if screenshot else []
    command = [found, *flags, f"{page.resolve().as_uri()}{place}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "<html" in done.stdout, done.stderr[-2000:]
    return done.stdout
