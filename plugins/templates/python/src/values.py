"""Columns as lists of texts, one writer for each type of the contract.

What is fast in Python is what runs in C: a column becomes texts by one `map` or
one comprehension. A call for each value is several times slower.
"""

from array import array
from binascii import hexlify
from itertools import pairwise
from typing import Callable, Iterable

from wit_world.imports import types

NULL = "\\N"


def items(code: str) -> Callable[[types.Column], list]:
    """Reads values of fixed width; the codes are those of `memoryview.cast`."""
    return lambda column: memoryview(column.values).cast(code).tolist()


def numbers(code: str):
    read = items(code)
    return lambda column, _type, _delimiter: list(map(repr, read(column)))


def floats(code: str, digits: int | None = None):
    read = items(code)

    def write(column: types.Column, _type, _delimiter) -> list[str]:
        values = read(column)
        if digits is None:
            texts = list(map(repr, values))
        else:
            # Single precision: the fewest digits that read back the same.
            texts = [shortest_f32(value) for value in values]
        special = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
        return [special.get(text, text) for text in texts] if "n" in "".join(texts) else texts

    return write


def shortest_f32(value: float) -> str:
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if array("f", [float(text)])[0] == value:
            break
    else:
        text = f"{value:.9g}"
    return repr(float(text))


def booleans(column: types.Column, _type, _delimiter) -> list[str]:
    # Eight values a byte, the first in the lowest bit.
    bits = "".join(map(BITS.__getitem__, column.values))
    return list(bits[: column.length])


BITS = [f"{byte:08b}"[::-1].replace("0", "f").replace("1", "t") for byte in range(256)]


def integers_128(column: types.Column) -> list[int]:
    low = memoryview(column.values).cast("Q")[::2].tolist()
    high = memoryview(column.values).cast("q")[1::2].tolist()
    if not any(high):
        return low
    return [high << 64 | low for high, low in zip(high, low)]


