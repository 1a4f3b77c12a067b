//! Opening a ledger: the lock, the file, what is refused, and migrations.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::db::Db;
use super::{LedgerError, upkeep};
use crate::clock::Instant;
use crate::lock::{Lock, NotTaken};
use crate::replace;

pub(super) const FILE: &str = "ledger.db";
const LOCK: &str = "ledger.lock";

/// What SQLite names the file beside a ledger that has what is not in it yet.
pub(super) const JOURNAL: &str = "-wal";

/// `cnsg`: marks the file as consign's.
const APPLICATION_ID: i64 = 0x636e_7367;

/// `cnsb`: the same of a copy, which knows nothing of what was delivered since. Nothing
/// is delivered by it before [`Opening::Restored`] has seen to that.
const COPY_ID: i64 = 0x636e_7362;

/// A copy on its way to the place of the ledger. Without a ledger beside it nobody makes a new one.
pub(super) const STAGED: &str = "ledger.db.restoring";

/// Number n brings a file of version n - 1 to version n. Never edited once released.
const MIGRATIONS: [&str; 7] = [
    include_str!("0001_first.sql"),
    include_str!("0002_calendar.sql"),
    include_str!("0003_reasons.sql"),
    include_str!("0004_quarantine.sql"),
    include_str!("0005_customers.sql"),
    include_str!("0006_profiles.sql"),
    include_str!("0007_origin.sql"),
];
const VERSION: i64 = MIGRATIONS.len() as i64;

/// From this version on a copy says that it is one.
const MARKED: i64 = 7;

/// What for a ledger is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// To be gone on with.
    GoOn,
    /// To be told that it was restored.
    Restored,
}

/// Opens the ledger in `dir` for writing, and makes it when there is none.
pub(super) fn writable(dir: &Path, now: Instant) -> Result<(Db, Lock), LedgerError> {
    let lock = locked(dir)?;
    let path = dir.join(FILE);
    if !path.exists() {
        if dir.join(STAGED).exists() {
            return Err(LedgerError::Restored { path: dir.join(STAGED) });
        }
        create(dir, &path, now)?;
        tell_new(&path);
    }
    Ok((Db::Sqlite(opened(&path, Opening::GoOn)?), lock))
}

/// Somebody may have expected another one there.
pub(super) fn tell_new(path: &Path) {
    let remedy = "nothing at the first start; otherwise stop consign before its next slot, and see to the disk or database, \
                  or restore a backup";
    let path = path.display();
    tracing::warn!(%path, remedy, "a new ledger was made: shares begin now, and nothing of earlier deliveries is known");
}

/// Makes `dir` when it is missing, and has it to itself.
pub(super) fn locked(dir: &Path) -> Result<Lock, LedgerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(files("create", dir))?;
    let lock = lock(dir)?;
    give_away(dir, lock.file())?;
    Ok(lock)
}

/// To whom the state directory belongs: root may look after the ledger of a service, which is another user. Only
/// root may give a file away; what anybody else makes is his.
pub(super) fn give_away(dir: &Path, file: &File) -> Result<(), LedgerError> {
    let owner = std::fs::metadata(dir).map_err(files("read", dir))?;
    let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
    Ok(())
}

