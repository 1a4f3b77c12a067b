//! The two views that a library makes.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;

use super::support::{echo, job, run, run_in};

fn view(name: &str, batch: RecordBatch) -> Vec<u8> {
    let job = job(&format!(r#"{{"view":"{name}"}}"#), batch.schema());
    // Unions have one way only: see docs/isolation.md.
    let (result, mut delivered) = run_in(echo().within, job, vec![batch]);
    result.unwrap();
    delivered.objects.remove("batch-0").unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

#[test]
fn arrow_ipc_is_one_whole_plain_stream() {
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    let whole = batch(vec![("w", Arc::new(words)), ("n", Arc::new(Int64Array::from_iter(0..4)))]);
    let bytes = view("arrow-ipc", whole.slice(1, 3));
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    let read = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    assert_eq!(read.column(0).as_string::<i32>(), &StringArray::from(vec![None, Some("b"), Some("a")]));
    assert_eq!(read.column(1).as_primitive::<Int64Type>(), &Int64Array::from(vec![1, 2, 3]));
}

#[test]
fn json_lines_follow_the_contract() {
    let decimal = Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(10, 2).unwrap();
    let mut map = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    map.keys().append_value(7);
    map.values().append_value("seven");
    map.append(true).unwrap();
    map.append(true).unwrap();
    let fields =
        [(0, Arc::new(Field::new("i", DataType::Int64, true))), (5, Arc::new(Field::new("s", DataType::Utf8, true)))];
    let children: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![None])), Arc::new(StringArray::from(vec!["u"]))];
    let (ids, positions) = (ScalarBuffer::from(vec![5_i8, 0]), ScalarBuffer::from(vec![0, 0]));
    let union = UnionArray::try_new(fields.into_iter().collect(), ids, Some(positions), children).unwrap();
    let list = ListArray::new(
        Arc::new(Field::new_list_field(DataType::LargeBinary, true)),
        OffsetBuffer::new(vec![0, 1, 1].into()),
        Arc::new(LargeBinaryArray::from(vec![b"xyz".as_slice()])),
        None,
    );
    let lines = view(
        "json-lines",
        batch(vec![
            ("big", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            ("dec", Arc::new(decimal)),
            ("bin", Arc::new(BinaryViewArray::from(vec![Some(&[0xff, 0xfe][..]), None]))),
            ("list", Arc::new(list)),
            ("map", Arc::new(map.finish())),
            ("union", Arc::new(union)),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(0), None]).with_timezone("UTC"))),
            ("text", Arc::new(StringViewArray::from(vec!["a \"quoted\"\nline", "ü"]))),
        ]),
    );
    let lines = String::from_utf8(lines).unwrap();
    assert_eq!(
        lines.split_inclusive('\n').collect::<Vec<_>>(),
        [
            concat!(
                r#"{"big":9223372036854775807,"dec":"123.45","bin":"//4=","list":["eHl6"],"map":{"7":"seven"},"#,
                r#""union":"u","at":"1970-01-01T00:00:00Z","text":"a \"quoted\"\nline"}"#,
                "\n"
            ),
            concat!(r#"{"big":null,"dec":null,"bin":null,"list":[],"map":{},"union":null,"at":null,"text":"ü"}"#, "\n"),
        ]
    );
}

/// Never the text of an error in the place of a value.
#[test]
fn what_json_lines_cannot_say_is_refused() {
    for zone in [None, Some("Europe/Berlin")] {
        let at = TimestampMillisecondArray::from(vec![Some(0), None, Some(i64::MAX)]).with_timezone_opt(zone);
        let at: ArrayRef = Arc::new(at);
        let item = Arc::new(Field::new_list_field(at.data_type().clone(), true));
        let nested: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([3]), at.clone(), None));
        for (column, name) in [(at, "at"), (nested, "item")] {
            let given = batch(vec![("at", column)]);
            let (result, _) = run(echo(), job(r#"{"view":"json-lines"}"#, given.schema()), vec![given]);
            let message = result.unwrap_err().message;
            assert!(message.contains(&format!("a value of `{name}` cannot be said in JSON lines")), "{message}");
        }
    }
}

#[test]
fn long_and_wide_batches_are_split() {
    let rows = 150_000;
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let (result, delivered) =
        run(echo(), job("{}", batch(vec![("n", column.clone())]).schema()), vec![batch(vec![("n", column)])]);
    assert_eq!(result.unwrap().rows, 150_000);
    let rows: Vec<u64> = ["batch-0", "batch-1", "batch-2"].iter().map(|name| delivered.rows[*name]).collect();
    assert_eq!(rows, [65_536, 65_536, 18_928]);
    assert!(delivered.largest_event <= 512 << 10);

    let wide: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(|_| "w".repeat(1 << 20))));
    let (result, delivered) =
        run(echo(), job("{}", batch(vec![("w", wide.clone())]).schema()), vec![batch(vec![("w", wide)])]);
    let formatted = result.unwrap();
    assert_eq!((formatted.rows, delivered.rows["batch-0"]), (40, 10));
}

/// The values of a list are shared by all of its slices; only a slice's own count.
#[test]
fn a_batch_of_long_lists_is_split_by_what_its_rows_hold() {
    let values = Arc::new(Int64Array::from_iter_values(0..2_000 * 3_000));
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    let list = ListArray::new(item, OffsetBuffer::from_repeated_length(3_000, 2_000), values, None);
    let whole = batch(vec![("l", Arc::new(list))]);
    let (result, delivered) = run(echo(), job("{}", whole.schema()), vec![whole]);
    let formatted = result.unwrap();
    assert_eq!((formatted.rows, formatted.objects, delivered.rows["batch-0"]), (2_000, 5, 500));
}

#[test]
fn no_batch_and_an_empty_batch_are_no_batch() {
    let empty = RecordBatch::new_empty(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])));
    let (result, delivered) = run(echo(), job("{}", empty.schema()), vec![empty]);
    assert_eq!((result.unwrap().objects, delivered.objects["schema"].as_slice()), (1, b"n|int64|null|0\n".as_slice()));
}
