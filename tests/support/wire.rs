//! A line to S3 and STS on which anything can go wrong: a server that asks a script
//! about every request, has whoever is behind it carry the request out, and keeps
//! what was asked and answered, in order.

mod front;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use url::form_urlencoded;

pub use front::{Behind, Front, pass_on};

/// What a request is, as far as a script cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    AssumeRole,
    Create,
    Part,
    Complete,
    Abort,
    /// What uploads there are.
    List,
    Other,
}

/// What a script wants done with a request.
#[derive(Clone)]
pub enum Fault {
    /// This answer instead: status, headers, body.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// No answer, ever.
    Stall,
    /// The request is carried out, and the answer takes this long.
    Late(Duration),
    /// The request is carried out after this long, whether or not anybody still waits for it.
    Delayed(Duration),
    /// The connection ends without an answer and the request has no effect.
    Reset,
    /// The request is carried out, and the connection ends without an answer.
    LoseReply,
    /// The request is carried out, and the answer ends in its middle.
    Truncate,
    /// The request is carried out, and the answer comes a little at a time.
    Drip(Duration),
    /// For so long every request is cut off, or not answered.
    Partition { hangs: bool, lasts: Duration },
    /// Who asked dies, before the request is carried out or after it.
    Kill { carried_out: bool },
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Answer(status, _, body) => write!(f, "{status} {}", code_in(body.as_bytes()).unwrap_or_default()),
            Fault::Stall => f.write_str("stall"),
            Fault::Late(by) => write!(f, "late by {by:?}"),
            Fault::Delayed(by) => write!(f, "delayed by {by:?}"),
            Fault::Reset => f.write_str("reset"),
            Fault::LoseReply => f.write_str("lost reply"),
            Fault::Truncate => f.write_str("truncated reply"),
            Fault::Drip(over) => write!(f, "dripped over {over:?}"),
            Fault::Partition { hangs: true, lasts } => write!(f, "hanging for {lasts:?}"),
            Fault::Partition { hangs: false, lasts } => write!(f, "cut off for {lasts:?}"),
            Fault::Kill { carried_out: false } => f.write_str("kill before"),
            Fault::Kill { carried_out: true } => f.write_str("kill after"),
        }
    }
}

/// Asked about every request, with how many of its kind came before.
pub type Script = Box<dyn FnMut(&Seen, usize) -> Option<Fault> + Send>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub call: Call,
    pub method: Method,
    /// Path and query, as they were signed.
    pub target: String,
    pub bucket: String,
    pub key: String,
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    async fn read(request: Request<Incoming>) -> io::Result<Self> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self::new(head.method, target, head.headers, body))
    }

    pub fn new(method: Method, target: String, headers: HeaderMap, body: Bytes) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let call = match method {
            Method::POST if path.is_empty() => Call::AssumeRole,
            Method::POST if query.contains_key("uploads") => Call::Create,
            Method::POST if query.contains_key("uploadId") => Call::Complete,
            Method::PUT if query.contains_key("uploadId") => Call::Part,
            Method::DELETE if query.contains_key("uploadId") => Call::Abort,
            Method::GET if query.contains_key("uploads") => Call::List,
            _ => Call::Other,
        };
        Self { call, method, target, bucket, key, query, headers, body }
    }

    pub fn upload_id(&self) -> &str {
        self.query.get("uploadId").map_or("", String::as_str)
    }

    /// Whom it is signed by.
    pub fn access_key(&self) -> &str {
        let signed = self.header("authorization").and_then(|text| text.split_once("Credential="));
        signed.and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
    }

    /// The fields of a form.
    pub fn form(&self) -> HashMap<String, String> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    /// With a body of XML, or none.
    pub fn new(status: u16, headers: Vec<(String, String)>, body: impl Into<Bytes>) -> Self {
        Self { status, headers, body: body.into() }
    }

    /// Also not an error in a 200.
    pub fn is_success(&self) -> bool {
        self.status < 300 && code_in(&self.body).is_none()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One request, with what became of it. Instants are places in one order of all that happened.
#[derive(Clone, Debug)]
pub struct Event {
    pub seen: Seen,
    pub began: u64,
    pub fault: Option<Fault>,
    /// What the server said, and when: whether or not anybody heard it.
    pub carried_out: Option<(u64, Answer)>,
    /// An answer, whoever made it up, has gone out whole: when, and its status.
    pub told: Option<(u64, u16)>,
    /// How long it was until then. Nobody may have waited for it.
    pub took: Duration,
}

pub fn s3_error(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

pub fn sts_error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

/// The code of an error, if the body is one.
pub fn code_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let is_error = text.contains("<Error>") || text.contains("<Error ");
    is_error.then(|| element(text, "Code")).flatten()
}

/// The text of the first element of that name.
pub fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.replace("&quot;", "\"").replace("&#34;", "\""))
}
