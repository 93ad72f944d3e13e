"""The page's files: as a browser asks for them, and all of them with one document in one file."""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patcher.output import as_json

ASSETS = Path(__file__).parent / "assets"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LINKS = re.compile(r'[ \t]*<(?:link|script) [^>]*?(?:href|src)="(?P<name>[\w.-]+)"[^>]*>(?:</script>)?\n')


def assets() -> dict[str, tuple[str, bytes]]:
    """Every file of the page by the name that a browser asks for: media type and content. There are no others."""
    files = {path.name: (TYPES[path.suffix], path.read_bytes()) for path in ASSETS.iterdir() if path.suffix in TYPES}
    return files | {"": files["index.html"]}


def report(document: Mapping[str, Any]) -> str:
    """The page with this document inside. It needs nothing beside it, and its policy lets it ask for nothing."""
    digests: dict[str, list[str]] = {"script-src": [], "style-src": []}

    def inlined(link: re.Match[str]) -> str:
        name = link["name"]
        text = (ASSETS / name).read_text(encoding="utf-8")
        if name.endswith(".css"):
            digests["style-src"].append(_digest(text))
            return f"<style>{text}</style>\n"
        if name.endswith(".js"):
            digests["script-src"].append(_digest(text))
            return f"<script>{text}</script>\n"
        return f'<link rel="icon" href="data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}">\n'

    head, _, body = (ASSETS / "index.html").read_text(encoding="utf-8").partition("</head>\n")
    # Scripts are deferred in the head of the live page; inline they follow what they work on.
    scripts = "".join(link[0] for link in _LINKS.finditer(head) if link["name"].endswith(".js"))
    head = _LINKS.sub(lambda link: "" if link["name"].endswith(".js") else inlined(link), head)
    scripts = _LINKS.sub(inlined, scripts)
    allowed = [f"{name} {' '.join(each)}" for name, each in digests.items()]
    policy = "; ".join(["default-src 'none'", "img-src data:", *allowed])
    head = head.replace("<title>", f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<title>', 1)
    data = f'<script type="application/json" id="document">{_inert(as_json(document, indent=None))}</script>\n'
    return f"{head}</head>\n{body.replace('</body>', f'{data}{scripts}</body>', 1)}"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert(text: str) -> str:
    """JSON that cannot end the element that holds it."""
    return text.replace("<", "\\u003c")
