"""Reads Arrow, Avro and Excel with pyarrow, fastavro and openpyxl and prints one JSON array a row.

    typed_readers.py arrow FILE      an Arrow IPC file or stream
    typed_readers.py avro FILE       an Avro object container file
    typed_readers.py xlsx FILE       the rows of all sheets of a workbook

Numbers are {"n": "their digits"}; dates, times, decimals and binary data are texts as
tests/formats/zoo.rs has them. What the libraries make of dates is not used, because
Python's end with the year 9999: the text is worked out from the stored number.

The first line is the column names, the second their types. Of a workbook it is what each
sheet is like, then come the rows; what is shown as a moment is {"at": text, "format": …}.
"""

import base64
import json
import math
import struct
import sys

DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def number(text):
    return {"n": str(text)}


def real(value, single=False, nested=False):
    if not math.isfinite(value):
        if nested:
            return None
        return number("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    if not single:
        return number(repr(value))
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            break
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return number(mantissa if "." in mantissa else mantissa + ".0")
    return number(f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}")


def date(days):
    """Counts whole 400 years first, then years, then months."""
    era, rest = divmod(days + 719528, 146097)
    year = era * 400

    def leap(year):
        return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)

    while rest >= 365 + leap(year):
        rest -= 365 + leap(year)
        year += 1
    months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    month = 0
    while rest >= months[month]:
        rest -= months[month]
        month += 1
    sign = "" if 0 <= year <= 9999 else "-" if year < 0 else "+"
    return f"{sign}{abs(year):04}-{month + 1:02}-{rest + 1:02}"


def fraction(value, digits):
    return f".{value:0{digits}}" if digits else ""


def time(value, digits):
    seconds, rest = divmod(value, 10**digits)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + fraction(rest, digits)


def timestamp(value, digits, instant):
    days, of_day = divmod(value, 86400 * 10**digits)
    return date(days) + "T" + time(of_day, digits) + ("Z" if instant else "")


def clock(value, digits, signed):
    """The part of an ISO 8601 duration behind the T; the sign at each part or before all."""
    minus = "-" if value < 0 and signed else ""
    seconds, rest = divmod(abs(value), 10**digits)
    text = ""
    if seconds // 3600:
        text += f"{minus}{seconds // 3600}H"
    if seconds // 60 % 60:
        text += f"{minus}{seconds // 60 % 60}M"
    if seconds % 60 or rest or not value:
        text += f"{minus}{seconds % 60}" + fraction(rest, digits).rstrip("0").rstrip(".") + "S"
    return text


def duration(value, digits):
    return ("-" if value < 0 else "") + "PT" + clock(value, digits, False)


def interval(months, days, nanoseconds):
    years, months = int(months / 12), int(math.fmod(months, 12))
    parts = [(years, "Y"), (months, "M"), (days, "D")]
    text = "P" + "".join(f"{count}{letter}" for count, letter in parts if count)
    return text if nanoseconds == 0 and text != "P" else text + "T" + clock(nanoseconds, 9, True)


def binary(value):
    return base64.b64encode(value).decode()


