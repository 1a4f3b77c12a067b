//! The same rows out of every format and every way to name files.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use consign::config::{FileFormat, TableSource};
use consign::dataset::{BATCH_ROWS, Request};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use serde_json::json;

use super::world::*;

#[tokio::test]
async fn every_format_gives_the_same_rows() {
    let world = World::new();
    let batch = orders();
    let files = [
        ("a.parquet", parquet(&batch)),
        ("a.csv", csv(&batch)),
        ("a.ndjson", ndjson(&batch)),
        ("a.arrow", arrow_file(&batch)),
        ("b.arrow", arrow_stream(&batch)),
        ("a.avro", orders_avro()),
    ];
    let expected = json(&[batch]);
    assert_eq!(
        expected[2],
        json!({"id": 3, "customer": "acme", "amount": -2.25, "note": "a, \"b\"\nc", "day": "2024-05-03"})
    );
    for (name, bytes) in files {
        world.write(name, bytes);
        let rows = world.rows(&dataset(vec![("orders", world.table(name))], ""), &params(&[])).await.unwrap();
        assert_eq!(rows, expected, "{name}");
    }
}

#[tokio::test]
async fn compressed_text_gives_the_same_rows() {
    let world = World::new();
    let batch = orders();
    for (name, bytes) in [("a.csv.gz", csv(&batch)), ("a.ndjson.gz", ndjson(&batch)), ("B.csv.GZ", csv(&batch))] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&bytes).unwrap();
        world.write(name, gzip.finish().unwrap());
        let rows = world.rows(&dataset(vec![("orders", world.table(name))], ""), &params(&[])).await.unwrap();
        assert_eq!(rows, json(std::slice::from_ref(&batch)), "{name}");
    }
    world.write("a.csv.zst", zstd::encode_all(csv(&batch).as_slice(), 1).unwrap());
    let rows = world.rows(&dataset(vec![("orders", world.table("a.csv.zst"))], ""), &params(&[])).await.unwrap();
    assert_eq!(rows, json(std::slice::from_ref(&batch)));
    // Each file of a table in its own way.
    let source = TableSource { path: world.path("*.csv*"), ..world.table("a.csv") };
    world.write("a.csv", csv(&batch));
    let rows = world.rows(&dataset(vec![("orders", source)], ""), &params(&[])).await.unwrap();
    assert_eq!(rows.len(), 4 * batch.num_rows());
}

#[tokio::test]
async fn csv_with_its_own_delimiter_quote_and_types() {
    let world = World::new();
    world.write("a.csv", "00123;'a;b'\n00456;''''\n");
    let source = TableSource {
        format: FileFormat::Csv { header: false, delimiter: b';', quote: b'\'' },
        columns: [("column_1".to_owned(), "varchar".to_owned())].into(),
        ..world.table("a.csv")
    };
    let rows = world.rows(&dataset(vec![("t", source)], ""), &params(&[])).await.unwrap();
    assert_eq!(rows, [json!({"column_1": "00123", "column_2": "a;b"}), json!({"column_1": "00456", "column_2": "'"})]);
}

/// Three files of one row each, by id, and what must not be read.
fn scatter(world: &World) {
    for (name, id) in [("lake/a.parquet", 1), ("lake/b.parquet", 2), ("lake/deep/c.parquet", 3)] {
        world.write(name, parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![id])))])));
    }
    world.write("lake/_SUCCESS", "");
    world.write("lake/.d.parquet.tmp", "half a file");
    world.write("lake/_delta_log/0.json", "{}");
}

#[tokio::test]
async fn a_file_a_glob_and_a_folder_name_what_they_say() {
    let world = World::new();
    scatter(&world);
    let cases: [(&str, &[i64]); 6] = [
        ("lake/b.parquet", &[2]),
        ("lake/*.parquet", &[1, 2]),
        ("lake/[b-z].parquet", &[2]),
        ("lake/**/*.parquet", &[1, 2, 3]),
        ("lake/*/?.parquet", &[3]),
        ("lake/", &[1, 2, 3]),
    ];
    for (path, expected) in cases {
        let rows = world.rows(&dataset(vec![("t", world.table(path))], ""), &params(&[])).await.unwrap();
        assert_eq!(ids(&rows), expected, "{path}");
    }
}

