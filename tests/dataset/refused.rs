//! Queries that a dataset does not take: they fail before a row is read.

use consign::config::TableDataset;
use consign::dataset::Kind;
use consign::domain::{Failure, Layer, Retry};

use super::world::*;

fn with(world: &World, query: &str) -> TableDataset {
    world.write("orders.parquet", parquet(&orders()));
    dataset(vec![("orders", world.table("orders.parquet"))], query)
}

async fn refused(query: &str) -> Failure {
    let world = World::new();
    let error = world.plan_error(&with(&world, query), &params(&[])).await;
    assert_eq!(error.kind, Kind::Query, "{query}: {error:?}");
    assert!(error.message.starts_with("dataset 'orders': "), "{error:?}");
    assert!(!error.remedy.is_empty(), "{error:?}");
    let checked = world.datasets.check(&with(&world, query), None).await.unwrap_err();
    assert_eq!(checked.message, error.message, "check says the same");
    let failure = Failure::from(error);
    assert_eq!((failure.layer, failure.retry), (Layer::Dataset, Retry::Never));
    failure
}

#[tokio::test]
async fn statements_that_write_are_refused() {
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("out.csv").to_str().unwrap().to_owned();
    let cases = [
        (format!("copy orders to '{file}'"), "COPY"),
        (format!("copy (select * from orders) to '{file}' stored as csv"), "COPY"),
        ("create table t as select * from orders".into(), "CREATE"),
        (format!("create external table t stored as csv location '{file}'"), "CREATE"),
        ("create view v as select * from orders".into(), "CREATE"),
        ("insert into orders select * from orders".into(), "INSERT"),
        ("update orders set id = 1".into(), "UPDATE"),
        ("delete from orders".into(), "DELETE"),
        ("drop table orders".into(), "DROP"),
        ("set datafusion.execution.batch_size = 1".into(), "SET"),
        ("explain analyze select * from orders".into(), "EXPLAIN"),
        ("show tables".into(), "SHOW"),
    ];
    for (statement, verb) in cases {
        let failure = refused(&statement).await;
        assert!(failure.message.contains(&format!("the query is a {verb} statement")), "{statement}: {failure}");
        assert!(failure.remedy.contains("one SELECT"), "{failure:?}");
    }
    assert!(!std::path::Path::new(&file).exists());
}

#[tokio::test]
async fn queries_that_do_not_plan_say_what_to_correct() {
    let cases = [
        ("selec * from orders", "the query is not valid SQL"),
        ("select 'open from orders", "the query is not valid SQL"),
        ("select custmer from orders", "there is no column 'custmer'; did you mean 'customer'?"),
        ("select zzz from orders", "there is no column 'zzz'; there are id, customer, amount, note, day"),
        ("select * from ordres", "the dataset has no table 'ordres'"),
        ("select nothing(id) from orders", "nothing"),
        ("select id from orders; select id from orders", "a second statement at line 1, column 24"),
        ("select date_trunc(id) from orders", "date_trunc"),
        ("select sum(id), customer from orders", "customer"),
        ("select random() as r from orders", "the query uses random()"),
        ("select id from orders where random() < 0.5", "the query uses random()"),
        ("select uuid() as r from orders", "the query uses uuid()"),
    ];
    for (query, says) in cases {
        let failure = refused(query).await;
        assert!(failure.message.contains(says), "{query}: {failure}");
    }
}

/// A query reads the dataset's tables and nothing else.
#[tokio::test]
async fn nothing_but_the_tables_is_within_reach() {
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("secret.csv").to_str().unwrap().to_owned();
    std::fs::write(&file, "a\n1\n").unwrap();
    for query in [
        format!("select * from '{file}'"),
        format!("select * from \"{file}\""),
        format!("select * from read_csv('{file}')"),
        "select * from information_schema.tables".into(),
        "select * from datafusion.information_schema.df_settings".into(),
    ] {
        refused(&query).await;
    }
}

#[tokio::test]
async fn two_tables_want_a_query() {
    let world = World::new();
    world.write("orders.parquet", parquet(&orders()));
    let table = || world.table("orders.parquet");
    let error = world.plan_error(&dataset(vec![("a", table()), ("b", table())], ""), &params(&[])).await;
    assert_eq!(error.kind, Kind::Query);
    assert!(error.message.contains("there are 2 tables and no `query`"), "{error:?}");
}

/// A last semicolon and comments are no second statement.
#[tokio::test]
async fn one_select_may_end_as_people_end_it() {
    let world = World::new();
    for query in ["select id from orders;", "select id from orders; -- all", "/* ; */ select id from orders ;\n"] {
        assert_eq!(ids(&world.rows(&with(&world, query), &params(&[])).await.unwrap()), [1, 2, 3, -4], "{query}");
    }
}
