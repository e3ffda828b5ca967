"""MkDocs hooks: pages that are made from files outside docs/, and links that fit both places.

The pages are written for the repository, where their links must work, too.
"""

import json
import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """Page of the site -> file of the repository it is made from, for pages from outside docs/."""
    pages = {
        f"methods/{readme.parent.name}.md": str(readme.relative_to(ROOT))
        for readme in sorted((ROOT / "configs").glob("*/README.md"))
    }
    pages["notebooks/cvat_to_tracks.md"] = "docs/notebooks/cvat_to_tracks.ipynb"
    return pages | {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files, config):
    from mkdocs.structure.files import File  # the tests, which use the rest, do without MkDocs

    for page, source in sources().items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = notebook_text(text) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=text))
    notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
    for file in notebooks:
        files.remove(file)
    return files


def on_page_markdown(markdown, page, config, files):
    page_uri = page.file.src_uri
    if page_uri == "model_zoo.md":
        markdown = markdown.replace("<!-- models -->", zoo_table())
    return outside_fences(markdown, lambda text: fit_links(text, page_uri))


def on_page_content(html, page, config, files):
    """Docstrings are in Google style with Sphinx's roles and literal blocks."""
    html = re.sub(r":(?:attr|class|func|meth|mod):(?=<code>)", "", html)
    return html.replace("::</p>", ":</p>")


def outside_fences(markdown: str, change) -> str:
    """Apply ``change`` to what is not a block of code."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def fit_links(text: str, page: str) -> str:
    """Turn links between files of the repository into links between pages.

    What is not on the site, such as a config, keeps its name without the link.
    """
    pages = {source: page for page, source in sources().items()}
    source = sources().get(page, f"docs/{page}")

    def fit(match: re.Match) -> str:
        mark, label, target = match.groups()
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), path))
        inside = pages.get(path) or (path[5:] if path.startswith("docs/") else None)
        if inside is None:
            return label
        link = os.path.relpath(inside, os.path.dirname(page) or ".")
        return f"{mark}[{label}]({link}{'#' + anchor if anchor else ''})"

    return LINK.sub(fit, text)


def notebook_text(notebook: str) -> str:
    """A notebook's cells as Markdown."""
    cells = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            shell = text.startswith("!")
            text = text.replace("\n!", "\n").removeprefix("!") if shell else text
            text = f"```{'bash' if shell else 'python'}\n{text}\n```"
        cells.append(text)
    return "\n\n".join(cells)


def zoo_table() -> str:
    """The models of all configs/*/metafile.yml, a table a method."""
    tables = []
    for path in sorted((ROOT / "configs").glob("*/metafile.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        models = [model for model in content.get("Models", []) if model.get("Weights")]
        if models:
            title = content["Collections"][0]["Name"] if content.get("Collections") else ""
            rows = [zoo_row(model) for model in models]
            head = "| model | trained on | figures | weights |\n| --- | --- | --- | --- |"
            name = path.parent.name
            more = f"[Paper, configs and what differs](methods/{name}.md)"
            tables.append("\n".join([f"## {title or name}\n", more + "\n", head, *rows]))
    return "\n\n".join(tables)


def zoo_row(model: dict) -> str:
    data = (model.get("Metadata") or {}).get("Training Data", "")
    data = ", ".join(data) if isinstance(data, list) else data
    figures = [figures_of(result) for result in model.get("Results", []) if result.get("Metrics")]
    weights = model["Weights"]
    name = f"`{model.get('File') or weights.rpartition('/')[2]}`"
    weights = f"[{name}]({weights})" if weights.startswith("http") else f"`{weights}`"
    return f"| `{model['Name']}` | {data} | {'<br>'.join(figures)} | {weights} |"


def figures_of(result: dict) -> str:
    values = ", ".join(f"{name} {value}" for name, value in result["Metrics"].items())
    return f"{values} ({result['Dataset']})"
