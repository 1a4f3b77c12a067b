//! Parameters are values, whatever they look like.

use std::sync::Arc;

use arrow::array::{Int64Array, TimestampMicrosecondArray};
use consign::dataset::Kind;
use consign::domain::{Failure, Layer, ParamValue, Retry};
use serde_json::json;

use super::world::*;

fn orders_in(world: &World, query: &str) -> consign::config::TableDataset {
    world.write("orders.parquet", parquet(&orders()));
    dataset(vec![("orders", world.table("orders.parquet"))], query)
}

#[tokio::test]
async fn text_that_looks_like_sql_is_only_text() {
    let world = World::new();
    let hostile = ["' or 1=1 --", "acme' or 'a'='a", "'; drop table orders; --", "$interval_end", "\\", "acme\0"];
    let select = orders_in(&world, "select id from orders where customer = $customer.name");
    let echo = orders_in(&world, "select id, $customer.name as given from orders where id = 1");
    for value in hostile {
        let params = params(&[("name", text(value))]);
        assert_eq!(world.rows(&select, &params).await.unwrap(), [] as [serde_json::Value; 0], "{value}");
        assert_eq!(world.rows(&echo, &params).await.unwrap(), [json!({"id": 1, "given": value})]);
    }
    let rows = world.rows(&select, &params(&[("name", text("acme"))])).await.unwrap();
    assert_eq!(ids(&rows), [1, 3]);
}

/// A tenant's value is bound, too.
#[tokio::test]
async fn a_tenants_value_that_looks_like_sql_is_only_text() {
    let world = World::new();
    let confined = confined(orders_in(&world, ""), "customer");
    for value in ["' or 1=1 --", "acme' or 'a'='a", "acme%", "*"] {
        let rows = world.rows(&confined, &params(&[("customer", text(value))])).await.unwrap();
        assert_eq!(rows, [] as [serde_json::Value; 0], "{value}");
    }
}

#[tokio::test]
async fn only_parameters_are_replaced() {
    let world = World::new();
    let query = "select '$customer.name' as a, \"customer\" as \"$interval_start\", -- $customer.gone
                        concat($customer.name, $customer.\"name\") as b /* $interval_begin */
                 from orders where id = $customer.id";
    let rows = world
        .rows(&orders_in(&world, query), &params(&[("name", text("ä🦀")), ("id", ParamValue::Int(2))]))
        .await
        .unwrap();
    assert_eq!(rows, [json!({"a": "$customer.name", "$interval_start": "globex", "b": "ä🦀ä🦀"})]);
}

#[tokio::test]
async fn values_of_every_type_are_bound() {
    let world = World::new();
    let at = |text: &str| ParamValue::Instant(text.parse().unwrap());
    let cases = [
        ("id = $customer.v", ParamValue::Int(3), vec![3]),
        ("id = $customer.v", text("3"), vec![3]),
        ("amount > $customer.v", ParamValue::Float(0.25), vec![1, 2, -4]),
        ("amount > $customer.v", ParamValue::Int(1), vec![2, -4]),
        ("(note is null) = $customer.v", ParamValue::Bool(true), vec![2]),
        ("day >= $customer.v", text("2024-05-03"), vec![3, -4]),
        ("day < $customer.v", at("2024-05-02T00:00:00Z"), vec![1]),
        ("note like '%' || $customer.v || '%'", text("🦀"), vec![-4]),
    ];
    for (condition, value, expected) in cases {
        let dataset = orders_in(&world, &format!("select id from orders where {condition}"));
        let rows = world.rows(&dataset, &params(&[("v", value.clone())])).await.unwrap();
        assert_eq!(ids(&rows), expected, "{condition} with {value:?}");
    }
}

#[tokio::test]
async fn the_interval_is_half_open() {
    let world = World::new();
    let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros();
    let times =
        ["2024-05-01T05:59:59.999999Z", "2024-05-01T06:00:00Z", "2024-05-02T05:59:59.999999Z", "2024-05-02T06:00:00Z"];
    let columns = |zone: Option<&str>| {
        let array = TimestampMicrosecondArray::from_iter_values(times.map(at)).with_timezone_opt(zone);
        batch(vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))), ("at", Arc::new(array))])
    };
    let query = "select id from t where at >= $interval_start and at < $interval_end";
    for (name, bytes) in [
        ("utc.parquet", parquet(&columns(Some("UTC")))),
        ("berlin.parquet", parquet(&columns(Some("Europe/Berlin")))),
        ("local.parquet", parquet(&columns(None))),
        ("text.csv", format!("id,at\n1,{}\n2,{}\n3,{}\n4,{}\n", times[0], times[1], times[2], times[3]).into_bytes()),
    ] {
        world.write(name, bytes);
        let rows = world.rows(&dataset(vec![("t", world.table(name))], query), &params(&[])).await;
        assert_eq!(rows.map(|rows| ids(&rows)), Ok(vec![2, 3]), "{name}");
    }
}

#[tokio::test]
async fn now_is_the_slots_instant() {
    let world = World::new();
    let query = "select now() = $interval_end as same, $interval_start < now() as before from orders where id = 1";
    let rows = world.rows(&orders_in(&world, query), &params(&[])).await.unwrap();
    assert_eq!(rows, [json!({"same": true, "before": true})]);
}

#[tokio::test]
async fn parameters_that_are_not_there_are_named() {
    let world = World::new();
    let list = ParamValue::List(vec![ParamValue::Int(1)]);
    let given = params(&[("region", text("EU")), ("ids", list)]);
    let cases = [
        ("$customer.regoin", Kind::Parameter, "did you mean $customer.region?", "`regoin`"),
        ("$customer.zzz", Kind::Parameter, "the customer has ids, region", "`zzz`"),
        ("$customer.ids", Kind::Parameter, "which is a list", "single value"),
        ("$interval_strat", Kind::Query, "did you mean '$interval_start'?", "$interval_end"),
        ("$customer", Kind::Query, "without a parameter's name", "$customer.NAME"),
        ("$1", Kind::Query, "unknown parameter '$1' at line 1, column", "$customer.NAME"),
    ];
    for (parameter, kind, message, remedy) in cases {
        let dataset = orders_in(&world, &format!("select id from orders where note = {parameter}"));
        let error = world.plan_error(&dataset, &given).await;
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.starts_with("dataset 'orders'"), "{error:?}");
        assert!(error.message.contains(message) && error.remedy.contains(remedy), "{error:?}");
        let failure = Failure::from(error);
        let layer = if kind == Kind::Parameter { Layer::Config } else { Layer::Dataset };
        assert_eq!((failure.layer, failure.retry), (layer, Retry::Never));
    }
}
