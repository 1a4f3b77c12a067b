//! Container files, natively: blocks, objects, names and refusals. What other
//! readers make of them is tested with the component, in the root package's
//! `tests/formats`.

#![cfg(test)]

use consign_avro::Avro;
use consign_sdk::testing::{self, Table, WrittenObject, fixed, texts};
use consign_sdk::{DataType, Field, Formatter, IntervalUnit, RunFacts, Schema, Severity, TimeUnit};

/// Numbers that do not compress, and a text.
fn table(rows: u64) -> Table {
    let number = |row: u64| Some(row.wrapping_mul(0x9e37_79b9_7f4a_7c15).cast_signed().to_le_bytes());
    Table::new().column("number", DataType::Int64, vec![fixed((0..rows).map(number))]).column(
        "text",
        DataType::Utf8,
        vec![texts((0..rows).map(|row| (row % 3 > 0).then(|| row.to_string())))],
    )
}

fn long(bytes: &mut &[u8]) -> i64 {
    let (mut number, mut shift) = (0u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
        }
    }
}

fn text<'a>(bytes: &mut &'a [u8]) -> &'a str {
    let length = long(bytes) as usize;
    let (text, rest) = bytes.split_at(length);
    *bytes = rest;
    std::str::from_utf8(text).unwrap()
}

/// The codec, the schema, and of each block its rows and its bytes.
fn read(object: &WrittenObject) -> (String, String, Vec<(i64, usize)>) {
    let mut bytes = object.bytes.strip_prefix(b"Obj\x01").unwrap();
    assert_eq!(long(&mut bytes), 2);
    let pairs = [(); 2].map(|()| (text(&mut bytes), text(&mut bytes)));
    assert_eq!((long(&mut bytes), pairs[0].0, pairs[1].0), (0, "avro.codec", "avro.schema"));
    let (sync, mut bytes) = bytes.split_at(16);
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        let (rows, length) = (long(&mut bytes), long(&mut bytes) as usize);
        assert_eq!(&bytes[length..length + 16], sync);
        bytes = &bytes[length + 16..];
        blocks.push((rows, length));
    }
    assert_eq!(object.rows, Some(blocks.iter().map(|(rows, _)| rows.cast_unsigned()).sum()));
    (pairs[0].1.into(), pairs[1].1.into(), blocks)
}

