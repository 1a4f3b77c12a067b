//! Whole files, character by character.

use std::cell::RefCell;
use std::rc::Rc;

use consign_example_fixed_flights::FixedFlights;
use consign_sdk::{
    Batch, BatchSource, DataType, Error, Field, Formatter, Naming, NoOptions, ObjectSink, Output, RawColumn, RunFacts,
    Schema, Sink,
};

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

struct Flights(Vec<Flight>);

impl BatchSource for Flights {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn columns(&self) -> Vec<RawColumn> {
        let texts = (0..4).map(|i| {
            let values: Vec<_> = self.0.iter().map(|flight| flight.0[i]).collect();
            let mut end = 0u32;
            let ends = values.iter().map(|value| {
                end += value.unwrap_or("").len() as u32;
                end
            });
            let offsets = [0].into_iter().chain(ends).flat_map(u32::to_le_bytes).collect();
            let text = values.iter().flat_map(|value| value.unwrap_or("").bytes()).collect();
            column(values.iter().map(Option::is_some).collect(), Some(offsets), text)
        });
        let numbers = (0..12).map(|i| {
            let values: Vec<_> = self.0.iter().map(|flight| flight.1[i]).collect();
            let bytes = values.iter().flat_map(|value| value.unwrap_or(0).to_le_bytes()).collect();
            column(values.iter().map(Option::is_some).collect(), None, bytes)
        });
        texts.chain(numbers).collect()
    }

    fn arrow_ipc(&self) -> Vec<u8> {
        Vec::new()
    }

    fn json_lines(&self) -> Vec<u8> {
        Vec::new()
    }
}

fn column(valid: Vec<bool>, offsets: Option<Vec<u8>>, values: Vec<u8>) -> RawColumn {
    let mut validity = vec![0u8; valid.len().div_ceil(8)];
    for (row, valid) in valid.iter().enumerate() {
        validity[row / 8] |= u8::from(*valid) << (row % 8);
    }
    let null_count = valid.iter().filter(|valid| !**valid).count();
    RawColumn { length: valid.len(), null_count, validity: Some(validity), offsets, values }
}

#[derive(Default)]
struct Memory(Rc<RefCell<Vec<(String, Vec<u8>, u64)>>>);

struct MemoryObject(Rc<RefCell<Vec<(String, Vec<u8>, u64)>>>, String, Vec<u8>);

impl Sink for Memory {
    fn create(&self, name: &str, _media_type: &str) -> Box<dyn ObjectSink> {
        Box::new(MemoryObject(self.0.clone(), name.into(), Vec::new()))
    }
}

impl ObjectSink for MemoryObject {
    fn write(&mut self, bytes: &[u8]) {
        self.2.extend_from_slice(bytes);
    }

    fn finish(self: Box<Self>, rows: u64) {
        self.0.borrow_mut().push((self.1, self.2, rows));
    }
}

/// The one object's text, and the rows it says it holds.
fn file(batches: Vec<Vec<Flight>>) -> Result<(String, u64), Error> {
    let schema = schema();
    let run = RunFacts::of([
        ("object-stem", "movements"),
        ("interval-start", "2013-01-01T00:00:00Z"),
        ("interval-end", "2013-01-02T00:00:00Z"),
    ]);
    let mut formatter = FixedFlights::open(NoOptions {}, &schema, &run)?;
    let mut naming = Naming::new(&run, FixedFlights::EXTENSION, FixedFlights::MEDIA_TYPE)?;
    let memory = Memory::default();
    for batch in batches {
        let source = Flights(batch);
        formatter.write(&Batch::new(&schema, &source), &mut Output::new(&memory, &mut naming))?;
    }
    formatter.finish(&mut Output::new(&memory, &mut naming))?;
    let mut objects = memory.0.take();
    assert_eq!(objects.len(), 1);
    let (name, bytes, rows) = objects.remove(0);
    assert_eq!(name, "movements.mvt");
    Ok((String::from_utf8(bytes).unwrap(), rows))
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
