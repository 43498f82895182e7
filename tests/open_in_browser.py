"""Open the notebook in a real JupyterLab in headless Chromium, run all cells, wait for the claims, take a picture.

python tests/open_in_browser.py PICTURE.png     # needs a chromium on the PATH; minutes

Not one of the default tests: it checks by hand what nbval cannot, that the page works for a person.
"""

import argparse
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
PORT = 8899
MINUTES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    picture = parser.parse_args().picture
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "project")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git"))
        options = [f"--port={PORT}", "--no-browser", f"--IdentityProvider.token={token}", "--allow-root"]
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], cwd=copy, stderr=subprocess.DEVNULL)
        try:
            time.sleep(8)
            run_all(f"http://127.0.0.1:{PORT}/lab/tree/ERAV4S5CNNwithBN.ipynb?token={token}", picture)
        finally:
            server.terminate()
            server.wait()


def run_all(address: str, picture: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(address)
        page.locator(".jp-Notebook").wait_for()
        page.get_by_text("Edit", exact=True).first.click()
        page.get_by_text("Clear Outputs of All Cells").click()
        page.get_by_text("Run", exact=True).first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        deadline = time.monotonic() + 60 * MINUTES
        while True:
            page.locator(".jp-WindowedPanel-outer").last.evaluate("panel => panel.scrollTo(0, panel.scrollHeight)")
            if page.locator("table", has_text="receptive fields, computed").count():
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"no table of claims after {MINUTES} minutes")
            time.sleep(2)
        page.locator("table", has_text="receptive fields, computed").scroll_into_view_if_needed()
        page.screenshot(path=picture)
        num_errors = page.locator(".jp-OutputArea-output[data-mime-type*='stderr']").count()
        browser.close()
        if num_errors:
            raise SystemExit(f"ran to the end, but {num_errors} outputs are errors")
        print("ran to the end without errors")


if __name__ == "__main__":
    main()
