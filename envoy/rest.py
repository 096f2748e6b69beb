"""Path templates of google.api.http as route matches."""

import re

from .config import Config

VARIABLE = re.compile(r"{[\w.]+(?:=(?P<pattern>[^}]+))?}")


def path_match(template: str) -> Config:
    """Return the match of a template: exact without variables, else a regular expression."""
    if "{" not in template and "*" not in template:
        return {"path": template}
    return {"safe_regex": {"regex": _regex(template)}}


def specificity(template: str) -> tuple[bool, int, int]:
    """Order templates: `/{id}:halt` before `/{id}`, literals before variables."""
    verb = ":" in template.rpartition("/")[2]
    return (not verb, template.count("{"), -len(template))


def _regex(template: str) -> str:
    parts, at = [], 0
    for variable in VARIABLE.finditer(template):
        parts.append(_pattern(template[at : variable.start()]))
        parts.append(_pattern(variable["pattern"] or "*"))
        at = variable.end()
    parts.append(_pattern(template[at:]))
    return "".join(parts)


def _pattern(text: str) -> str:
    escaped = re.escape(text).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    return escaped.replace(r"\-", "-")
