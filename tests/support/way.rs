//! Between a consign and its PostgreSQL: a network that goes silent, loses an answer,
//! or leads elsewhere, and a pooler that shares out transactions.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// For a port: no server is there.
pub const NOWHERE: u16 = 0;

/// A way to the server at a port of its own.
pub struct Way {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Where new connections lead.
    to: AtomicU16,
    /// The same once a COMMIT is lost.
    then: Mutex<Option<u16>>,
    /// So many connections were led there.
    led: AtomicUsize,
    /// Rises whenever all connections go silent.
    age: AtomicUsize,
    loses_commit: AtomicBool,
    swallows_commit: AtomicBool,
    pools: AtomicBool,
}

impl Way {
    /// To the server at `port`.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        way.leads_to(port);
        let state = Arc::clone(&way.state);
        // It ends with the tests, which are one process.
        thread::spawn(move || {
            for caller in listener.incoming().filter_map(Result::ok) {
                caller.set_nodelay(true).unwrap();
                let state = Arc::clone(&state);
                let port = state.to.load(Ordering::Relaxed);
                if port == NOWHERE {
                    continue;
                }
                state.led.fetch_add(1, Ordering::Relaxed);
                // Whoever hangs up ends it, and so does the server.
                thread::spawn(move || match state.pools.load(Ordering::Relaxed) {
                    true => share_out(caller, port),
                    false => lead(caller, port, &state),
                });
            }
        });
        way
    }

    /// What goes over the connections that there are is taken, and never arrives.
    /// They stay open, and new ones are as before.
    pub fn goes_silent(&self) {
        self.state.age.fetch_add(1, Ordering::Relaxed);
    }

    /// The next COMMIT arrives; its answer does not, and its connection ends.
    pub fn loses_the_next_commit(&self) {
        self.state.loses_commit.store(true, Ordering::Relaxed);
    }

    /// The same, and from then on new connections lead to the server at `port`.
    pub fn loses_the_next_commit_and_leads_to(&self, port: u16) {
        *self.state.then.lock().unwrap() = Some(port);
        self.loses_the_next_commit();
    }

    /// New connections lead to the server at `port`. Those that there are stay.
    pub fn leads_to(&self, port: u16) {
        self.state.to.store(port, Ordering::Relaxed);
    }

    /// How many connections a server was asked for.
    pub fn led(&self) -> usize {
        self.state.led.load(Ordering::Relaxed)
    }

    /// The next COMMIT does not arrive, and its connection ends here. The server has not noticed, and waits for more.
    pub fn swallows_the_next_commit(&self) {
        self.state.swallows_commit.store(true, Ordering::Relaxed);
    }

    /// From the next connection on each transaction gets the other one of two sessions.
    pub fn pools(&self) {
        self.state.pools.store(true, Ordering::Relaxed);
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    Ok(server)
}

fn lead(caller: TcpStream, port: u16, state: &Arc<State>) -> io::Result<()> {
    let server = connect(port)?;
    let lost = Arc::new(AtomicBool::new(false));
    let there = Passage { age: state.age.load(Ordering::Relaxed), state: Arc::clone(state), lost };
    let back = there.clone();
    let (from, to) = (server.try_clone()?, caller.try_clone()?);
    thread::spawn(move || back.pass(from, to, false));
    there.pass(caller, server, true)
}

/// One direction of a connection, or the other.
#[derive(Clone)]
struct Passage {
    state: Arc<State>,
    age: usize,
    lost: Arc<AtomicBool>,
}

impl Passage {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, to_server: bool) -> io::Result<()> {
        let mut bytes = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let said = &bytes[..length];
            if self.lost.load(Ordering::Relaxed) || self.state.age.load(Ordering::Relaxed) > self.age {
                continue;
            }
            let is_commit = to_server && said.windows(7).any(|word| word == b"COMMIT\0");
            if is_commit && self.state.swallows_commit.swap(false, Ordering::Relaxed) {
                // The other direction has the server's end until that hangs up.
                return from.shutdown(Shutdown::Both);
            }
            if is_commit && self.state.loses_commit.swap(false, Ordering::Relaxed) {
                self.lost.store(true, Ordering::Relaxed);
                if let Some(port) = self.state.then.lock().unwrap().take() {
                    self.state.to.store(port, Ordering::Relaxed);
                }
                to.write_all(said)?;
                thread::sleep(Duration::from_millis(300));
                break;
            }
            to.write_all(said)?;
        }
        // One of them may be gone already, which the other has yet to hear of.
        let _ = from.shutdown(Shutdown::Both);
        to.shutdown(Shutdown::Both)
    }
}

/// Two sessions of the server for one caller, in turns.
fn share_out(mut caller: TcpStream, port: u16) -> io::Result<()> {
    let mut hello = vec![0; 4];
    caller.read_exact(&mut hello)?;
    rest(&mut caller, &mut hello, 0)?;
    let mut sessions = [connect(port)?, connect(port)?];
    for session in &mut sessions {
        session.write_all(&hello)?;
    }
    answer(&mut sessions[1], &mut io::sink())?;
    answer(&mut sessions[0], &mut caller)?;
    let mut turn = 0;
    loop {
        let said = message(&mut caller)?;
        sessions[turn].write_all(&said)?;
        // A query, or the end of what was said.
        if matches!(said[0], b'Q' | b'S') && answer(&mut sessions[turn], &mut caller)? == b'I' {
            turn = 1 - turn;
        }
    }
}

/// Passes on what the server says until it is ready again; returns whether it is idle.
fn answer(server: &mut TcpStream, to: &mut impl io::Write) -> io::Result<u8> {
    loop {
        let said = message(server)?;
        to.write_all(&said)?;
        if said[0] == b'Z' {
            return Ok(said[5]);
        }
    }
}

/// A letter, a length and that much.
fn message(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message)?;
    rest(from, &mut message, 1)?;
    Ok(message)
}

/// What follows a length at `at`, which counts itself.
fn rest(from: &mut TcpStream, message: &mut Vec<u8>, at: usize) -> io::Result<()> {
    let length = u32::from_be_bytes(message[at..at + 4].try_into().map_err(io::Error::other)?);
    message.resize(at + usize::try_from(length).map_err(io::Error::other)?, 0);
    from.read_exact(&mut message[at + 4..])
}
