"""Specs: a name with options in one word, such as ``gae:start_layer=3,backward=libra``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from visattn.errors import ConfigError


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and options of ``name:key=value,key=value``; values are literals or words.

    Raises `ConfigError` for anything else.
    """
    name, _, rest = text.partition(":")
    try:
        call = ast.parse(f"f({rest})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not name:
            raise ValueError("options are key=value")
        return name, {_key(word): _literal(word.value) for word in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise ConfigError(
            f"{text!r} cannot be read ({error}): write a name, or name:key=value,key=value."
        ) from error


def written(name: str, options: Mapping[str, Any]) -> str:
    """Return the text that `parsed` reads."""
    return f"{name}:{told(options)}" if options else name


def told(options: Mapping[str, Any]) -> str:
    """Return options as ``key=value,key=value``; words stand without quotes."""
    return ",".join(
        f"{key}={value if isinstance(value, str) and value.isidentifier() else repr(value)}"
        for key, value in options.items()
    )


def _key(word: ast.keyword) -> str:
    if word.arg is None:
        raise ValueError("options are key=value")
    return word.arg


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)} is no number, word or list: quote text") from error
