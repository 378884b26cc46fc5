"""Pages without outside resources: their templates, and images inside them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from sar.command_line.extras import extra

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> Template:
    """A template of this folder. Raises MissingPackageError where jinja2 is not installed."""
    with extra("report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sar.results"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def data_uri(kind: str, content: bytes) -> str:
    """An image of this kind ("jpeg") as a data: URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
