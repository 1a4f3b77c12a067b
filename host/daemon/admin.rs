//! The socket over which a running daemon is asked and told: who may, how much of
//! it, for how long.
//!
//! Callers cost the deliveries nothing: each has a task of its own, and what they
//! ask of the daemon's loop is as short as anything else in it.

pub mod ask;
mod office;
mod overview;
pub mod socket;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::by_hand::named;
use crate::domain::{Blame, Refused};

use ask::{Event, LINE_MAX, Preamble, Request, Said, VERSION};
pub(super) use office::{Office, Order, Watch};
pub use overview::{Halted, Kept, LastReload, Moving, NotReady, Now, Overview, Running, Shut, Unasked};
use socket::{Bound, SocketError};

/// How long a caller may take with its line, and with taking one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Callers that are attended to at the same time.
const CALLERS_MAX: usize = 16;

/// Callers that wait for the end of what they asked for, besides.
const WAITING_MAX: usize = 64;

/// Callers that wait for a reload, besides: those who wait for deliveries are not in its way.
const RELOADING_MAX: usize = 16;

/// The socket, before anybody is answered.
pub(super) struct Socket(Bound);

/// Tasks that end with it.
#[derive(Default)]
pub(super) struct Serving(JoinSet<()>);

impl Serving {
    pub fn also(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Takes the socket away.
    pub async fn close(mut self) {
        self.0.shutdown().await;
    }
}

impl Socket {
    pub fn open(state_dir: &Path) -> Result<Self, SocketError> {
        Bound::bind(state_dir).map(Self)
    }

    /// Never ends.
    pub async fn serve(self, office: Office) {
        let (office, places) = (Arc::new(office), Arc::new(Semaphore::new(CALLERS_MAX)));
        let waits =
            Waits { runs: Arc::new(Semaphore::new(WAITING_MAX)), reloads: Arc::new(Semaphore::new(RELOADING_MAX)) };
        loop {
            match self.0.listener.accept().await {
                Ok((stream, _)) => {
                    let place = places.clone().try_acquire_owned().ok();
                    drop(tokio::spawn(attend(stream, office.clone(), place, waits.clone())));
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a caller could not be taken in");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Places for those who wait.
#[derive(Clone)]
struct Waits {
    runs: Arc<Semaphore>,
    reloads: Arc<Semaphore>,
}

/// Who asks.
pub(super) struct Caller {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    user: u32,
    /// One of those for whoever is attended to.
    place: Option<OwnedSemaphorePermit>,
    waits: Waits,
}

impl Caller {
    /// As records name it.
    pub fn name(&self) -> String {
        named(self.user)
    }

    /// Goes from those who are attended to over to those who wait for an end.
    pub fn waits(&mut self) -> Result<(), Refused> {
        let full = || Refused::request(format!("{WAITING_MAX} callers wait already"), "use --detach, or wait for less");
        self.place = Some(self.waits.runs.clone().try_acquire_owned().map_err(|_| full())?);
        Ok(())
    }

    pub fn waits_for_reload(&mut self) -> Result<(), Refused> {
        let full = || Refused::request("too many wait for a reload", "ask again, or leave out --wait");
        self.place = Some(self.waits.reloads.clone().try_acquire_owned().map_err(|_| full())?);
        Ok(())
    }

    /// Ready when the caller has gone away.
    pub async fn gone(&mut self) -> Refused {
        let mut more = [0; 64];
        // There is no more to say for it.
        while let Ok(1..) = self.from.read(&mut more).await {}
        gone()
    }

    /// Fails when the caller is gone, or does not listen.
    pub async fn hears(&mut self, event: Event) -> io::Result<()> {
        self.say(&Said::Event(event)).await
    }

    async fn say(&mut self, said: &Said) -> io::Result<()> {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        timeout(PATIENCE, self.to.write_all(&line)).await?
    }
}

/// One caller, from its first byte to the answer. Without a `place` it is sent away.
async fn attend(stream: UnixStream, office: Arc<Office>, place: Option<OwnedSemaphorePermit>, waits: Waits) {
    let user = stream.peer_cred().map(|caller| caller.uid());
    let has_place = place.is_some();
    let (from, to) = stream.into_split();
    let (from, user_id) = (BufReader::new(from), *user.as_ref().unwrap_or(&u32::MAX));
    let mut caller = Caller { from, to, user: user_id, place, waits };
    let answer = match user {
        _ if !has_place => Err(Refused::request("too many ask at the same time", "ask again")),
        Ok(user) if is_trusted(user) => match request(&mut caller.from).await {
            Ok(Some(request)) => office.answer(request.ask, &mut caller).await,
            Ok(None) => return,
            Err(refused) => Err(refused),
        },
        _ => Err(Refused::request("only root and the user that runs consign may ask", "use sudo")),
    };
    let said = match answer {
        Ok(answer) => Said::Ok(answer),
        Err(refused) => Said::Error(refused),
    };
    if let Err(error) = caller.say(&said).await {
        tracing::debug!(error = %error, "a caller did not wait for its answer");
    }
}

fn gone() -> Refused {
    Refused::request("the caller is gone", "")
}

fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// What the caller asks. None when it says nothing.
async fn request(from: &mut BufReader<OwnedReadHalf>) -> Result<Option<Request>, Refused> {
    let mut line = Vec::new();
    let mut from = from.take(LINE_MAX as u64 + 1);
    match timeout(PATIENCE, from.read_until(b'\n', &mut line)).await {
        Ok(Ok(0)) => return Ok(None),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(Refused::new(Blame::Machine, format!("the line cannot be read: {error}"), "")),
        Err(_) => return Err(Refused::request(format!("no line came within {} s", PATIENCE.as_secs()), "")),
    }
    if line.len() > LINE_MAX {
        return Err(Refused::request(format!("the line is longer than {LINE_MAX} bytes"), "ask for less"));
    }
    let mine = env!("CARGO_PKG_VERSION");
    match serde_json::from_slice(&line) {
        Ok(Preamble { version: VERSION, .. }) => {}
        Ok(Preamble { version, consign }) => {
            let message =
                format!("consign {consign} asks in version {version} of the socket's language, and {mine} runs");
            let help =
                format!("the one that runs speaks version {VERSION}: restart it after an upgrade, or ask with it");
            return Err(Refused::request(message, help));
        }
        Err(error) => return Err(Refused::request(format!("that is no request: {error}"), "ask with `consign`")),
    }
    let unknown = |error| Refused::request(format!("that is no request: {error}"), "ask with the consign that runs");
    serde_json::from_slice(&line).map(Some).map_err(unknown)
}