def of_arrow(array, nested=False):
    """The values of an Arrow array, each by its own type."""
    import pyarrow as pa

    kind = array.type
    where = pa.types

    def each(render):
        return [None if not item.is_valid else render(item) for item in array]

    def counted(render):
        plain = pa.int32() if kind.bit_width == 32 else pa.int64()
        return [None if value is None else render(value) for value in array.cast(plain).to_pylist()]

    if where.is_null(kind):
        return [None] * len(array)
    if where.is_boolean(kind):
        return array.to_pylist()
    if where.is_integer(kind):
        return each(lambda item: number(item.as_py()))
    if where.is_floating(kind):
        return each(lambda item: real(float(item.as_py()), not where.is_float64(kind), nested))
    if where.is_decimal(kind):
        return each(lambda item: format(item.as_py(), "f"))
    if where.is_date32(kind):
        return counted(date)
    if where.is_date64(kind):
        return counted(lambda value: date(value // 86400000))
    if where.is_time(kind):
        return counted(lambda value: time(value, DIGITS[kind.unit]))
    if where.is_timestamp(kind):
        return counted(lambda value: timestamp(value, DIGITS[kind.unit], kind.tz is not None))
    if where.is_duration(kind):
        return counted(lambda value: duration(value, DIGITS[kind.unit]))
    if where.is_interval(kind):
        return each(lambda item: interval(*item.as_py()))
    if where.is_string(kind) or where.is_large_string(kind):
        return array.to_pylist()
    if where.is_binary(kind) or where.is_large_binary(kind) or where.is_fixed_size_binary(kind):
        return each(lambda item: binary(item.as_py()))
    if where.is_map(kind):

        def entries(item):
            keys, values = (of_arrow(item.values.field(index), True) for index in (0, 1))
            pairs = [list(pair) for pair in zip(keys, values)]
            return dict(pairs) if where.is_string(kind.key_type) else pairs

        return each(entries)
    if where.is_nested(kind) and hasattr(kind, "value_type"):
        return each(lambda item: of_arrow(item.values, True))
    if where.is_struct(kind):
        members = [of_arrow(array.field(index), True) for index in range(kind.num_fields)]
        names = [kind.field(index).name for index in range(kind.num_fields)]
        rows = [dict(zip(names, row)) for row in zip(*members)]
        return [row if item.is_valid else None for row, item in zip(rows, array)]
    if where.is_union(kind):
        return each(lambda item: of_arrow(pa.array([item.value.as_py()], item.value.type))[0])
    raise ValueError(f"no rule for {kind}")


def arrow(path):
    import pyarrow as pa

    data = open(path, "rb").read()
    opened = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    table = opened(data).read_all()
    table.validate(full=True)
    yield table.schema.names
    yield [str(kind) for kind in table.schema.types]
    for batch in table.to_batches():
        yield from zip(*(of_arrow(column) for column in batch.columns))


def of_avro(value, schema, names, nested=False):
    """A value that fastavro read without looking at logical types."""
    if value is None:
        return None
    if isinstance(schema, list):
        (schema,) = [branch for branch in schema if branch != "null"]
    if isinstance(schema, str):
        schema = names.get(schema, {"type": schema})
    kind, logical = schema["type"], schema.get("logicalType", "")
    if isinstance(kind, (dict, list)):
        return of_avro(value, kind, names, nested)
    if logical == "decimal":
        unscaled, scale = int.from_bytes(value, "big", signed=True), schema["scale"]
        digits = f"{abs(unscaled):0{scale + 1}}"
        point = len(digits) - scale
        return ("-" if unscaled < 0 else "") + digits[:point] + ("." + digits[point:] if scale else "")
    if logical == "date":
        return date(value)
    places = {"millis": 3, "micros": 6, "nanos": 9}.get(logical.rpartition("-")[2], 0)
    if logical.startswith("time-"):
        return time(value, places)
    if logical:
        return timestamp(value, places, not logical.startswith("local-"))
    if kind == "boolean":
        return value
    if kind in ("int", "long"):
        return number(value)
    if kind in ("float", "double"):
        return real(value, kind == "float", nested)
    if kind in ("bytes", "fixed"):
        return binary(value)
    if kind == "array":
        items = [of_avro(item, schema["items"], names, True) for item in value]
        record = schema["items"]
        # Maps whose keys are not texts.
        pairs = isinstance(record, dict) and [field["name"] for field in record.get("fields", [])] == ["key", "value"]
        return [list(item.values()) for item in items] if pairs else items
    if kind == "map":
        return {key: of_avro(item, schema["values"], names, True) for key, item in value.items()}
    if kind in ("record", "error"):
        return {field["name"]: of_avro(value[field["name"]], field["type"], names, True) for field in schema["fields"]}
    return value


def named(schema, names):
    """Every type of the schema that has a name."""
    if isinstance(schema, list):
        for branch in schema:
            named(branch, names)
    elif isinstance(schema, dict):
        if "name" in schema and schema["type"] in ("record", "fixed", "enum"):
            names[schema["name"]] = schema
        for part in [schema.get("items"), schema.get("values"), schema["type"]]:
            if isinstance(part, (dict, list)):
                named(part, names)
        for field in schema.get("fields", []):
            named(field["type"], names)
    return names


def avro(path):
    import fastavro

    fastavro.read.LOGICAL_READERS.clear()
    with open(path, "rb") as file:
        reader = fastavro.reader(file)
        schema = reader.writer_schema
        names = named(schema, {})
        yield [field["name"] for field in schema["fields"]]
        yield [field["type"] for field in schema["fields"]]
        for row in reader:
            yield [of_avro(row[field["name"]], field["type"], names) for field in schema["fields"]]


def of_cell(cell):
    import datetime

    from openpyxl.utils.escape import unescape

    value = cell.value
    if isinstance(value, (datetime.datetime, datetime.time)):
        return {"at": value.isoformat(timespec="milliseconds"), "format": cell.number_format}
    if isinstance(value, str):
        return unescape(value)
    if isinstance(value, bool) or value is None:
        return value
    return number(repr(value))


def xlsx(path):
    import openpyxl

    book = openpyxl.load_workbook(open(path, "rb"))
    for sheet in book:
        first = sheet.cell(1, 1)
        yield [sheet.title, sheet.max_row, sheet.freeze_panes, first.font.b, sheet.column_dimensions["A"].width]
    for sheet in book:
        for row in sheet.iter_rows():
            yield [of_cell(cell) for cell in row]


def main(kind, path):
    for row in {"arrow": arrow, "avro": avro, "xlsx": xlsx}[kind](path):
        print(json.dumps(list(row)))


main(*sys.argv[1:])
