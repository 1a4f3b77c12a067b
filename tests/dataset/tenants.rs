//! Each customer gets its own rows: the filter in the plan, the guard behind it.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use consign::config::TableDataset;
use consign::dataset::{Guard, Kind};
use consign::domain::{DatasetName, Failure, Layer, ParamValue, Retry};

use super::world::*;

fn mine(world: &World, query: &str) -> TableDataset {
    world.write("orders.parquet", parquet(&orders()));
    world.write("regions.csv", "customer,region\nacme,EU\nglobex,EU\ninitech,US\n");
    let tables = vec![("orders", world.table("orders.parquet")), ("regions", world.table("regions.csv"))];
    confined(dataset(tables, query), "customer")
}

fn list(values: &[&str]) -> ParamValue {
    ParamValue::List(values.iter().copied().map(text).collect())
}

#[tokio::test]
async fn a_customer_gets_its_own_rows_whatever_the_query_says() {
    let world = World::new();
    let acme = params(&[("customer", text("acme"))]);
    let queries = [
        ("select * from orders", vec![1, 3]),
        ("select * from orders where customer = 'globex' or true", vec![1, 3]),
        ("select * from orders union all select * from orders", vec![1, 3, 1, 3]),
        (
            "select o.*, r.region from orders o join regions r on r.region = 'EU' and o.customer = r.customer",
            vec![1, 3],
        ),
        ("select o.id, r.customer from orders o cross join regions r order by o.id", vec![-4, 1, 2, 3]),
        ("select max(id) as id, customer from orders group by customer", vec![3]),
        ("select id, customer, sum(amount) over (order by id) from orders order by id desc", vec![3, 1]),
        ("with x as (select * from orders order by id limit 2) select * from x", vec![1]),
        ("select id, customer from orders where customer in (select customer from regions)", vec![1, 3]),
    ];
    for (query, expected) in queries {
        let rows = world.rows(&mine(&world, query), &acme).await.unwrap_or_else(|failure| panic!("{query}: {failure}"));
        assert_eq!(ids(&rows), expected, "{query}");
        assert!(rows.iter().all(|row| row["customer"] == "acme"), "{query}");
    }
}

#[tokio::test]
async fn a_list_is_every_value_in_it() {
    let world = World::new();
    let all = mine(&world, "select * from orders");
    for (value, expected) in [
        (list(&["acme", "initech"]), vec![1, 3, -4]),
        (list(&["globex"]), vec![2]),
        (list(&["nobody", "acme"]), vec![1, 3]),
        (text("nobody"), vec![]),
        (text("ACME"), vec![]),
        (text("acme "), vec![]),
    ] {
        let rows = world.rows(&all, &params(&[("customer", value.clone())])).await.unwrap();
        assert_eq!(ids(&rows), expected, "{value:?}");
    }
}

/// One row of `own`, one of another customer and one of nobody, in every type that can name tenants.
fn columns() -> Vec<(ArrayRef, Vec<ParamValue>)> {
    let int = ParamValue::Int;
    let at = |text: &str| ParamValue::Instant(text.parse().unwrap());
    let dictionary: DictionaryArray<Int32Type> = [Some("7"), Some("8"), None].into_iter().collect();
    let stamps = TimestampMicrosecondArray::from(vec![Some(1_714_521_600_000_000), Some(0), None]);
    vec![
        (Arc::new(Int8Array::from(vec![Some(7), Some(8), None])), vec![int(7), text("7")]),
        (Arc::new(Int32Array::from(vec![Some(7), Some(8), None])), vec![int(7), text("7")]),
        (Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(8), None])), vec![int(i64::MAX)]),
        (Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(8), None])), vec![text("18446744073709551615")]),
        (Arc::new(StringArray::from(vec![Some("7"), Some("07"), None])), vec![int(7), text("7")]),
        (Arc::new(LargeStringArray::from(vec![Some("é🦀"), Some("e"), None])), vec![text("é🦀")]),
        (Arc::new(dictionary), vec![text("7"), int(7)]),
        (Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])), vec![ParamValue::Bool(true)]),
        (
            Arc::new(Date32Array::from(vec![Some(19_844), Some(19_845), None])),
            vec![text("2024-05-01"), at("2024-05-01T00:00:00Z")],
        ),
        (Arc::new(stamps.clone()), vec![at("2024-05-01T00:00:00Z")]),
        (Arc::new(stamps.with_timezone("UTC")), vec![at("2024-05-01T00:00:00Z"), text("2024-05-01T00:00:00Z")]),
        (
            Arc::new(Decimal128Array::from(vec![Some(700), Some(701), None]).with_precision_and_scale(10, 2).unwrap()),
            vec![int(7)],
        ),
    ]
}

