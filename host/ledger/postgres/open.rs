//! Opening a ledger in PostgreSQL: its schema, what is refused, migrations.

use std::path::PathBuf;

use postgres::Client;

use super::super::LedgerError;
use super::{Node, Server, Session, off_runtime};

/// As `server_version_num` counts: the oldest that is tested.
const OLDEST: i32 = 150_000;

/// Number n brings a schema of version n - 1 to version n. Never edited once released.
const MIGRATIONS: [&str; 6] = [
    include_str!("0001_first.sql"),
    include_str!("0002_reasons.sql"),
    include_str!("0003_quarantine.sql"),
    include_str!("0004_customers.sql"),
    include_str!("0005_profiles.sql"),
    include_str!("0006_settled.sql"),
];
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Opens the ledger for writing, as a node of its own, and makes it when there is none.
pub(in super::super) fn writable(server: &Server) -> Result<Node, LedgerError> {
    off_runtime(|| {
        let mut client = checked(server)?;
        migrate(server, &mut client)?;
        Node::begin(server, &mut client)
    })
}

/// Opens the ledger for reading. Leaves everything as it is.
pub(in super::super) fn readable(server: Server) -> Result<Session, LedgerError> {
    let server = off_runtime(|| {
        let mut client = checked(&server)?;
        match version(&server, &mut client)? {
            Some(VERSION) => Ok(server),
            Some(found) => Err(LedgerError::Older { path: path(&server), found, known: VERSION }),
            None => Err(LedgerError::Missing { path: path(&server) }),
        }
    })?;
    Ok(Session::new(server, None))
}

fn checked(server: &Server) -> Result<Client, LedgerError> {
    let mut client = server.connect().map_err(|error| server.refused(&error))?.client;
    let row = client.query_one("SELECT current_setting('server_version_num')::INT, version()", &[])?;
    let (number, name): (i32, String) = (row.get(0), row.get(1));
    if number < OLDEST {
        return Err(LedgerError::Unreachable {
            place: server.place.clone(),
            why: format!("it is {name}"),
            remedy: format!("use PostgreSQL {} or newer", OLDEST / 10_000),
        });
    }
    Ok(client)
}

/// None: there is no ledger yet.
fn version(server: &Server, client: &mut Client) -> Result<Option<i64>, LedgerError> {
    let tables = "SELECT count(*) AS tables, count(*) FILTER (WHERE tablename = 'consign_ledger') AS ours
                  FROM pg_tables WHERE schemaname = $1";
    let row = client.query_one(tables, &[&server.schema])?;
    let (tables, ours): (i64, i64) = (row.get("tables"), row.get("ours"));
    if tables == 0 {
        return Ok(None);
    }
    if ours == 0 {
        let why = "the schema has tables of another program".to_owned();
        return Err(LedgerError::Foreign { path: path(server), why });
    }
    let row = client.query_one("SELECT version FROM consign_ledger", &[]).map_err(|error| server.refused(&error))?;
    match row.get(0) {
        found if found > VERSION => Err(newer(server, found)),
        found => Ok(Some(found)),
    }
}

pub(super) fn newer(server: &Server, found: i64) -> LedgerError {
    LedgerError::Newer { path: path(server), found, known: VERSION }
}

/// Several may be starting at the same time: one of them does it.
fn migrate(server: &Server, client: &mut Client) -> Result<(), LedgerError> {
    if version(server, client)? == Some(VERSION) {
        return Ok(());
    }
    let refused = |error: postgres::Error| server.refused(&error);
    let begin = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('consign ledger', 0))";
    client.batch_execute(begin).map_err(refused)?;
    let from = version(server, client)?.unwrap_or(0);
    if (1..VERSION).contains(&from) {
        // What others have begun ends first. What they begin from then on waits, and reads the new version (`begin`).
        client.batch_execute("LOCK TABLE consign_ledger IN ACCESS EXCLUSIVE MODE").map_err(refused)?;
    }
    let schema = &server.schema;
    if client.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[schema])?.is_none() {
        client.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).map_err(refused)?;
    }
    for (number, sql) in (1i64..).zip(MIGRATIONS).filter(|(number, _)| *number > from) {
        client.batch_execute(sql).map_err(refused)?;
        client.execute("UPDATE consign_ledger SET version = $1", &[&number])?;
    }
    client.batch_execute("COMMIT").map_err(refused)
}

/// How messages name the ledger.
fn path(server: &Server) -> PathBuf {
    PathBuf::from(format!("{} (schema {})", server.place, server.schema))
}
