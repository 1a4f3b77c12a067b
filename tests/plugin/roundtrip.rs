//! Host → guest → host: every type that Arrow has reaches a guest unchanged,
//! sliced and encoded in every way.

#[path = "roundtrip/arrays.rs"]
mod arrays;
#[path = "roundtrip/lift.rs"]
mod lift;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use consign::plugin::Component;
use proptest::prelude::*;

use super::support::{echo, job, run_in};
use arrays::{Random, Shape, build, leaves, shapes};

/// The columns as they are handed to the host, and what they must become.
fn columns(shapes: &[Shape], rows: usize, seed: u64) -> Vec<(ArrayRef, ArrayRef)> {
    let mut random = Random::new(seed);
    shapes.iter().map(|shape| build(shape, rows, &mut random)).collect()
}

fn batch(columns: &[ArrayRef], rows: usize) -> RecordBatch {
    let field = |(i, column): (usize, &ArrayRef)| Field::new(format!("c{i}"), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), columns.to_vec(), &options).unwrap()
}

fn returned(component: Component, given: RecordBatch) -> (String, Vec<u8>) {
    let (result, mut delivered) = run_in(component, job("{}", given.schema()), vec![given]);
    result.unwrap();
    let schema = String::from_utf8(delivered.objects.remove("schema").unwrap()).unwrap();
    (schema, delivered.objects.remove("batch-0").unwrap_or_default())
}

fn holds(shapes: &[Shape], rows: usize, slice: (usize, usize), seed: u64) {
    let pairs = columns(shapes, rows, seed);
    let (given, plain): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let given = batch(&given, rows).slice(slice.0, slice.1);
    let expected = batch(&plain, rows).slice(slice.0, slice.1);
    let plain_schema: SchemaRef = expected.schema();
    // Not byte for byte the same: what no row refers to may be there or not.
    for (component, walled) in echo().both().into_iter().zip([false, true]) {
        if walled && shapes.iter().any(Shape::has_union) {
            let (result, _) = run_in(component, job("{}", given.schema()), vec![given.clone()]);
            assert!(result.unwrap_err().message.contains("has a union in it"));
            continue;
        }
        let (schema, bytes) = returned(component, given.clone());
        assert_eq!(schema, lift::schema_text(&plain_schema));
        if slice.1 > 0 {
            let lifted = lift::batch(&bytes, &plain_schema, slice.1);
            for (lifted, expected) in lifted.iter().zip(expected.columns()) {
                assert_eq!(lift::values(lifted), lift::values(expected), "{shapes:?}");
                assert_eq!(lifted.null_count(), expected.null_count(), "{shapes:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_type_survives_the_crossing(
        shapes in proptest::collection::vec(shapes(), 0..4),
        rows in 1_usize..40,
        begin in 0_usize..40,
        len in 0_usize..40,
        seed in any::<u64>(),
    ) {
        let begin = begin.min(rows);
        holds(&shapes, rows, (begin, len.min(rows - begin)), seed);
    }
}

/// Each type once, with and without a slice that begins in the middle of a byte.
#[test]
fn every_leaf_type_survives_the_crossing() {
    let shapes: Vec<Shape> = leaves().into_iter().map(Shape::Leaf).collect();
    holds(&shapes, 33, (0, 33), 1);
    holds(&shapes, 33, (13, 17), 2);
}

/// Each layout around each kind of value.
#[test]
fn every_nesting_survives_the_crossing() {
    for leaf in [DataType::Int32, DataType::Utf8, DataType::Boolean] {
        let shapes = arrays::nestings(Shape::Leaf(leaf));
        holds(&shapes, 33, (0, 33), 3);
        holds(&shapes, 33, (13, 17), 4);
        let twice: Vec<Shape> = shapes.into_iter().flat_map(arrays::nestings).collect();
        holds(&twice, 21, (9, 11), 5);
    }
}