#[test]
fn blocks_end_by_bytes_and_each_codec_has_its_name() {
    for (options, codec) in [("none", "null"), ("deflate", "deflate"), ("snappy", "snappy"), ("zstd", "zstandard")] {
        let options = format!(r#"{{"compression":"{options}","block_bytes":4096}}"#);
        let objects = table(2_000).format::<Avro>(&options, &RunFacts::none()).unwrap();
        let [object] = objects.as_slice() else { panic!("{} objects", objects.len()) };
        let (said, schema, blocks) = read(object);
        assert_eq!(said, codec);
        let fields = r#"{"name":"number","type":["null","long"],"default":null},{"name":"text","type":["null","string"],"default":null}"#;
        assert_eq!(schema, format!(r#"{{"type":"record","name":"row","fields":[{fields}]}}"#));
        assert!(blocks.len() > 5 && blocks.iter().all(|(_, bytes)| *bytes < 4_200), "{blocks:?}");
    }
}

#[test]
fn no_object_exceeds_the_limit_and_none_is_far_below_it() {
    let batches = [table(20_000).batch, table(20_000).batch];
    for codec in ["none", "deflate", "snappy", "zstd"] {
        for limit in [60_000, 900_000] {
            let run = RunFacts::of([("max-object-bytes", limit.to_string())]);
            let options = format!(r#"{{"compression":"{codec}","block_bytes":16384}}"#);
            let objects = testing::format::<Avro>(&options, &table(0).schema, &batches, &run).unwrap();
            for (number, object) in objects.iter().enumerate() {
                let bytes = object.bytes.len();
                assert!(bytes <= limit, "{codec}: {bytes} bytes");
                assert!(bytes > limit / 2 || number + 1 == objects.len(), "{codec}: {bytes} bytes");
                read(object);
            }
            assert_eq!(objects.iter().filter_map(|object| object.rows).sum::<u64>(), 40_000);
        }
    }
    let run = RunFacts::of([("max-object-bytes", "10")]);
    let objects = table(3).format::<Avro>("{}", &run).unwrap();
    assert_eq!(objects.iter().map(|object| object.rows).collect::<Vec<_>>(), [Some(1); 3]);
}

/// Of the delivery, not of the attempt.
#[test]
fn the_marker_is_the_same_in_every_attempt_and_another_in_another_slot() {
    let of = |slot: &str, attempt: &str| {
        let run = RunFacts::of([("slot", slot), ("attempt", attempt), ("share", "daily")]);
        table(10).format::<Avro>("{}", &run).unwrap().remove(0).bytes
    };
    assert_eq!(of("2024-01-01T00:00:00Z", "1"), of("2024-01-01T00:00:00Z", "2"));
    assert_ne!(of("2024-01-01T00:00:00Z", "1"), of("2024-01-02T00:00:00Z", "1"));
}

#[test]
fn types_within_have_names_of_their_own() {
    let fixed = || DataType::FixedSizeBinary(4);
    let inner = |name: &str| DataType::Struct(vec![Field::new(name, DataType::Struct(vec![Field::new("x", fixed())]))]);
    let schema = Schema { fields: vec![Field::new("a_b", inner("c")), Field::new("a", inner("b_c"))] };
    let run = RunFacts::none();
    let objects = testing::format::<Avro>(r#"{"name":"com.example.Order"}"#, &schema, &[], &run).unwrap();
    let (_, json, _) = read(&objects[0]);
    for name in ["Order", "Order_a_b", "Order_a_b_c", "Order_fixed_4", "Order_a", "Order_a_b_c_2"] {
        assert_eq!(json.matches(&format!(r#""name":"com.example.{name}""#)).count(), 1, "{name}: {json}");
    }
    assert_eq!(json.matches(r#"["null","com.example.Order_fixed_4"]"#).count(), 1, "{json}");
}

#[test]
fn what_avro_cannot_say_is_told_column_by_column() {
    let fields = vec![
        Field::new("a b", DataType::Int8),
        Field::new("twice", DataType::Int8),
        Field::new("twice", DataType::Int8),
        Field::new("i", DataType::List(Box::new(Field::new("item", DataType::Interval(IntervalUnit::DayTime))))),
        Field::new("d", DataType::Decimal128 { precision: 5, scale: -2 }),
        Field::new("u", DataType::SparseUnion { ids: vec![0], members: vec![Field::new("m", DataType::Int8)] }),
    ];
    let findings = Avro::check("{}", &Schema { fields });
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    for said in ["`a b`: Avro's names", "two columns are named `twice`", "`i.item`: Avro cannot hold an interval"] {
        assert!(finding.message.contains(said), "{}", finding.message);
    }
    assert!(finding.message.contains("column `d`") && finding.message.contains("column `u`"), "{}", finding.message);
    assert!(!Avro::check("{}", &Schema::default()).is_empty());

    let schema = Schema { fields: vec![Field::new("d", DataType::Duration(TimeUnit::Second))] };
    let findings = Avro::check("{}", &schema);
    assert_eq!((findings.len(), findings[0].severity), (1, Severity::Warning));
    assert!(findings[0].message.contains("`d`") && findings[0].message.contains("long of seconds"), "{findings:?}");
}

#[test]
fn wrong_options_say_what_to_write() {
    let cases = [
        (r#"{"codec":"deflate"}"#, "/codec", "unknown option `codec`"),
        (r#"{"compression":"gzip"}"#, "/compression", "unknown variant `gzip`"),
        (r#"{"compression_level":10}"#, "/compression_level", "`deflate` has the levels 0 to 9, not 10"),
        (r#"{"compression":"snappy","compression_level":1}"#, "/compression_level", "only `deflate` and `zstd`"),
        (r#"{"block_bytes":1}"#, "/block_bytes", "from 1024 to 16777216, not 1"),
        (r#"{"name":"my-order"}"#, "/name", "`my-order` is not a full name"),
        (r#"{"name":"a..b"}"#, "/name", "with dots between"),
    ];
    for (options, path, message) in cases {
        let findings = Avro::check(options, &table(0).schema);
        let [finding] = findings.as_slice() else { panic!("{options}: {findings:?}") };
        assert_eq!(finding.path, path, "{options}");
        assert!(finding.message.contains(message), "{options}: {}", finding.message);
    }
}
