"""The Jinja templates of this folder, with the functions of `words` as filters."""

from functools import cache
from inspect import isfunction
from statistics import median
from typing import Any

import jinja2

from hypsae_ray.report import words


def render(name: str, **values: Any) -> str:
    """Fill a template; in *.html.j2 values are escaped, in *.txt.j2 what is not defined reads as empty."""
    return _environment(name.endswith(".html.j2")).get_template(name).render(values)


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
