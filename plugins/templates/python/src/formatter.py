"""One delivery: batches become lines. consign calls `open` once, `write` for each
batch, `finish` at the end; nothing after an error."""

import json

from componentize_py_types import Err
from objects import Lines
from values import WRITERS, with_nulls
from wit_world.imports import run, types
from wit_world.imports.data import Batch
from wit_world.imports.output import Sink

EXTENSION = "txt"
MEDIA_TYPE = "text/plain; charset=utf-8"


class Formatter:
    @classmethod
    def open(cls, options: str, schema: list[types.Field]) -> "Formatter":
        delimiter, problems = prepare(options, schema)
        if problems:
            told = "; ".join(f"`{path}`: {message}" if path else message for path, message in problems)
            is_option = any(path for path, _ in problems)
            raise Err(types.Error_InvalidOptions(told) if is_option else types.Error_Unsupported(told))
        self = cls()
        self.delimiter = delimiter
        self.types = [field.data_type for field in schema]
        self.lines = Lines(EXTENSION, MEDIA_TYPE)
        self.rows = 0
        return self

    def write(self, batch: Batch, sink: Sink) -> None:
        columns = []
        for column, data_type in zip(batch.columns(), self.types):
            texts = WRITERS[type(data_type)](column, data_type, self.delimiter)
            columns.append(with_nulls(texts, column.validity) if column.validity else texts)
        self.lines.write(sink, list(map(self.delimiter.join, zip(*columns))))
        self.rows += batch.rows()
        run.progress(self.rows)

    def finish(self, sink: Sink) -> None:
        self.lines.finish(sink)


def prepare(options: str, schema: list[types.Field]) -> tuple[str, list[tuple[str, str]]]:
    """The delimiter, and all that is wrong: where in the options, as a JSON Pointer
    ("" when it is the schema), and what to write instead."""
    problems = []
    delimiter = read_options(json.loads(options), problems)
    if not schema:
        problems.append(("", "the dataset has no columns: select at least one in the query"))
    members = 0  # of nested columns: they come after their column, each with its own
    for field in schema:
        is_member, members = members > 0, max(members - 1, 0) + field.children
        if not is_member and type(field.data_type) not in WRITERS:
            problems.append(("", refusal(field)))
    return delimiter, problems


def read_options(options: dict, problems: list[tuple[str, str]]) -> str:
    for key in options.keys() - {"delimiter"}:
        problems.append((f"/{key}", "is no option of this format; it has `delimiter`"))
    delimiter = options.get("delimiter", "\t")
    instead = 'write one ASCII character such as `|` `;` or a tab ("\\t")'
    if not isinstance(delimiter, str) or len(delimiter) != 1 or not (delimiter == "\t" or " " <= delimiter <= "~"):
        problems.append(("/delimiter", f"is not one ASCII character: {instead}"))
    elif delimiter.isalnum() or delimiter in "\\+-.:":
        problems.append(("/delimiter", f"numbers, dates and words have this character in them: {instead}"))
    return delimiter


def refusal(field: types.Field) -> str:
    return (
        f"column `{field.name}` is of a type that has no place in a line: "
        "convert it to numbers or text in the query, or leave it out"
    )
