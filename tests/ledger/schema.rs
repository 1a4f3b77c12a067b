//! The schemas of both databases are one, because the commands are one code.

use std::collections::BTreeSet;
use std::path::Path;

use consign::clock::Clock;
use consign::ledger::Ledger;
use rusqlite::Connection;

use super::start;
use crate::support::postgres::Postgres;

/// After all migrations, whatever it is that one of them has and the other has not.
#[test]
fn the_schemas_of_both_databases_agree() {
    let Some(server) = Postgres::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::open(dir.path(), Clock::fixed(start())).unwrap());
    drop(Ledger::connect(&server.database("schemas"), Clock::fixed(start())).unwrap());
    let (sqlite, postgres) = (sqlite(&dir.path().join("ledger.db")), postgres(server, "schemas"));
    for expected in ["slots 01 id INTEGER NOT NULL", "deliveries UNIQUE INDEX one_per_slot (slot, customer) WHERE"] {
        assert!(sqlite.contains(expected), "`{expected}` is not in {sqlite:#?}");
    }
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
    assert_eq!(only(&sqlite, &postgres), Vec::<String>::new(), "only in SQLite");
    assert_eq!(only(&postgres, &sqlite), Vec::<String>::new(), "only in PostgreSQL");
}

/// Where the version is, and what else is of the ledger as a whole, each has in its own way.
const OURS: &str = "type = 'table' AND name <> 'consign_ledger'";

/// Columns in their order, keys and indexes with theirs, what refers to what, and
/// the words that columns may hold: a line for each.
fn sqlite(file: &Path) -> BTreeSet<String> {
    let raw = Connection::open(file).unwrap();
    let queries = [
        r#"SELECT t.name || printf(' %02d ', c.cid + 1) || c.name || ' ' || c.type
               || iif(c."notnull" OR c.pk, ' NOT NULL', '') || coalesce(' DEFAULT ' || c.dflt_value, '')
           FROM tables t JOIN pragma_table_info(t.name) c"#,
        "SELECT t.name || ' PRIMARY KEY (' || group_concat(c.name, ', ' ORDER BY c.pk) || ')'
         FROM tables t JOIN pragma_table_info(t.name) c WHERE c.pk GROUP BY t.name",
        r#"SELECT t.name || iif(i."unique", ' UNIQUE', '') || iif(i.origin = 'c', ' INDEX ' || i.name, '') || ' ('
               || (SELECT group_concat(name, ', ' ORDER BY seqno) FROM pragma_index_info(i.name)) || ')'
               || iif(i.partial, ' WHERE', '')
           FROM tables t JOIN pragma_index_list(t.name) i WHERE i.origin <> 'pk'"#,
        r#"SELECT t.name || ' (' || k."from" || ') REFERENCES ' || k."table" || ' (' || k."to" || ')'
           FROM tables t JOIN pragma_foreign_key_list(t.name) k"#,
    ];
    let mut lines = BTreeSet::new();
    for query in queries {
        let query = format!("WITH tables AS (SELECT name FROM sqlite_schema WHERE {OURS}) {query}");
        let mut query = raw.prepare(&query).unwrap();
        lines.extend(query.query_map([], |row| row.get::<_, String>(0)).unwrap().map(|line| line.unwrap()));
    }
    let mut tables = raw.prepare(&format!("SELECT name, sql FROM sqlite_schema WHERE {OURS}")).unwrap();
    let tables = tables.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    for (table, sql) in tables.map(|table| table.unwrap()) {
        let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap()).collect();
        lines.extend(words(&table, &code.join("\n")));
    }
    lines
}

/// The same of PostgreSQL, without what only several processes need.
fn postgres(server: &Postgres, schema: &str) -> BTreeSet<String> {
    let ours = "relnamespace = current_schema()::REGNAMESPACE AND relname NOT IN ('consign_ledger', 'nodes')";
    let tables = format!("WITH tables AS (SELECT oid, relname AS name FROM pg_class WHERE relkind = 'r' AND {ours})");
    let queries = [
        "SELECT t.name || to_char(row_number() OVER (PARTITION BY t.oid ORDER BY a.attnum), ' FM00 ') || a.attname || ' '
             || CASE a.atttypid::REGTYPE::TEXT WHEN 'bigint' THEN 'INTEGER' ELSE upper(a.atttypid::REGTYPE::TEXT) END
             || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
             || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
         FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
         WHERE (t.name, a.attname) <> ('runs', 'node')",
        "SELECT t.name || CASE WHEN i.indisprimary THEN ' PRIMARY KEY' WHEN i.indisunique THEN ' UNIQUE' ELSE '' END
             || CASE WHEN c.oid IS NULL THEN ' INDEX ' || x.relname ELSE '' END || ' ('
             || (SELECT string_agg(a.attname, ', ' ORDER BY k.nth) FROM unnest(i.indkey) WITH ORDINALITY k (number, nth)
                 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number) || ')'
             || CASE WHEN i.indpred IS NULL THEN '' ELSE ' WHERE' END
         FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class x ON x.oid = i.indexrelid
         LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u')",
        "SELECT t.name || ' (' || a.attname || ') REFERENCES ' || r.relname || ' (' || b.attname || ')'
         FROM tables t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype = 'f'
         JOIN pg_class r ON r.oid = c.confrelid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
         JOIN pg_attribute b ON b.attrelid = r.oid AND b.attnum = c.confkey[1]",
    ];
    let ask = |query: &str| server.psql(&format!("SET search_path TO {schema}; {tables} {query}"));
    let mut lines = BTreeSet::new();
    for query in queries {
        // An index of SQLite ends in its row's id without saying so.
        let line = |line: &str| if line.contains(" INDEX ") { line.replace(", id)", ")") } else { line.to_owned() };
        lines.extend(ask(query).lines().map(line));
    }
    let checks = "SELECT t.name || ' ' || pg_get_constraintdef(c.oid) FROM tables t JOIN pg_constraint c
                  ON c.conrelid = t.oid AND c.contype = 'c'";
    for check in ask(checks).lines() {
        let (table, check) = check.split_once(' ').unwrap();
        lines.extend(words(table, check));
    }
    lines
}

/// A line for each quoted word of a table's definition.
fn words(table: &str, sql: &str) -> Vec<String> {
    sql.split('\'').skip(1).step_by(2).map(|word| format!("{table} has '{word}'")).collect()
}
