//! Lowering of columns: rows of any type, sliced and encoded in any way, reach a
//! component as what they are.
#![no_main]

#[path = "../../plugin/roundtrip/arrays.rs"]
#[expect(dead_code, reason = "the tests make shapes in a way of their own")]
mod arrays;
#[path = "../guest.rs"]
mod guest;
#[path = "../../plugin/roundtrip/lift.rs"]
mod lift;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arbitrary::{Result, Unstructured};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use consign::domain::OutputEvent;
use consign::plugin::{Component, Job, format};
use libfuzzer_sys::{Corpus, fuzz_target};
use tokio::runtime::Runtime;

use arrays::{Random, Shape, build, encodable, leaves};

/// More would be slow, and nothing else.
const DEPTH_MAX: usize = 4;
const COLUMNS_MAX: usize = 5;
const ROWS_MAX: usize = 70;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
static ECHO: LazyLock<Component> = LazyLock::new(|| guest::load(&guest::echo()).expect("the guest"));

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match crossing(&mut Unstructured::new(bytes)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

fn crossing(from: &mut Unstructured<'_>) -> Result<()> {
    let shapes =
        (0..from.int_in_range(0..=COLUMNS_MAX)?).map(|_| shape(from, DEPTH_MAX)).collect::<Result<Vec<_>>>()?;
    let rows = from.int_in_range(1..=ROWS_MAX)?;
    let begin = from.int_in_range(0..=rows)?;
    let len = from.int_in_range(0..=rows - begin)?;
    let mut random = Random::new(from.arbitrary()?);
    let (given, plain): (Vec<_>, Vec<_>) = shapes.iter().map(|shape| build(shape, rows, &mut random)).unzip();
    let (given, plain) = (batch(given, rows).slice(begin, len), batch(plain, rows).slice(begin, len));
    let mut objects = written(given);
    let schema = String::from_utf8(objects.remove("schema").expect("the schema")).expect("text");
    assert_eq!(schema, lift::schema_text(&plain.schema()));
    if len > 0 {
        let lifted = lift::batch(&objects["batch-0"], &plain.schema(), len);
        for (lifted, expected) in lifted.iter().zip(plain.columns()) {
            assert_eq!(lift::values(lifted), lift::values(expected), "{shapes:?}");
            assert_eq!(lifted.null_count(), expected.null_count(), "{shapes:?}");
        }
    }
    Ok(())
}

fn shape(from: &mut Unstructured<'_>, depth: usize) -> Result<Shape> {
    let kind = if depth == 0 { 0 } else { from.int_in_range(0..=9)? };
    let inner = |from: &mut Unstructured<'_>| shape(from, depth - 1).map(Box::new);
    let members = |from: &mut Unstructured<'_>, least| {
        (0..from.int_in_range(least..=3)?).map(|_| shape(from, depth - 1)).collect::<Result<Vec<_>>>()
    };
    Ok(match kind {
        0..=2 => Shape::Leaf(from.choose(&leaves())?.clone()),
        3 => Shape::View(from.arbitrary()?),
        4 => Shape::List { large: from.arbitrary()?, view: from.arbitrary()?, item: inner(from)? },
        5 => Shape::FixedList(from.int_in_range(0..=3)?, inner(from)?),
        6 => Shape::Struct(members(from, 0)?),
        7 => Shape::Map(inner(from)?),
        8 => Shape::Union { dense: from.arbitrary()?, members: members(from, 1)? },
        _ => {
            let (kind, values) = (from.int_in_range(0..=2)?, inner(from)?);
            match encodable(&values) {
                true if from.arbitrary()? => Shape::Dictionary(kind, values),
                true => Shape::Runs(kind, values),
                false => *values,
            }
        }
    })
}

fn batch(columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let field = |(i, column): (usize, &ArrayRef)| Field::new(format!("c{i}"), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).expect("a batch")
}

/// The objects of the guest that writes what it is given.
fn written(batch: RecordBatch) -> BTreeMap<String, Vec<u8>> {
    let job = Job {
        facts: vec![("object-stem".into(), "x".into())],
        options: "{}".into(),
        schema: batch.schema(),
        limits: guest::limits(),
        slot_at: consign::clock::Instant::UNIX_EPOCH,
        span: tracing::Span::none(),
    };
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let batches = futures::stream::iter([Ok(batch)]);
    let (formatted, objects) = RUNTIME.block_on(async {
        tokio::join!(format(ECHO.clone(), job, batches, sender), async {
            let (mut names, mut objects) = (BTreeMap::new(), BTreeMap::<String, Vec<u8>>::new());
            while let Some(event) = events.recv().await {
                match event {
                    OutputEvent::Create { object, name, .. } => {
                        objects.insert(name.as_str().to_owned(), Vec::new());
                        names.insert(object, name.as_str().to_owned());
                    }
                    OutputEvent::Bytes { object, bytes } => {
                        objects.get_mut(&names[&object]).expect("begun").extend_from_slice(&bytes);
                    }
                    OutputEvent::Finish { .. } => {}
                }
            }
            objects
        })
    });
    formatted.expect("the guest takes every type");
    objects
}
