"""Check the built documentation; exit status 1 if anything is wrong.

    python build_tools/check_site.py docs/_build/html
    python build_tools/check_site.py docs/_build/html --browser /usr/bin/chromium

From the files: every public name has its page, no page is too large, nothing is loaded from
elsewhere, every link inside the site leads somewhere, every link outside is in ``docs/links.txt``
and no other.  With ``--browser`` (needs the extra
``browser``) each page is opened on a desktop, light and dark, and on a phone: no request
leaves the site, the console is silent, every formula is rendered, nothing sticks out, axe
finds no serious obstacle to readers with disabilities; and the search finds something.
"""

import argparse
import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from generate import PUBLIC

LARGEST = 300_000  # bytes of HTML per page

#: Every address outside the site that its pages link to: links rot, and here they can be tried.
LINKS = Path(__file__).parents[1] / "docs" / "links.txt"


class Page(HTMLParser):
    """What a page refers to: its anchors, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag refers to."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "next", "prev", "author"):
            self.loads.append(found.get("href", ""))
        elif tag in ("script", "img", "iframe", "source", "video") and "src" in found:
            self.loads.append(found["src"])


def check_files(site: Path) -> Iterator[str]:
    """What is wrong with the files."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links")
    for name in PUBLIC:
        path = site / "reference" / "api" / f"{name}.html"
        anchors = {f"fastxent.{name}", f"module-fastxent.{name}"}
        if path not in pages or not anchors & pages[path].anchors:
            yield f"fastxent.{name} has no page"
    listed = {line for line in LINKS.read_text().split("\n") if line.startswith("http")}
    found = {link for page in pages.values() for link in page.links if urlsplit(link).netloc}
    yield from (f"{link} is not listed in {LINKS.name}" for link in sorted(found - listed))
    yield from (f"{link} in {LINKS.name} is on no page" for link in sorted(listed - found))
    for path, page in pages.items():
        here = path.relative_to(site)
        if path.stat().st_size > LARGEST:
            yield f"{here}: {path.stat().st_size} bytes, more than {LARGEST}"
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{here} loads {address}"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{here} links to {address}, which is not there"
            elif parts.fragment and target in pages:
                anchors = pages[target].anchors
                if unquote(parts.fragment) not in anchors:
                    yield f"{here} links to {address}, which has no such anchor"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that logs nothing."""

    def log_message(self, *args: object) -> None:
        """Log nothing."""


#: Run in the page once MathJax has finished.
MEASURE = """async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    return {
        formulas: document.querySelectorAll(".math").length,
        rendered: document.querySelectorAll(".math mjx-container").length,
        broken: document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
        wider: document.documentElement.scrollWidth - window.innerWidth,
        out: [...document.querySelectorAll("article *")].filter((part) =>
            !part.childElementCount
            && part.getBoundingClientRect().right > window.innerWidth + 1
            && !part.closest(
                ".headerlink, pre, .math, mjx-container, .pst-scrollable-table-container")
            && part.checkVisibility()
        ).map((part) => part.textContent.slice(0, 60)),
    };
}"""

#: What a reader cannot use: the serious findings of axe, without those of the theme.
ACCESS = """async ([rules, theirs]) => {
    const options = {preload: false, resultTypes: ["violations"]};
    if (rules.length) options.runOnly = rules;
    const found = (await axe.run(document, options)).violations;
    return found.filter(({id, impact}) => ["serious", "critical"].includes(impact))
        .flatMap(({id, nodes}) => nodes.map((node) => [id, node.target.join(" "), node.html]))
        .filter(([id, target, html]) => !theirs.some((part) => html.includes(part)));
}"""

#: Findings in these parts are the theme's own: the arrows of its list of pages have no name.
THEIRS = ['<summary><span class="toctree-toggle"']


class Screen(NamedTuple):
    """What a reader looks at, and the rules of axe that may answer otherwise there."""

    name: str
    width: int
    mode: str
    rules: tuple[str, ...] = ()  # all of them


SCREENS = (
    Screen("desktop", 1280, "light"),
    Screen("desktop", 1280, "dark", ("color-contrast",)),
    Screen("phone", 390, "light", ("scrollable-region-focusable", "target-size")),
)


def check_screen(site: Path, base: str, executable: str, screen: Screen) -> tuple[list[str], int]:
    """What is wrong on one screen, and the number of formulas."""
    from playwright.sync_api import Error, sync_playwright

    requests: list[str] = []
    problems: list[str] = []
    wrong: list[str] = []
    formulas = 0
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        view = {"width": screen.width, "height": 900}
        tab = browser.new_context(viewport=view, color_scheme=screen.mode).new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda m: m.type == "error" and problems.append(m.text))
        for path in sorted(site.rglob("*.html")):
            here = str(path.relative_to(site))
            if here.startswith("_static/"):
                continue
            requests.clear()
            problems.clear()
            tab.goto(base + here, wait_until="load")
            found = tab.evaluate(MEASURE)
            formulas += found["rendered"]
            if found["rendered"] != found["formulas"] or found["broken"]:
                problems.append(f"formulas: {found}")
            if found["wider"] > 0:
                problems.append(f"is {found['wider']} pixels wider than the screen")
            problems.extend(f"sticks out: {text}" for text in found["out"])
            tab.evaluate(axe)
            for name, target, html in tab.evaluate(ACCESS, [screen.rules, THEIRS]):
                problems.append(f"{name}: {target}: {html[:200]}")
            problems.extend(f"requests {url}" for url in requests if not url.startswith(base))
            wrong += [f"{here}, {screen.name}, {screen.mode}: {problem}" for problem in problems]
        for word in ("logsumexp", "padding"):
            tab.goto(f"{base}search.html?q={word}")
            try:
                tab.wait_for_selector("#search-results li a", timeout=10_000)
            except Error:
                wrong.append(f"{screen.name}, {screen.mode}: a search for {word!r} finds nothing")
        browser.close()
    return wrong, formulas


def check_browser(site: Path, executable: str) -> Iterator[str]:
    """What is wrong in a browser, on all screens at once."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/"
    with ThreadPoolExecutor(len(SCREENS)) as pool:
        found = list(pool.map(functools.partial(check_screen, site, base, executable), SCREENS))
    server.shutdown()
    for wrong, _ in found:
        yield from wrong
    print(f"{sum(formulas for _, formulas in found)} formulas rendered on {len(SCREENS)} screens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser", metavar="PATH", help="Chromium's executable")
    options = parser.parse_args()
    site = options.site.resolve()
    found = list(check_files(site))
    if options.browser:
        found += check_browser(site, options.browser)
    print("\n".join(found) or "nothing is wrong")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
