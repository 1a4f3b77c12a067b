//! Whole files, character by character.

#![cfg(test)]

use consign_example_nacha::Nacha;
use consign_sdk::testing::{self, MemoryBatch, Table, fixed, texts};
use consign_sdk::{DataType, Error, Formatter, RunFacts};

const OPTIONS: &str = r#"{
    "immediate_destination": "021000021", "destination_name": "EXAMPLE BANK",
    "immediate_origin": "1234567890", "origin_name": "VENDOR INC",
    "company_name": "VENDOR INC", "company_id": "1234567890",
    "entry_description": "PAYOUT", "originating_bank": "121042882", "entry_class": "ppd"
}"#;

#[derive(Clone, Copy)]
struct Row {
    date: i32,
    code: i32,
    routing: &'static str,
    account: &'static str,
    cents: i128,
    id: Option<&'static str>,
    name: &'static str,
}

/// 2026-11-30, a credit of 1,234.56.
const CREDIT: Row = Row {
    date: 20_787,
    code: 22,
    routing: "021000021",
    account: "123456789",
    cents: 123_456,
    id: Some("P-1"),
    name: "ADA LOVELACE",
};
const DEBIT: Row = Row { code: 27, routing: "121042882", cents: 500, id: None, name: "GRACE HOPPER", ..CREDIT };

fn table(rows: &[Row]) -> Table {
    let amount = DataType::Decimal128 { precision: 10, scale: 2 };
    Table::new()
        .column("effective_date", DataType::Date32, vec![fixed(rows.iter().map(|row| Some(row.date.to_le_bytes())))])
        .column("transaction_code", DataType::Int32, vec![fixed(rows.iter().map(|row| Some(row.code.to_le_bytes())))])
        .column("routing_number", DataType::Utf8, vec![texts(rows.iter().map(|row| Some(row.routing)))])
        .column("account_number", DataType::Utf8, vec![texts(rows.iter().map(|row| Some(row.account)))])
        .column("amount", amount, vec![fixed(rows.iter().map(|row| Some(row.cents.to_le_bytes())))])
        .column("individual_id", DataType::Utf8, vec![texts(rows.iter().map(|row| row.id))])
        .column("individual_name", DataType::Utf8, vec![texts(rows.iter().map(|row| Some(row.name)))])
}

/// The one object's records, and the rows it says it holds.
fn file(options: &str, batches: &[&[Row]]) -> Result<(Vec<String>, u64), Error> {
    let run = RunFacts::of([("object-stem", "payouts"), ("slot", "2026-11-28T19:05:00Z")]);
    let batches: Vec<MemoryBatch> = batches.iter().map(|rows| table(rows).batch).collect();
    let mut objects = testing::format::<Nacha>(options, &table(&[]).schema, &batches, &run)?;
    assert_eq!(objects.len(), 1);
    let object = objects.remove(0);
    assert_eq!(object.name, "payouts.ach");
    let text = String::from_utf8(object.bytes).unwrap();
    let records: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
    assert!(records.iter().all(|record| record.len() == 94), "{text}");
    assert_eq!(records.len() % 10, 0);
    Ok((records, object.rows.unwrap()))
}

fn refused(row: Row) -> String {
    file(OPTIONS, &[&[CREDIT, row]]).unwrap_err().to_string()
}

#[test]
fn a_file_of_two_days_in_two_calls() {
    let tomorrow = Row { date: CREDIT.date + 1, ..DEBIT };
    let (records, rows) = file(OPTIONS, &[&[CREDIT, DEBIT], &[tomorrow]]).unwrap();
    assert_eq!(rows, 3);
    let expected = [
        "101 02100002112345678902611281905A094101EXAMPLE BANK           VENDOR INC                     ",
        "5200VENDOR INC                          1234567890PPDPAYOUT          261130   1121042880000001",
        "622021000021123456789        0000123456P-1            ADA LOVELACE            0121042880000001",
        "627121042882123456789        0000000500               GRACE HOPPER            0121042880000002",
        "820000000200142042900000000005000000001234561234567890                         121042880000001",
        "5200VENDOR INC                          1234567890PPDPAYOUT          261201   1121042880000002",
        "627121042882123456789        0000000500               GRACE HOPPER            0121042880000003",
        "820000000100121042880000000005000000000000001234567890                         121042880000002",
        "9000002000001000000030026308578000000001000000000123456                                       ",
        &"9".repeat(94),
    ];
    assert_eq!(records, expected);
}

#[test]
fn no_entry_at_all_is_a_file_without_batches() {
    let (records, rows) = file(OPTIONS, &[]).unwrap();
    assert_eq!((records.len(), rows), (10, 0));
    assert!(records[1].starts_with("9000000000001000000000000000000"), "{}", records[1]);
    assert!(records[2..].iter().all(|record| record.bytes().all(|byte| byte == b'9')));
}

#[test]
fn entries_that_are_wrong_are_told_by_their_number() {
    let cases = [
        (Row { routing: "021000022", ..CREDIT }, "entry 2: `routing_number` is `021000022`"),
        (Row { code: 29, ..CREDIT }, "entry 2: `transaction_code` is 29"),
        (Row { cents: 0, ..CREDIT }, "entry 2: `amount` is 0 cents, and must be more than 0"),
        (Row { cents: -1, ..CREDIT }, "must be more than 0"),
        (Row { code: 23, ..CREDIT }, "must be 0, as it is a prenote"),
        (Row { cents: 10_000_000_000, ..CREDIT }, "entry 2: `amount` is 10000000000, and its field has 10 digits"),
        (Row { name: "A NAME OF MORE THAN 22 C", ..CREDIT }, "does not fit into 22 characters"),
        (Row { name: "ZOË", ..CREDIT }, "entry 2: `individual_name` is `ZOË`"),
    ];
    for (row, said) in cases {
        let told = refused(row);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn a_debit_among_credits_is_refused_when_only_credits_are_allowed() {
    let options = OPTIONS.replace(r#""ppd""#, r#""ccd", "service_class": "credits""#);
    let (records, _) = file(&options, &[&[CREDIT]]).unwrap();
    assert!(records[1].starts_with("5220") && records[1].contains("1234567890CCDPAYOUT"), "{}", records[1]);
    let told = file(&options, &[&[CREDIT, DEBIT]]).unwrap_err().to_string();
    assert_eq!(told, "entry 2 is a debit (transaction code 27), which options.service_class does not allow");
}

#[test]
fn what_is_missing_is_all_named_before_anything_runs() {
    let mut schema = table(&[]).schema;
    schema.fields.retain(|field| field.name != "amount");
    schema.fields[1].data_type = DataType::Int64;
    let findings = Nacha::check(OPTIONS, &schema);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let said = "a NACHA file needs more columns: select `transaction_code` as an int, `amount` as a decimal(10, 2) in the query";
    assert_eq!(finding.message, said);

    let options = OPTIONS.replace("021000021", "21000021").replace("VENDOR INC", "A VENDOR WITH A VERY LONG NAME");
    let paths: Vec<String> =
        Nacha::check(&options, &table(&[]).schema).into_iter().map(|finding| finding.path).collect();
    assert_eq!(paths, ["/immediate_destination", "/origin_name", "/company_name"]);
}
