"""The Jinja templates of this folder, with the functions of `words` as filters."""

import base64
import hashlib
from functools import cache
from inspect import isfunction
from statistics import median
from typing import Any

import jinja2
from markupsafe import Markup

from hypsae_ray.report import words


def render(name: str, **values: Any) -> str:
    """Fill a template; in *.html.j2 values are escaped, in *.txt.j2 what is not defined reads as empty."""
    return _environment(name.endswith(".html.j2")).get_template(name).render(values)


def page(name: str, script: str = "", **values: Any) -> str:
    """Fill the template of a page, with the style sheet, a script, and a policy that allows no other."""
    style = render("style.css.j2")
    policy = content_policy(style, script)
    return render(name, style=Markup(style), script=Markup(script), policy=policy, **values)


def content_policy(style: str, script: str = "") -> str:
    """Return the Content-Security-Policy of a page: its style and script by their hashes, and no address."""
    allowed = {"default-src": "'none'", "style-src": _hash_source(style), "img-src": "data: blob:"}
    if script:
        allowed["script-src"] = _hash_source(script)
    allowed |= {"base-uri": "'none'", "form-action": "'none'"}
    return "; ".join(f"{name} {sources}" for name, sources in allowed.items())


def _hash_source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


@cache  # to parse the templates takes four times as long as to fill them
def _environment(html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hypsae_ray", "report"),
        autoescape=html,
        undefined=jinja2.StrictUndefined if html else jinja2.ChainableUndefined,
        trim_blocks=html,
        lstrip_blocks=html,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {name: one for name, one in vars(words).items() if isfunction(one)}
    environment.filters["median"] = median
    environment.tests["known"] = words.is_known
    return environment