#[tokio::test]
async fn folders_give_partition_columns_their_values() {
    let world = World::new();
    let parts = [("2024", "01", 1), ("2024", "02", 2), ("2025", "01", 3), ("2025", "__HIVE_DEFAULT_PARTITION__", 4)];
    for (year, month, id) in parts {
        let bytes = parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![id])))]));
        world.write(&format!("lake/year={year}/month={month}/x.parquet"), bytes);
    }
    world.write(
        "lake/year=a%2Fb%20c/month=01/x.parquet",
        parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![5])))])),
    );
    let source = TableSource { partitions: vec!["year".into(), "month".into()], ..world.table("lake/") };
    let all = dataset(vec![("t", source.clone())], "");
    let rows = world.rows(&all, &params(&[])).await.unwrap();
    assert_eq!(rows[0], json!({"id": 1, "year": "2024", "month": "01"}));
    assert_eq!(rows[3], json!({"id": 4, "year": "2025"}));
    assert_eq!(rows[4], json!({"id": 5, "year": "a/b c", "month": "01"}));

    let some = dataset(vec![("t", source)], "select id from t where year = '2024' and month <> '01'");
    assert_eq!(ids(&world.rows(&some, &params(&[])).await.unwrap()), [2]);
    let request = Request { interval: interval(), params: &params(&[]) };
    let plan = world.datasets.plan(&some, &request).await.unwrap().explain();
    assert!(plan.contains("year=2024/month=02") && !plan.contains("year=2025"), "not pruned: {plan}");
}

/// A partition column can be whose rows they are: the folder says it, not the file.
#[tokio::test]
async fn a_partition_column_confines_a_customer() {
    let world = World::new();
    for (customer, id) in [("acme", 1), ("globex", 2)] {
        let bytes = parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![id])))]));
        world.write(&format!("lake/customer={customer}/x.parquet"), bytes);
    }
    let source = TableSource { partitions: vec!["customer".into()], ..world.table("lake/") };
    let confined = confined(dataset(vec![("t", source)], ""), "customer");
    let rows = world.rows(&confined, &params(&[("customer", text("globex"))])).await.unwrap();
    assert_eq!(rows, [json!({"id": 2, "customer": "globex"})]);
}

#[tokio::test]
async fn tables_of_two_formats_are_joined() {
    let world = World::new();
    world.write("orders.parquet", parquet(&orders()));
    world.write("regions.csv", "customer,region\nacme,EU\ninitech,US\n");
    let query = "select o.id, r.region from orders o left join regions r on o.customer = r.customer order by o.id";
    let tables = vec![("orders", world.table("orders.parquet")), ("regions", world.table("regions.csv"))];
    let rows = world.rows(&dataset(tables, query), &params(&[])).await.unwrap();
    let expected = [
        json!({"id": -4, "region": "US"}),
        json!({"id": 1, "region": "EU"}),
        json!({"id": 2}),
        json!({"id": 3, "region": "EU"}),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn columns_that_a_file_lacks_are_null_there() {
    let world = World::new();
    world.write("lake/a.parquet", parquet(&batch(vec![("id", Arc::new(Int64Array::from(vec![1])))])));
    let both =
        batch(vec![("note", Arc::new(StringArray::from(vec!["new"]))), ("id", Arc::new(Int64Array::from(vec![2])))]);
    world.write("lake/b.parquet", parquet(&both));
    let rows = world.rows(&dataset(vec![("t", world.table("lake/"))], ""), &params(&[])).await.unwrap();
    assert_eq!(rows, [json!({"id": 1}), json!({"id": 2, "note": "new"})]);
}

/// A key that only the last line has is a column too.
#[tokio::test]
async fn a_late_key_of_ndjson_is_a_column() {
    let world = World::new();
    let mut lines = "{\"id\":1}\n".repeat(3000);
    lines.push_str("{\"id\":2,\"late\":true}\n");
    world.write("a.ndjson", lines);
    let query = "select id, late from t where late";
    let rows = world.rows(&dataset(vec![("t", world.table("a.ndjson"))], query), &params(&[])).await.unwrap();
    assert_eq!(rows, [json!({"id": 2, "late": true})]);
}

#[tokio::test]
async fn batches_are_bounded_and_in_the_order_of_the_file() {
    let world = World::new();
    let many = batch(vec![("id", Arc::new(Int64Array::from_iter_values(0..50_000)))]);
    world.write("a.parquet", parquet_of(&[many], 7_000));
    let params = params(&[]);
    let request = Request { interval: interval(), params: &params };
    let plan = world.datasets.plan(&dataset(vec![("t", world.table("a.parquet"))], ""), &request).await.unwrap();
    let batches: Vec<_> = plan.stream().unwrap().try_collect().await.unwrap();
    assert!(batches.iter().all(|batch| (1..=BATCH_ROWS).contains(&batch.num_rows())));
    assert_eq!(ids(&json(&batches)), (0..50_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_rows_have_a_schema_still() {
    let world = World::new();
    world.write("a.parquet", parquet(&orders()));
    let dataset = dataset(vec![("t", world.table("a.parquet"))], "select id, customer from t where id > 1000");
    let params = params(&[]);
    let plan = world.datasets.plan(&dataset, &Request { interval: interval(), params: &params }).await.unwrap();
    let names: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "customer"]);
    assert_eq!(plan.stream().unwrap().try_collect::<Vec<_>>().await.unwrap(), []);
}
