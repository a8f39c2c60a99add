"""How Sphinx makes the site of these pages: `make site`."""

import json
import re
import subprocess
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/ferrule-dev/ferrule"



def revision() -> str:
    """Of which state of the repository the pages are: the tag of a release, or else the commit; without git nothing says more than the main branch."""
    if not (ROOT / ".git").exists():
        return "main"

    def git(*args: str) -> list[str]:
        return subprocess.run(["git", "-C", ROOT, *args], check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    tags = [tag for tag in git("tag", "--points-at", "HEAD", "--sort=-version:refname") if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]
    return (tags or git("rev-parse", "HEAD"))[0]


REVISION = revision()

# The pages that the navigation has in each group and below each page, and the titles there that are not the pages' own.
groups: list[str] = []
below: dict[str, list[str]] = {}
titles: dict[str, str] = {}
for line in (Path(__file__).parent / "pages.txt").read_text(encoding="utf-8").splitlines():
    page, _, title = line.strip().partition("    ")
    name = page.removesuffix(".md")
    if line.startswith("    "):
        below.setdefault(below[groups[-1]][-1], []).append(name)
    elif line.startswith("  "):
        below[groups[-1]].append(name)
    elif line:
        groups.append(line)
        below[line] = []
    if title:
        titles[name] = title

project = "Ferrule"
copyright = "The Ferrule authors, MIT license"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["README.md", *(f"{name}.md" for names in below.values() for name in names)]
exclude_patterns = [".git", "build", "**/target"]  # they have thousands of files

myst_heading_anchors = 6
suppress_warnings = [
    "myst.header",  # a page may leave a level out
    "misc.highlighting_failure",  # an example may leave something out
]
highlight_language = "text"

html_theme = "furo"
html_title = "Ferrule"
html_copy_source = False
html_use_index = False
html_permalinks_icon = "#"
html_favicon = "favicon.svg"
html_static_path = ["site.css", "site.js"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]


class Site(StandaloneHTMLBuilder):
    """The README is the front page. Every other page has the path that it has in the repository."""

    copysource = False

    def get_output_path(self, page_name, /):
        return super().get_output_path("index" if page_name == root_doc else page_name)

    def get_target_uri(self, docname, typ=None):
        return super().get_target_uri("index" if docname == root_doc else docname, typ)

    def dump_search_index(self):
        super().dump_search_index()
        path = self.outdir / self.searchindex_filename
        before, after = "Search.setIndex(", ")"
        index = json.loads(path.read_text(encoding="utf-8").removeprefix(before).removesuffix(after))
        index["docnames"] = ["index" if name == root_doc else name for name in index["docnames"]]
        path.write_text(before + json.dumps(index, separators=(",", ":")) + after, encoding="utf-8")


class ToTheRepository(SphinxTransform):
    """A link to what the site does not have leads to the repository, as it was when the pages were; the parser takes a file for one to be downloaded, a folder for a page."""

    default_priority = 5  # before anything looks for files

    def apply(self, **kwargs):
        for node in [*self.document.findall(addnodes.download_reference), *self.document.findall(addnodes.pending_xref)]:
            if node.get("reftype") != "myst" or node.get("refdomain") == "doc":
                continue
            path = normpath(join(dirname(self.env.docname), urlsplit(node["reftarget"]).path))
            if path == "LICENSE":
                continue  # a download
            where = ROOT / path
            if path.startswith("..") or not where.exists():
                raise ExtensionError(f"{self.env.docname}: found a link to {node['reftarget']}, which is not there")
            kind = "tree" if where.is_dir() else "blob"
            fragment = urlsplit(node["reftarget"]).fragment
            uri = f"{REPOSITORY}/{kind}/{REVISION}/{path}" + (f"#{fragment}" if fragment else "")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri))


def contents(app, docname, source):
    """The navigation is that of the front page and of the pages that have others below them. Their text is left as it is."""
    for key in groups if docname == root_doc else [docname] if docname in below else []:
        caption = f":caption: {key}\n" if key in groups else ""
        entries = "\n".join(f"{titles[name]} </{name}>" if name in titles else f"/{name}" for name in below[key])
        source[0] += f"\n```{{toctree}}\n:hidden:\n{caption}\n{entries}\n```\n"


def levels(app, pagename, templatename, context, doctree):
    """The headings in the navigation have a level, which those who hear a page go by."""
    context["furo_navigation_tree"] = context["furo_navigation_tree"].replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app):
    app.add_builder(Site, override=True)
    app.add_transform(ToTheRepository)
    app.connect("source-read", contents)
    app.connect("html-page-context", levels, priority=900)  # after the theme has made it
    return {"parallel_read_safe": True, "parallel_write_safe": True}
