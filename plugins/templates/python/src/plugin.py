r"""A format: the text format of PostgreSQL's COPY. One row is a line, its values
separated by a tab or by the option `delimiter`; null is `\N`; in texts a
backslash stands before a backslash, a delimiter or a line break.

Make it yours: this file says what the format is and what its options are,
values.py how values become text, formatter.py how a batch becomes lines.
"""

import json

import formatter
from wit_world import exports
from wit_world.imports import types

NAME = "my-format"
VERSION = "1.0.0"

# JSON Schema of the options, which `consign plugin inspect` shows.
OPTIONS_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "delimiter": {
            "type": "string",
            "default": "\t",
            "minLength": 1,
            "maxLength": 1,
            "description": "Between two values: a tab, or one ASCII character that no number or date has, "
            "such as `|` or `;`.",
        }
    },
}


class Formatter(exports.Formatter):
    """What the host asks without data."""

    def describe(self) -> types.Description:
        schema = json.dumps(OPTIONS_SCHEMA)
        return types.Description(NAME, VERSION, formatter.EXTENSION, formatter.MEDIA_TYPE, schema)

    def check(self, options: str, schema: list[types.Field]) -> list[types.Diagnostic]:
        _, problems = formatter.prepare(options, schema)
        return [types.Diagnostic(types.Severity.ERROR, path, message) for path, message in problems]
