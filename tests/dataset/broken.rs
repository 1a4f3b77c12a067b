//! Files that are missing, cut off, malformed or unlike their siblings: the
//! failure names the file, what is wrong in it, and what to do.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use consign::config::{FileFormat, TableDataset, TableSource};
use consign::dataset::Kind;
use consign::domain::{Failure, Layer, Retry};

use super::world::*;

/// The failure of a dataset over `file`, be it planned or not.
async fn failure(world: &World, dataset: &TableDataset, kind: Option<Kind>) -> Failure {
    match kind {
        Some(kind) => {
            let error = world.plan_error(dataset, &params(&[])).await;
            assert_eq!(error.kind, kind, "{error:?}");
            error.into()
        }
        None => world.run_failure(dataset, &params(&[])).await,
    }
}

/// A file that must be refused: at planning with this kind, or else in the run.
async fn broken(name: &str, bytes: impl AsRef<[u8]>, kind: Option<Kind>, says: &[&str], remedy: &str) {
    let world = World::new();
    let path = world.write(name, bytes);
    let failure = failure(&world, &dataset(vec![("t", world.table(name))], ""), kind).await;
    assert_eq!((failure.layer, failure.retry), (Layer::Dataset, Retry::Never), "{failure:?}");
    let place = format!("dataset 'orders', table 't', file {path}: ");
    assert!(failure.message.starts_with(&place), "{failure:?}");
    for phrase in says {
        assert!(failure.message[place.len()..].contains(phrase), "no {phrase:?} in {failure:?}");
    }
    assert!(failure.remedy.contains(remedy), "{failure:?}");
}

const AGAIN: &str = "write the file again";

#[tokio::test]
async fn parquet_that_is_cut_off() {
    let whole = parquet(&orders());
    let data = Some(Kind::Data);
    for length in [1, 11, whole.len() / 2, whole.len() - 1] {
        broken("a.parquet", &whole[..length], data, &["malformed Parquet"], AGAIN).await;
    }
    broken("a.parquet", "id,customer\n1,acme\n", data, &["malformed Parquet"], AGAIN).await;
    broken("a.parquet", "", data, &["the file is empty"], "").await;
}

/// The footer is whole, so that only reading finds it.
#[tokio::test]
async fn parquet_with_broken_pages() {
    let mut bytes = parquet(&orders());
    bytes[4..60].fill(0xff);
    broken("a.parquet", bytes, None, &[], "").await;
}

#[tokio::test]
async fn csv_with_ragged_lines() {
    let data = Some(Kind::Data);
    let fields = "as many fields as the header";
    broken("a.csv", "a,b\n1,2\n1,2,3\n", data, &["malformed CSV: line 3 has 3 fields", "has 2"], fields).await;
    broken("a.csv", "a,b\n1,2\n1\n", data, &["malformed CSV: line 3 has 1 fields"], fields).await;
    let late = format!("a,b\r\n{}1,2,3\n", "1,\"2\r\n\"\r\n\r\n".repeat(5000));
    broken("a.csv", late, data, &["malformed CSV: line 15002 has 3 fields"], fields).await;
}

/// A file that is cut inside of a quoted value, or a stray quote, takes no rows along.
#[tokio::test]
async fn csv_whose_quotes_do_not_close() {
    let data = Some(Kind::Data);
    let says = ["malformed CSV: the file ends inside the quotes that open on line 3"];
    broken("a.csv", "id,v\n1,a\n2,\"b\n3,c\n4,d\n", data, &says, "close the quotes").await;
    broken("a.csv", "id,v\n1,\"a \"\"b\"\"\nc\"\n2,\"b", data, &["on line 4"], "close the quotes").await;
    let after = ["malformed CSV: line 4 has text after a quote that ends a value"];
    broken("a.csv", "id,v\n1,a\n2,\"b\n3,\"c\"\n", data, &after, "double each quote").await;
    let endless = format!("id,v\n1,\"{}", "a,b\n".repeat(5 << 20));
    broken("a.csv", endless, data, &["the quotes that open on line 2 do not close in 16 MiB"], "close the quotes")
        .await;
    let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(17 << 20));
    broken("a.ndjson", long, data, &["line 1 has more than 16 MiB"], "one object a line").await;
    // A quote inside of a value is a letter like another.
    let world = World::new();
    world.write("a.csv", "id,v\n1,5\" pipe\n2,\"\"\"\"\n");
    let rows = world.rows(&dataset(vec![("t", world.table("a.csv"))], ""), &params(&[])).await.unwrap();
    assert_eq!(rows, [serde_json::json!({"id": 1, "v": "5\" pipe"}), serde_json::json!({"id": 2, "v": "\""})]);
}