#[tokio::test]
async fn tenants_of_every_type_are_told_apart() {
    let world = World::new();
    for (array, values) in columns() {
        let data_type = array.data_type().clone();
        let rows = batch(vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3]))), ("tenant", array)]);
        world.write("t.parquet", parquet(&rows));
        let dataset = confined(dataset(vec![("t", world.table("t.parquet"))], ""), "tenant");
        for value in values {
            let rows = world.rows(&dataset, &params(&[("tenant", value.clone())])).await;
            assert_eq!(rows.map(|rows| ids(&rows)), Ok(vec![1]), "{data_type} with {value:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_tell_tenants_apart_is_refused() {
    let world = World::new();
    let acme = params(&[("customer", text("acme"))]);
    let cases = [
        ("select id from orders", acme.clone(), Kind::Tenant, "no column 'customer', the tenant column; it has id"),
        ("select id, customer as custmer from orders", acme.clone(), Kind::Tenant, "did you mean 'custmer'?"),
        (
            "select a.customer, b.customer from orders a join orders b on a.id = b.id",
            acme.clone(),
            Kind::Tenant,
            "more than one column 'customer'",
        ),
        ("select amount as customer from orders", acme.clone(), Kind::Tenant, "which cannot name tenants"),
        ("select * from orders", params(&[]), Kind::Parameter, "no parameter 'customer'"),
        ("select * from orders", params(&[("customer", list(&[]))]), Kind::Parameter, "an empty list"),
        (
            "select * from orders",
            params(&[("customer", ParamValue::Float(1.5))]),
            Kind::Parameter,
            "a number with a fraction that does not fit",
        ),
        ("select id as customer from orders", acme.clone(), Kind::Parameter, "a text that does not fit"),
    ];
    for (query, params, kind, message) in cases {
        let error = world.plan_error(&mine(&world, query), &params).await;
        assert_eq!(error.kind, kind, "{query}: {error:?}");
        assert!(error.message.contains(message), "{query}: {error:?}");
        assert!(!error.remedy.is_empty(), "{error:?}");
        let failure = Failure::from(error);
        let layer = if kind == Kind::Tenant { Layer::Tenant } else { Layer::Config };
        assert_eq!((failure.layer, failure.retry), (layer, Retry::Never));
    }
}

/// Without params of a customer, `consign check` looks at the column alone.
#[tokio::test]
async fn check_wants_the_tenant_column() {
    let world = World::new();
    assert!(world.datasets.check(&mine(&world, "select * from orders"), None).await.is_ok());
    let error = world.datasets.check(&mine(&world, "select id from orders"), None).await.unwrap_err();
    assert_eq!(error.kind, Kind::Tenant);
}

fn guard(data_type: &DataType, values: &[ParamValue]) -> Guard {
    Guard::new(&DatasetName::parse("orders").unwrap(), "tenant", 0, data_type, values).unwrap()
}

/// What the filter should never let through.
#[test]
fn the_guard_stops_at_the_first_foreign_row() {
    for (array, values) in columns() {
        let data_type = array.data_type().clone();
        for value in &values {
            let mut guard = guard(&data_type, std::slice::from_ref(value));
            let given = |begin: usize, len: usize| batch(vec![("tenant", array.slice(begin, len))]);
            guard.check(&given(0, 1)).unwrap();
            guard.check(&given(0, 0)).unwrap();
            let failure = guard.clone().check(&given(0, 3)).unwrap_err();
            assert_eq!((failure.layer, failure.retry), (Layer::Tenant, Retry::Never));
            let says = "dataset 'orders', tenant column 'tenant': row 3 of the result belongs to another customer";
            assert_eq!(failure.message, says, "{data_type}");
            let failure = guard.check(&given(2, 1)).unwrap_err();
            assert!(failure.message.ends_with("row 2 of the result belongs to nobody (NULL)"), "{failure}");
        }
    }
}

#[test]
fn the_guard_wants_its_column_as_it_was_planned() {
    let own = [ParamValue::Int(7)];
    let number: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let moved = batch(vec![("id", number.clone()), ("tenant", number.clone())]);
    let failure = guard(&DataType::Int64, &own).check(&moved).unwrap_err();
    assert!(failure.message.ends_with("a batch came without the tenant column"), "{failure}");
    let other = batch(vec![("tenant", Arc::new(StringArray::from(vec!["7"])) as ArrayRef)]);
    let failure = guard(&DataType::Int64, &own).check(&other).unwrap_err();
    assert!(failure.message.ends_with("a batch came with the type Utf8"), "{failure}");
    assert_eq!(failure.layer, Layer::Tenant);
}

#[test]
fn the_guard_knows_no_values_that_the_type_cannot_hold() {
    let name = DatasetName::parse("orders").unwrap();
    for (data_type, value) in [
        (DataType::Int64, text("07")),
        (DataType::Int64, ParamValue::Bool(true)),
        (DataType::Boolean, text("true")),
        (DataType::Date32, ParamValue::Instant("2024-05-01T00:00:01Z".parse().unwrap())),
        (DataType::Timestamp(TimeUnit::Second, None), ParamValue::Int(0)),
    ] {
        let error = Guard::new(&name, "tenant", 0, &data_type, std::slice::from_ref(&value)).unwrap_err();
        assert_eq!(error.kind, Kind::Parameter, "{data_type} {value:?}");
    }
    let error = Guard::new(&name, "tenant", 0, &DataType::Float64, &[ParamValue::Float(1.0)]).unwrap_err();
    assert_eq!(error.kind, Kind::Tenant);
}
