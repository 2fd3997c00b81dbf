"""The console's own files, read once. Only what is in this table can be asked for: no name leads to the disk."""

from __future__ import annotations

from importlib.resources import files

INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_NOTHING_ELSE = ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
_ALWAYS = {"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"}

# Page names are strangers' text. The console writes them as text nodes; should it ever fail to, nothing inline runs,
# nothing is loaded from anywhere, and nothing can be sent elsewhere.
CONSOLE_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            *_NOTHING_ELSE,
        )
    ),
    **_ALWAYS,
}

# The report is one file with its styles and figures in it, and without any script.
REPORT_HEADERS = {
    "Content-Security-Policy": "; ".join(
        ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", *_NOTHING_ELSE)
    ),
    **_ALWAYS,
}


def load() -> dict[str, tuple[bytes, str]]:
    """Content and media type of every file, by name."""
    found = {}
    for file in files("service.console").joinpath("static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in TYPES:
            found[file.name] = (file.read_bytes(), TYPES[suffix])
    return found