#[tokio::test]
async fn csv_that_is_not_utf8() {
    let data = Some(Kind::Data);
    broken("a.csv", b"a,b\n1,caf\xe9\n", data, &["line 2 is not UTF-8"], "UTF-8").await;
    // Neither is a letter that a delimiter cuts in two.
    broken("a.csv", b"a,b\n\xc3,\xa9\n", data, &["line 2 is not UTF-8"], "UTF-8").await;
    let mut late = format!("a,b\n{}", "1,x\n".repeat(5000)).into_bytes();
    late.extend(b"1,caf\xe9\n");
    broken("a.csv", late, data, &["line 5002 is not UTF-8"], "UTF-8").await;
}

#[tokio::test]
async fn csv_whose_header_is_no_header() {
    let data = Some(Kind::Data);
    broken("a.csv", "a,b,a\n1,2,3\n", data, &["the column 'a' twice"], "a name of its own").await;
    broken("a.csv", "", data, &["the file is empty"], "with its header").await;
}

/// What Excel writes in front is no part of the first column's name.
#[tokio::test]
async fn csv_with_a_byte_order_mark() {
    let world = World::new();
    world.write("a.csv", "\u{feff}id,b\n1,2\n");
    let rows = world.rows(&dataset(vec![("t", world.table("a.csv"))], "select id from t"), &params(&[])).await;
    assert_eq!(rows.map(|rows| ids(&rows)), Ok(vec![1]));
}

#[tokio::test]
async fn compressed_text_that_is_cut_off() {
    let world = World::new();
    let text = format!("id,b\n{}", (0..20_000).map(|id| format!("{id},{}\n", id * 7919 % 1009)).collect::<String>());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let whole = gzip.finish().unwrap();
    for length in [whole.len() / 2, whole.len() - 1] {
        world.write("a.csv.gz", &whole[..length]);
        let error = world.plan_error(&dataset(vec![("t", world.table("a.csv.gz"))], ""), &params(&[])).await;
        assert_eq!(error.kind, Kind::Data, "{error:?}");
    }
}

/// What data say must not reach a terminal as a command.
#[tokio::test]
async fn control_characters_of_data_are_escaped() {
    let world = World::new();
    world.write("a.csv", "id\n\u{1b}[2Jx\n");
    let source = TableSource { columns: [("id".to_owned(), "bigint".to_owned())].into(), ..world.table("a.csv") };
    let error = world.plan_error(&dataset(vec![("t", source)], ""), &params(&[])).await;
    assert!(error.message.contains("'\\u{1b}[2Jx'") && !error.message.contains('\u{1b}'), "{error:?}");
    let source = TableSource { columns: [("id".to_owned(), "bigint".to_owned())].into(), ..world.table("b.csv") };
    world.write("b.csv", format!("id\n{}\n", "x".repeat(1 << 20)));
    let error = world.plan_error(&dataset(vec![("t", source)], ""), &params(&[])).await;
    assert!(error.message.len() < 400, "{} bytes", error.message.len());
}

#[tokio::test]
async fn ndjson_that_is_malformed_names_the_line() {
    let data = Some(Kind::Data);
    broken("a.ndjson", "{\"a\":1}\n\n{\"a\":\n", data, &["malformed JSON", "line 3"], AGAIN).await;
    broken("a.ndjson", "{\"a\":1}\n[1]\n", data, &["line 2", "not an object"], AGAIN).await;
    broken("a.ndjson", b"{\"a\":1}\n{\"a\":\"\xe9\"}\n", data, &["line 2", "not UTF-8"], AGAIN).await;
    broken("a.ndjson", "{\"a\":1}\n{\"a\":\"x\"}\n{\"a\":{}}\n", data, &["line 2"], "one type").await;
    broken("a.ndjson", "\n", data, &["the file is empty"], "").await;
}

#[tokio::test]
async fn arrow_that_is_cut_off() {
    let data = Some(Kind::Data);
    let (file, stream) = (arrow_file(&orders()), arrow_stream(&orders()));
    broken("a.arrow", &file[..file.len() - 20], data, &[], AGAIN).await;
    broken("a.arrow", &stream[..stream.len() - 8], data, &["ends too early"], "close the writer").await;
    broken("a.arrow", &stream[..stream.len() / 2], data, &[], "").await;
}

#[tokio::test]
async fn avro_that_is_cut_off() {
    let whole = orders_avro();
    let data = Some(Kind::Data);
    // Only the end marker, a part of it, of the last block, or all of that.
    for gone in [16, 1, 20, 60] {
        broken("a.avro", &whole[..whole.len() - gone], data, &["ends too early"], "close the writer").await;
    }
    broken("a.avro", &whole[..40], data, &[], "").await;
}

