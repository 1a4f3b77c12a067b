//! Where the socket is, and how either side gets to it.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::lock::{Lock, NotTaken};

const SOCKET: &str = "consign.sock";
const LOCK: &str = "consign.sock.lock";

/// What the kernel takes as a socket's address, with the byte that ends it (unix(7)).
const ADDRESS_MAX: usize = 108;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("the socket {path} is held by {holder}; stop that consign first, or use another state directory", path = .path.display())]
    Held { path: PathBuf, holder: String },
    #[error("cannot {action} the socket {path}", path = .path.display())]
    Files {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The socket while the daemon has it.
pub(super) struct Bound {
    pub listener: UnixListener,
    path: PathBuf,
    /// Whoever has it may take away a socket that is there: nobody listens to it.
    _lock: Lock,
}

impl Bound {
    pub fn bind(state_dir: &Path) -> Result<Self, SocketError> {
        let path = path(state_dir);
        let failed = |action| {
            let path = path.clone();
            move |source| SocketError::Files { action, path, source }
        };
        // A ledger in a database has made none.
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed("make the folder of"))?;
        let lock = Lock::take(&state_dir.join(LOCK), 0o600).map_err(|why| match why {
            NotTaken::Held(holder) => SocketError::Held { path: path.clone(), holder },
            NotTaken::Open(error) | NotTaken::Lock(error) => failed("lock")(error),
        })?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("replace")(error)),
            _ => {}
        }
        let bound = address(&path).and_then(|(_folder, address)| UnixListener::bind(address));
        let listener = bound.map_err(failed("make"))?;
        // The state directory is its user's alone, and each caller is asked who it is.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed("restrict"))?;
        Ok(Self { listener, path, _lock: lock })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(error = %error, "the socket could not be removed");
        }
    }
}

pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// None when no daemon listens there.
pub async fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    let connected = async {
        let (_folder, address) = address(path)?;
        UnixStream::connect(address).await
    };
    match connected.await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path to the same file that is short enough for a socket: another one, through
/// its open folder, if this one is too long.
fn address(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().as_bytes().len() < ADDRESS_MAX {
        return Ok((None, path.to_owned()));
    }
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((Some(folder), short))
}
