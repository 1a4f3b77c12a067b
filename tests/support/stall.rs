//! Between the daemon and its endpoint: takes the requests of some and never answers them.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A proxy on a port of its own. A request whose path begins as given is taken and
/// never answered; any other goes to the endpoint behind it.
pub struct Stall {
    pub endpoint: String,
    /// Kept open, so that whoever asked waits.
    stalled: Arc<Mutex<Vec<TcpStream>>>,
}

impl Stall {
    /// `behind` as in `http://127.0.0.1:9000`.
    pub fn start(behind: &str, path: &'static str) -> Self {
        let behind = behind.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let stalled: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let stalls = stalled.clone();
        // It ends with the tests, which are one process.
        thread::spawn(move || {
            for caller in listener.incoming().filter_map(Result::ok) {
                let (behind, stalled) = (behind.clone(), stalls.clone());
                thread::spawn(move || {
                    if let Ok(Some(caller)) = serve(caller, &behind, path) {
                        stalled.lock().unwrap().push(caller);
                    }
                });
            }
        });
        Self { endpoint, stalled }
    }

    /// How many requests were never answered.
    pub fn stalled(&self) -> usize {
        self.stalled.lock().unwrap().len()
    }
}

/// One request for each connection, because the next one of it may be anybody's.
/// Returns the caller whom nobody answers.
fn serve(mut caller: TcpStream, behind: &str, path: &str) -> io::Result<Option<TcpStream>> {
    let head = head(&mut caller)?;
    let (line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    if line.split(' ').nth(1).is_some_and(|asked| asked.starts_with(path)) {
        return Ok(Some(caller));
    }
    let mut server = TcpStream::connect(behind)?;
    write!(server, "{line}\r\nconnection: close\r\n{rest}")?;
    let (mut from, mut to) = (caller.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    io::copy(&mut server, &mut caller)?;
    caller.shutdown(Shutdown::Both)?;
    Ok(None)
}

fn head(caller: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        caller.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
