//! Whole files, character by character.

#![cfg(test)]

use consign_example_fixed_flights::FixedFlights;
use consign_sdk::testing::{self, MemoryBatch, fixed, texts};
use consign_sdk::{DataType, Error, Field, Formatter, RunFacts, Schema};

/// One flight, in the order of [`schema`]; a text or number that is none is null.
type Flight = ([Option<&'static str>; 4], [Option<i16>; 12]);

fn late() -> Flight {
    let texts = ["UA", "N14228", "EWR", "IAH"];
    (texts.map(Some), [2013, 1, 1, 1545, 515, 517, 2, 819, 830, 11, 227, 1400].map(Some))
}

fn schema() -> Schema {
    let texts = ["carrier", "tailnum", "origin", "dest"].map(|name| Field::new(name, DataType::Utf8));
    let numbers = [
        "year",
        "month",
        "day",
        "flight",
        "sched_dep_time",
        "dep_time",
        "dep_delay",
        "sched_arr_time",
        "arr_time",
        "arr_delay",
        "air_time",
        "distance",
    ];
    let numbers = numbers.map(|name| Field::new(name, DataType::Int16));
    Schema { fields: texts.into_iter().chain(numbers).collect() }
}

fn batch(flights: Vec<Flight>) -> MemoryBatch {
    let names = (0..4).map(|i| texts(flights.iter().map(|flight| flight.0[i])));
    let numbers = (0..12).map(|i| fixed(flights.iter().map(|flight| flight.1[i].map(i16::to_le_bytes))));
    MemoryBatch { rows: flights.len(), columns: names.chain(numbers).collect(), ..MemoryBatch::default() }
}

/// The one object's text, and the rows it says it holds.
fn file(batches: Vec<Vec<Flight>>) -> Result<(String, u64), Error> {
    let run = RunFacts::of([
        ("object-stem", "movements"),
        ("interval-start", "2013-01-01T00:00:00Z"),
        ("interval-end", "2013-01-02T00:00:00Z"),
    ]);
    let batches: Vec<MemoryBatch> = batches.into_iter().map(batch).collect();
    let mut objects = testing::format::<FixedFlights>("{}", &schema(), &batches, &run)?;
    assert_eq!(objects.len(), 1);
    let object = objects.remove(0);
    assert_eq!(object.name, "movements.mvt");
    Ok((String::from_utf8(object.bytes).unwrap(), object.rows.unwrap()))
}

#[test]
fn a_file_of_two_batches() {
    let cancelled: Flight = (
        [Some("EV"), None, Some("LGA"), Some("ORD")],
        [Some(2013), Some(12), Some(31), Some(7), Some(1820), None, None, Some(1945), None, None, None, Some(733)],
    );
    let mut early = late();
    early.1[6] = Some(-4);
    early.1[10] = None;
    let (text, rows) = file(vec![vec![late(), cancelled], vec![early]]).unwrap();
    assert_eq!(rows, 3);
    let expected = [
        "1FLIGHT MOVEMENTS   2013-01-01T00:00:00Z     2013-01-02T00:00:00Z         000001",
        "3UA 154501JAN13EWRIAH0515051708190830+0002+0011022701400N14228            000002",
        "3EV 000731DEC13LGAORD1820    1945                  00733      X           000003",
        "3UA 154501JAN13EWRIAH0515051708190830-0004+0011    01400N14228D           000004",
        "5000000003                                                                000005",
    ];
    assert_eq!(text.split_terminator("\r\n").collect::<Vec<_>>(), expected);
    assert!(text.split_terminator("\r\n").all(|record| record.len() == 80));
}

#[test]
fn no_flight_at_all() {
    let (text, rows) = file(Vec::new()).unwrap();
    assert_eq!((text.lines().count(), rows), (2, 0));
    assert!(text.ends_with("000002\r\n"));
}

#[test]
fn a_value_too_long_for_its_place() {
    let mut flight = late();
    flight.0[1] = Some("N14228X");
    let message = file(vec![vec![flight]]).unwrap_err().to_string();
    assert_eq!(message, "`tailnum` is `N14228X`, which does not fit into 6 ASCII characters");
}

#[test]
fn missing_columns_are_all_named() {
    let mut schema = schema();
    schema.fields.retain(|field| field.name != "dest" && field.name != "distance");
    let findings = FixedFlights::check("{}", &schema);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].message.contains("text `dest`, int `distance`"), "{}", findings[0].message);
}
