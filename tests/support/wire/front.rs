//! The server on the line: what goes wrong is done here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::RwLock;

use super::{Answer, Call, Event, Fault, Script, Seen};

/// Who carries requests out.
pub trait Behind: Send + Sync + 'static {
    fn carry_out(&self, seen: &Seen) -> impl Future<Output = io::Result<Answer>> + Send;

    /// What is kept of a request: not its body, if that is large and seen already.
    fn keep(&self, seen: &Seen) -> Seen {
        seen.clone()
    }

    /// Kills whoever asks from this port.
    fn kill(&self, _port: u16) {}
}

/// Shared by all connections.
pub struct Front<B> {
    pub behind: B,
    state: Mutex<State>,
    /// Shut while somebody dies, who gets no further meanwhile.
    gate: RwLock<()>,
}

#[derive(Default)]
struct State {
    script: Option<Script>,
    counts: HashMap<Call, usize>,
    events: Vec<Event>,
    now: u64,
    carrying: usize,
    partition: Option<(Instant, bool)>,
}

impl State {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

type Body = BoxBody<Bytes, io::Error>;

impl<B: Behind> Front<B> {
    pub fn new(behind: B, script: Script) -> Arc<Self> {
        let state = State { script: Some(script), ..State::default() };
        Arc::new(Self { behind, state: Mutex::new(state), gate: RwLock::default() })
    }

    /// Goes by another script from now on, counts anew, and ends any partition.
    pub fn obey(&self, script: Script) {
        let mut state = self.state();
        state.script = Some(script);
        state.counts.clear();
        state.partition = None;
    }

    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// How many requests came, and how many of them are being carried out.
    pub fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.events.len(), state.carrying)
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            let front = self.clone();
            tokio::spawn(async move {
                if front.is_cut_off() {
                    return reset(&stream);
                }
                let service = hyper::service::service_fn(move |request| front.clone().answer(request, peer.port()));
                // Connections end in errors here by design.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn is_cut_off(&self) -> bool {
        self.state().partition.is_some_and(|(until, hangs)| !hangs && Instant::now() < until)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, port: u16) -> io::Result<Response<Body>> {
        let seen = Seen::read(request).await?;
        let came = Instant::now();
        drop(self.gate.read().await);
        let (number, fault) = self.begin(&seen);
        let respond = |answer, dripping| self.respond((number, came), answer, dripping);
        let cut = || Err(io::Error::other("the connection ends here"));
        match fault {
            None => respond(self.carry_out(number, seen, Duration::ZERO).await?, None),
            Some(Fault::Answer(status, headers, body)) => {
                let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                respond(Answer::new(status, headers, body), None)
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Late(by)) => {
                let answer = self.carry_out(number, seen, Duration::ZERO).await?;
                tokio::time::sleep(by).await;
                respond(answer, None)
            }
            Some(Fault::Delayed(by)) => respond(self.carry_out(number, seen, by).await?, None),
            Some(Fault::Reset) => cut(),
            Some(Fault::LoseReply) => {
                self.carry_out(number, seen, Duration::ZERO).await?;
                cut()
            }
            Some(Fault::Truncate) => Ok(truncated(self.carry_out(number, seen, Duration::ZERO).await?)),
            Some(Fault::Drip(over)) => respond(self.carry_out(number, seen, Duration::ZERO).await?, Some(over)),
            Some(Fault::Partition { hangs, lasts }) => {
                if hangs {
                    tokio::time::sleep(lasts).await;
                }
                cut()
            }
            Some(Fault::Kill { carried_out }) => {
                let _shut = self.gate.write().await;
                if carried_out {
                    self.carry_out(number, seen, Duration::ZERO).await?;
                }
                self.behind.kill(port);
                cut()
            }
        }
    }

    /// Writes the request down; returns its place and what is to go wrong.
    fn begin(&self, seen: &Seen) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let count = state.counts.entry(seen.call).or_default();
        let before = *count;
        *count += 1;
        let left =
            state.partition.and_then(|(until, hangs)| Some((until.checked_duration_since(Instant::now())?, hangs)));
        let fault = match left {
            Some((lasts, hangs)) => Some(Fault::Partition { hangs, lasts }),
            None => state.script.as_mut().and_then(|script| script(seen, before)),
        };
        if let (None, Some(Fault::Partition { hangs, lasts })) = (left, &fault) {
            state.partition = Some((Instant::now() + *lasts, *hangs));
        }
        let began = state.tick();
        let seen = self.behind.keep(seen);
        state.events.push(Event {
            seen,
            began,
            fault: fault.clone(),
            carried_out: None,
            told: None,
            took: Duration::ZERO,
        });
        (state.events.len() - 1, fault)
    }