/// For writing, in the newest version.
pub(super) fn opened(path: &Path, opening: Opening) -> Result<Connection, LedgerError> {
    refuse_other_files(path)?;
    if opening == Opening::GoOn && is_fresh_copy(path)? {
        return Err(LedgerError::Restored { path: path.to_owned() });
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(files("restrict", path))?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version = version(&connection, path)?;
    if opening == Opening::GoOn && is_copy(&connection, path)? {
        return Err(LedgerError::Restored { path: path.to_owned() });
    }
    check(&connection, path)?;
    let kept = match version {
        VERSION => None,
        // Of a copy there is the file that it was made from.
        _ if is_copy(&connection, path)? => None,
        earlier => Some(keep(&connection, path, earlier)?),
    };
    for_writing(&connection).map_err(damage(path))?;
    migrate(&mut connection, version).map_err(damage(path))?;
    if let Some(kept) = kept {
        tracing::info!(from = version, to = VERSION, kept = %kept.display(), "the ledger was brought up to date; it is kept as it was before");
        only_one_kept(path, &kept);
    }
    Ok(connection)
}

/// Keeps a ledger as it is before it is brought up to date: an earlier consign goes on with that one only.
fn keep(ledger: &Connection, path: &Path, version: i64) -> Result<PathBuf, LedgerError> {
    let kept = kept(path, version);
    let failed = |why: String| LedgerError::NotKept { path: kept.clone(), why };
    // Versions before do not know what a mark means.
    let is_copy = version >= MARKED;
    let copy = upkeep::copy(ledger, replace::folder(path), is_copy).map_err(failed)?;
    copy.persist(&kept).map_err(|error| failed(error.error.to_string()))?;
    File::open(replace::folder(path)).and_then(|dir| dir.sync_all()).map_err(|error| failed(error.to_string()))?;
    Ok(kept)
}

/// The name under which a ledger is kept that had this version.
fn kept(path: &Path, version: i64) -> PathBuf {
    beside(path, &format!(".v{version}"))
}

/// Those that are kept of a ledger, with their versions.
fn all_kept(path: &Path) -> Vec<(i64, PathBuf)> {
    (1..=VERSION).map(|version| (version, kept(path, version))).filter(|(_, file)| file.exists()).collect()
}

/// What was kept at an earlier time is of no more use.
fn only_one_kept(path: &Path, kept: &Path) {
    for (_, earlier) in all_kept(path).into_iter().filter(|(_, file)| file != kept) {
        if let Err(error) = std::fs::remove_file(&earlier) {
            tracing::warn!(error = %error, file = %earlier.display(), "cannot remove a ledger that was kept");
        }
    }
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
    looked_at(&dir.join(FILE))
}

/// A file that is a ledger, or the copy of one, as it is.
pub(super) fn looked_at(path: &Path) -> Result<Connection, LedgerError> {
    if !path.exists() {
        return Err(LedgerError::Missing { path: path.to_owned() });
    }
    refuse_other_files(path)?;
    if is_fresh_copy(path)? && beside(path, JOURNAL).exists() {
        return Err(LedgerError::Restored { path: path.to_owned() });
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    version(&connection, path)?;
    Ok(connection)
}

/// Says of a ledger that it is a copy, or that it can be gone on with.
pub(super) fn mark(connection: &Connection, is_copy: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", if is_copy { COPY_ID } else { APPLICATION_ID })
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
fn create(dir: &Path, path: &Path, now: Instant) -> Result<(), LedgerError> {
    let journal = beside(path, JOURNAL);
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
    connection.execute("UPDATE consign_ledger SET made_at = ?1", [now.timestamp_micros()])?;
    for_writing(&connection)?;
    connection.close().map_err(|(_, error)| LedgerError::from(error))?;
    give_away(dir, new.as_file())?;
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
    if ![APPLICATION_ID, COPY_ID].contains(&pragma(connection, path, "application_id")?) {
        let why = "another program made this database".to_owned();
        return Err(LedgerError::Foreign { path: path.to_owned(), why });
    }
    match pragma(connection, path, "user_version")? {
        found if found > VERSION => {
            let kept = all_kept(path).pop().map(|(_, file)| file);
            Err(LedgerError::Newer { path: path.to_owned(), found, known: VERSION, kept })
        }
        found => Ok(found),
    }
}

fn is_copy(connection: &Connection, path: &Path) -> Result<bool, LedgerError> {
    Ok(pragma(connection, path, "application_id")? == COPY_ID)
}

fn pragma(connection: &Connection, path: &Path, name: &str) -> Result<i64, LedgerError> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(damage(path))
}

/// Nobody has written to it since it was made: a journal beside it is another ledger's, and to SQLite that
/// would make no difference. Offsets: SQLite's "Database File Format", 1.3.
pub(super) fn is_fresh_copy(path: &Path) -> Result<bool, LedgerError> {
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(100).read_to_end(&mut start)).map_err(files("read", path))?;
    const NO_JOURNAL_YET: &[u8] = &[1];
    Ok(start.get(68..72) == Some(&COPY_ID.to_be_bytes()[4..]) && start.get(18..19) == Some(NO_JOURNAL_YET))
}

/// Looks for damage in the whole file, so that it shows at the start and not in the middle of a run.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
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
    // All of them or none: the ledger that is kept is then of the version that made it.
    let transaction = connection.transaction()?;
    for (_, sql) in (1..).zip(MIGRATIONS).filter(|(number, _)| *number > from) {
        transaction.execute_batch(sql)?;
    }
    let broken: i64 = transaction.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
    if broken > 0 {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        let why = format!("{broken} rows refer to rows that are not there");
        return Err(rusqlite::Error::SqliteFailure(code, Some(why)));
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// The path with more at its end.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

pub(super) fn files(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> LedgerError {
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
