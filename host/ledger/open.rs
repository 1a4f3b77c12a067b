//! Opening a ledger: the lock, the file, what is refused, and migrations.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::LedgerError;
use super::db::Db;
use crate::lock::{Lock, NotTaken};

const FILE: &str = "ledger.db";
const LOCK: &str = "ledger.lock";

/// `cnsg`: marks the file as consign's.
const APPLICATION_ID: i64 = 0x636e_7367;

/// Number n brings a file of version n - 1 to version n. Never edited once released.
const MIGRATIONS: [&str; 7] = [
    include_str!("0001_first.sql"),
    include_str!("0002_calendar.sql"),
    include_str!("0003_reasons.sql"),
    include_str!("0004_quarantine.sql"),
    include_str!("0005_customers.sql"),
    include_str!("0006_profiles.sql"),
    include_str!("0007_settled.sql"),
];
const VERSION: i64 = MIGRATIONS.len() as i64;

/// Opens the ledger in `dir` for writing, and makes it when there is none.
pub(super) fn writable(dir: &Path) -> Result<(Db, Lock), LedgerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(files("create", dir))?;
    let lock = lock(dir)?;
    let path = dir.join(FILE);
    if !path.exists() {
        create(dir, &path)?;
    }
    refuse_other_files(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(files("restrict", &path))?;
    let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version = version(&connection, &path)?;
    check(&connection, &path)?;
    for_writing(&connection).map_err(damage(&path))?;
    migrate(&mut connection, version).map_err(damage(&path))?;
    Ok((Db::Sqlite(connection), lock))
}

/// Opens the ledger in `dir` for reading, also while another process writes it.
pub(super) fn readable(dir: &Path) -> Result<Db, LedgerError> {
    let connection = copyable(dir)?;
    let path = dir.join(FILE);
    match version(&connection, &path)? {
        VERSION => Ok(Db::Sqlite(connection)),
        found => Err(LedgerError::Older { path, found, known: VERSION }),
    }
}

/// The same for who asks for nothing in it: it may be of an earlier version.
pub(super) fn copyable(dir: &Path) -> Result<Connection, LedgerError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Err(LedgerError::Missing { path });
    }
    refuse_other_files(&path)?;
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    version(&connection, &path)?;
    Ok(connection)
}

fn lock(dir: &Path) -> Result<Lock, LedgerError> {
    let path = dir.join(LOCK);
    Lock::take(&path, 0o600).map_err(|why| match why {
        NotTaken::Held(holder) => LedgerError::Held { dir: dir.to_owned(), holder },
        NotTaken::Open(error) => files("open", &path)(error),
        NotTaken::Lock(error) => files("lock", &path)(error),
    })
}

/// Makes the file under another name first: a half-made ledger is never seen,
/// so that an empty one always means that something cut it off.
fn create(dir: &Path, path: &Path) -> Result<(), LedgerError> {
    let journal = dir.join(format!("{FILE}-wal"));
    if journal.exists() {
        let why = format!("it is gone, but its journal {} is there", journal.display());
        return Err(LedgerError::Damaged { path: path.to_owned(), why });
    }
    let new = tempfile::Builder::new()
        .prefix("ledger-new-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .map_err(files("create", path))?;
    let mut connection = connect(new.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // First of all, or it is not heeded: what is forgotten can then leave the file.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(&mut connection, 0)?;
    for_writing(&connection)?;
    connection.close().map_err(|(_, error)| LedgerError::from(error))?;
    new.as_file().sync_all().map_err(files("sync", path))?;
    new.persist_noclobber(path).map_err(|error| files("create", path)(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(files("sync", dir))
}

/// SQLite takes an empty file for a new database; consign does not.
fn refuse_other_files(path: &Path) -> Result<(), LedgerError> {
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut start)).map_err(files("read", path))?;
    if start.is_empty() {
        return Err(LedgerError::Damaged { path: path.to_owned(), why: "it is empty".to_owned() });
    }
    if start != b"SQLite format 3\0" {
        let why = "it does not begin as an SQLite database does".to_owned();
        return Err(LedgerError::Foreign { path: path.to_owned(), why });
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, LedgerError> {
    let connection =
        Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(damage(path))?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "foreign_keys", true).map_err(damage(path))?;
    connection.pragma_update(None, "trusted_schema", false).map_err(damage(path))?;
    connection.pragma_update(None, "cell_size_check", true).map_err(damage(path))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The file's version, if it is a ledger that this consign knows.
fn version(connection: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let read = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(damage(path));
    if read("application_id")? != APPLICATION_ID {
        let why = "another program made this database".to_owned();
        return Err(LedgerError::Foreign { path: path.to_owned(), why });
    }
    match read("user_version")? {
        found if found > VERSION => Err(LedgerError::Newer { path: path.to_owned(), found, known: VERSION }),
        found => Ok(found),
    }
}

/// Looks for damage in the whole file, so that it shows at the start and not in the middle of a run.
fn check(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(damage(path))?;
    if found == "ok" {
        return Ok(());
    }
    Err(LedgerError::Damaged { path: path.to_owned(), why: found.replace('\n', " ") })
}

/// A commit is on disk when it is answered: SQLite's documentation of `PRAGMA synchronous`.
fn for_writing(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))
}

fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    if from == VERSION {
        return Ok(());
    }
    // A table that is made anew must not take the rows of others with it:
    // SQLite's documentation of ALTER TABLE, "Making Other Kinds Of Table Schema Changes".
    connection.pragma_update(None, "foreign_keys", false)?;
    for (number, sql) in (1..).zip(MIGRATIONS).filter(|(number, _)| *number > from) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        let broken: i64 =
            transaction.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
        if broken > 0 {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            let why = format!("{broken} rows refer to rows that are not there");
            return Err(rusqlite::Error::SqliteFailure(code, Some(why)));
        }
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    connection.pragma_update(None, "foreign_keys", true)
}

fn files(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> LedgerError {
    let path: PathBuf = path.to_owned();
    move |error| LedgerError::Files { action, path: path.clone(), source: Arc::new(error) }
}

fn damage(path: &Path) -> impl Fn(rusqlite::Error) -> LedgerError {
    let path: PathBuf = path.to_owned();
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => LedgerError::Damaged { path: path.clone(), why: error.to_string() },
        Some(ErrorCode::NotADatabase) => LedgerError::Foreign { path: path.clone(), why: error.to_string() },
        _ => error.into(),
    }
}