def decimals(read: Callable[[types.Column], list[int]]):
    def write(column: types.Column, data_type, _delimiter) -> list[str]:
        values, scale = read(column), data_type.value.scale
        if scale <= 0:
            return [str(value * 10**-scale) for value in values]
        one = 10**scale
        if scale <= 3 and min(values) >= 0:
            # As most amounts are: the places are looked up.
            places = [f".{place:0{scale}}" for place in range(one)]
            return [str(value // one) + places[value % one] for value in values]
        return [
            f"{value // one}.{value % one:0{scale}}" if value >= 0 else f"-{-value // one}.{-value % one:0{scale}}"
            for value in values
        ]

    return write


class Dates(dict):
    """Texts of days since 1970-01-01, each made once: a dataset has few of them."""

    def __missing__(self, day: int) -> str:
        # Civil years begin in March here, so that the leap day is the last.
        era, day_of_era = divmod(day + 719468, 146097)
        year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
        day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
        month = (5 * day_of_year + 2) // 153
        date = day_of_year - (153 * month + 2) // 5 + 1
        month += 3 if month < 10 else -9
        year += era * 400 + (month < 3)
        sign = "" if 0 <= year <= 9999 else "+" if year > 0 else "-"
        text = self[day] = f"{sign}{abs(year):04}-{month:02}-{date:02}"
        return text


class Clocks(dict):
    """Texts of seconds since midnight."""

    def __missing__(self, second: int) -> str:
        text = self[second] = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        return text


DATES, CLOCKS = Dates(), Clocks()


def days(read: Callable[[types.Column], list[int]], per_day: int):
    def write(column: types.Column, _type, _delimiter) -> list[str]:
        values = read(column)
        return [DATES[value // per_day] for value in values] if per_day > 1 else list(map(DATES.__getitem__, values))

    return write


# Of each unit: how many make a second, and how their number is written after it.
UNITS = {
    types.TimeUnit.SECOND: (1, ""),
    types.TimeUnit.MILLISECOND: (1000, ".%03d"),
    types.TimeUnit.MICROSECOND: (1000000, ".%06d"),
    types.TimeUnit.NANOSECOND: (1000000000, ".%09d"),
}


def times(read: Callable[[types.Column], list[int]]):
    def write(column: types.Column, data_type, _delimiter) -> list[str]:
        per_second, places = UNITS[data_type.value]
        if not places:
            return list(map(CLOCKS.__getitem__, read(column)))
        return [CLOCKS[value // per_second] + places % (value % per_second) for value in read(column)]

    return write


def timestamps(column: types.Column, data_type, _delimiter) -> list[str]:
    per_second, places = UNITS[data_type.value.unit]
    zone = "" if data_type.value.timezone is None else "Z"
    per_day = 86400 * per_second
    dates, clocks = DATES, CLOCKS
    values = memoryview(column.values).cast("q").tolist()
    if not places:
        return [f"{dates[value // 86400]}T{clocks[value % 86400]}{zone}" for value in values]
    places += zone
    return [
        f"{dates[value // per_day]}T{clocks[value % per_day // per_second]}{places % (value % per_second)}"
        for value in values
    ]


def ranges(column: types.Column, code: str, width: int = 0) -> Iterable[tuple[int, int]]:
    """Where each value lies in the column's bytes."""
    if width:
        return pairwise(range(0, (column.length + 1) * width, width))
    return pairwise(memoryview(column.offsets).cast(code).tolist())


def texts(code: str):
    def write(column: types.Column, _type, delimiter: str) -> list[str]:
        values = column.values
        if values.isascii():
            text = values.decode("ascii")
            found = [text[start:end] for start, end in ranges(column, code)]
        else:
            found = [values[start:end].decode() for start, end in ranges(column, code)]
        # One look at all values: texts that need no escape are the rule.
        if not any(special in values for special in (b"\\", b"\n", b"\r", delimiter.encode())):
            return found
        escapes = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", delimiter: "\\" + delimiter})
        return [text.translate(escapes) for text in found]

    return write


def binaries(code: str):
    def write(column: types.Column, data_type, _delimiter) -> list[str]:
        # As PostgreSQL reads `bytea`, with the backslash doubled.
        width = getattr(data_type, "value", 0)
        text = hexlify(column.values).decode("ascii")
        return ["\\\\x" + text[2 * start : 2 * end] for start, end in ranges(column, code, width)]

    return write


def nothing(column: types.Column, _type, _delimiter) -> list[str]:
    return [NULL] * column.length


WRITERS = {
    types.DataType_Null: nothing,
    types.DataType_Boolean: booleans,
    types.DataType_Int8: numbers("b"),
    types.DataType_Int16: numbers("h"),
    types.DataType_Int32: numbers("i"),
    types.DataType_Int64: numbers("q"),
    types.DataType_Uint8: numbers("B"),
    types.DataType_Uint16: numbers("H"),
    types.DataType_Uint32: numbers("I"),
    types.DataType_Uint64: numbers("Q"),
    types.DataType_Float32: floats("f", digits=6),
    types.DataType_Float64: floats("d"),
    types.DataType_Decimal32: decimals(items("i")),
    types.DataType_Decimal64: decimals(items("q")),
    types.DataType_Decimal128: decimals(integers_128),
    types.DataType_Date32: days(items("i"), 1),
    types.DataType_Date64: days(items("q"), 86400000),
    types.DataType_Time32: times(items("i")),
    types.DataType_Time64: times(items("q")),
    types.DataType_Timestamp: timestamps,
    types.DataType_Utf8: texts("i"),
    types.DataType_LargeUtf8: texts("q"),
    types.DataType_Binary: binaries("i"),
    types.DataType_LargeBinary: binaries("q"),
    types.DataType_FixedSizeBinary: binaries(""),
}


def with_nulls(texts: list[str], validity: bytes) -> list[str]:
    valid = "".join(map(BITS.__getitem__, validity))
    return [text if bit == "t" else NULL for text, bit in zip(texts, valid)]