    /// To its end, also when whoever asked has gone.
    async fn carry_out(self: &Arc<Self>, number: usize, seen: Seen, after: Duration) -> io::Result<Answer> {
        let front = self.clone();
        front.state().carrying += 1;
        let carrying = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let answer = front.behind.carry_out(&seen).await;
            let mut state = front.state();
            let now = state.tick();
            if let Ok(answer) = &answer {
                state.events[number].carried_out = Some((now, answer.clone()));
            }
            state.carrying -= 1;
            answer
        });
        carrying.await.map_err(io::Error::other)?
    }

    fn respond(
        &self,
        (number, came): (usize, Instant),
        answer: Answer,
        dripping: Option<Duration>,
    ) -> io::Result<Response<Body>> {
        let mut state = self.state();
        let now = state.tick();
        let event = &mut state.events[number];
        (event.told, event.took) = (Some((now, answer.status)), came.elapsed());
        drop(state);
        Ok(match dripping {
            None => whole(answer),
            Some(over) => dripped(answer, over),
        })
    }
}

/// What is about the connection, and not the answer.
const HOP_BY_HOP: [&str; 4] = ["connection", "content-length", "keep-alive", "transfer-encoding"];

fn head(answer: &Answer) -> http::response::Builder {
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    for (name, value) in &answer.headers {
        if !HOP_BY_HOP.contains(&name.as_str()) {
            response = response.header(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
    }
    response
}

fn whole(answer: Answer) -> Response<Body> {
    head(&answer).body(Full::new(answer.body).map_err(|never: Infallible| match never {}).boxed()).unwrap()
}

fn truncated(answer: Answer) -> Response<Body> {
    let half = answer.body.slice(..answer.body.len() / 2);
    let pieces = [Ok(Frame::data(half)), Err(io::Error::other("cut off"))];
    let body = StreamBody::new(futures::stream::iter(pieces).then(|piece| async {
        // Lets the first half out before the connection ends.
        tokio::task::yield_now().await;
        piece
    }));
    head(&answer).body(http_body_util::BodyExt::boxed(body)).unwrap()
}

/// In ten pieces.
fn dripped(answer: Answer, over: Duration) -> Response<Body> {
    let body = answer.body.clone();
    let size = body.len().div_ceil(10).max(1);
    let pieces = (0..10).map(move |piece| {
        let (from, to) = (piece * size, (piece + 1) * size);
        Ok(Frame::data(body.slice(from.min(body.len())..to.min(body.len()))))
    });
    let body = StreamBody::new(futures::stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(over / 10).await;
        piece
    }));
    head(&answer).body(http_body_util::BodyExt::boxed(body)).unwrap()
}

/// Ends a connection so that the other side is told of a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Carries requests out at a server.
pub async fn pass_on(server: SocketAddr, seen: &Seen) -> io::Result<Answer> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(seen.method.clone()).uri(&seen.target);
    // Host too, which is part of what was signed.
    for (name, value) in &seen.headers {
        if !HOP_BY_HOP.contains(&name.as_str()) {
            request = request.header(name, value);
        }
    }
    let request = request.header("content-length", seen.body.len()).body(Full::new(seen.body.clone())).unwrap();
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    Ok(Answer { status: head.status.as_u16(), headers, body })
}