#[tokio::test]
async fn a_file_that_is_not_there() {
    let world = World::new();
    for (path, remedy) in [
        ("gone.parquet", "a directory's ends in '/'"),
        ("lake/*.parquet", "put files there"),
        ("lake/", "put files there"),
    ] {
        let dataset = dataset(vec![("t", world.table(path))], "");
        let failure = failure(&world, &dataset, Some(Kind::Missing)).await;
        assert_eq!((failure.layer, failure.retry), (Layer::Dataset, Retry::Later), "it may come");
        let says = format!("dataset 'orders', table 't': nothing is at {}", world.path(path));
        assert_eq!(failure.message, says);
        assert!(failure.remedy.contains(remedy), "{failure:?}");
    }
}

/// The second file is the one that is named.
#[tokio::test]
async fn a_file_unlike_its_siblings_is_named() {
    let world = World::new();
    world.write("lake/a.parquet", parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![1])))])));
    let odd = world.write("lake/b.parquet", parquet(&batch(vec![("id", Arc::new(StringArray::from(vec!["1"])))])));
    let error = world.plan_error(&dataset(vec![("t", world.table("lake/"))], ""), &params(&[])).await;
    assert_eq!(error.kind, Kind::Data);
    assert!(error.message.contains(&format!("file {odd}: its column 'id' has the type Utf8")), "{error:?}");
    assert!(error.message.contains("lake/a.parquet has Int64"), "{error:?}");

    world.write("csv/a.csv", "a,b\n1,2\n");
    let odd = world.write("csv/b.csv", "b,a\n1,2\n");
    let source =
        TableSource { format: FileFormat::Csv { header: true, delimiter: b',', quote: b'"' }, ..world.table("csv/") };
    let error = world.plan_error(&dataset(vec![("t", source)], ""), &params(&[])).await;
    assert!(error.message.contains(&format!("file {odd}: its columns are b, a, while")), "{error:?}");
}

#[tokio::test]
async fn partitions_that_are_not_there() {
    let world = World::new();
    let bytes = parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]));
    world.write("lake/year=2024/a.parquet", &bytes);
    let odd = world.write("lake/b.parquet", &bytes);
    let parted = |column: &str| TableSource { partitions: vec![column.into()], ..world.table("lake/") };
    let error = world.plan_error(&dataset(vec![("t", parted("year"))], ""), &params(&[])).await;
    assert_eq!(error.kind, Kind::Data);
    assert!(error.message.contains(&format!("file {odd}: the path has no 'year=…' directory")), "{error:?}");
    let error = world.plan_error(&dataset(vec![("t", parted("id"))], ""), &params(&[])).await;
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("both in the files and in `partitions`"), "{error:?}");
}

#[tokio::test]
async fn declared_columns_that_make_no_sense() {
    let world = World::new();
    world.write("a.csv", "zip,b\n1,2\n");
    world.write("a.parquet", parquet(&orders()));
    let declared = |file: &str, column: &str, sql: &str| {
        let columns = [(column.to_owned(), sql.to_owned())].into();
        dataset(vec![("t", TableSource { columns, ..world.table(file) })], "")
    };
    for (dataset, says) in [
        (declared("a.csv", "zipp", "varchar"), "did you mean 'zip'?"),
        (declared("a.csv", "zip", "varchar) from x; --"), "which is not the name of a type"),
        (declared("a.csv", "zip", "vrchar"), "which is no type"),
        (declared("a.csv", "zip", "bytea"), "which is not read from text"),
        (declared("a.parquet", "id", "bigint"), "these files carry their own types"),
    ] {
        let error = world.plan_error(&dataset, &params(&[])).await;
        assert_eq!(error.kind, Kind::Config, "{error:?}");
        assert!(error.message.contains(says), "{error:?}");
        assert_eq!(Failure::from(error).layer, Layer::Config);
    }
}

/// Values that the query trips over in the run.
#[tokio::test]
async fn values_that_the_query_cannot_use() {
    let world = World::new();
    world.write("orders.parquet", parquet(&orders()));
    for (query, says) in [
        ("select id / (id - 1) as x from t", "divides by zero"),
        ("select cast(customer as bigint) as x from t", "acme"),
    ] {
        let dataset = dataset(vec![("t", world.table("orders.parquet"))], query);
        let failure = failure(&world, &dataset, None).await;
        assert_eq!((failure.layer, failure.retry), (Layer::Dataset, Retry::Never), "{failure:?}");
        assert!(failure.message.contains(says), "{failure:?}");
    }
}
