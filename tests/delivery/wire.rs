//! A small S3 and STS at the wire, with the rules of AWS that matter here, and a
//! script that can make any request go wrong. Everything is kept for looking at.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;

/// What a request is, as far as a script cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    AssumeRole,
    Create,
    Part,
    Complete,
    Abort,
    List,
    Other,
}

/// What a script wants done with a request.
pub enum Fault {
    /// This answer instead: status, headers, body.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// No answer, ever.
    Stall,
    /// The request is carried out, and the answer takes this long.
    Late(Duration),
    /// The connection ends without an answer and the request has no effect.
    Reset,
    /// The request is carried out, and the connection ends without an answer.
    LoseReply,
    /// The request is carried out, and the answer ends in its middle.
    Truncate,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub call: Call,
    pub key: String,
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub struct Wire {
    pub url: String,
    state: Arc<Mutex<State>>,
    _server: AbortOnDropHandle<()>,
}

type Script = Box<dyn FnMut(&Seen, usize) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    counts: HashMap<Call, usize>,
    created: usize,
    objects: BTreeMap<String, Bytes>,
    content_types: BTreeMap<String, String>,
    uploads: BTreeMap<String, Upload>,
    part_sizes: BTreeMap<String, Vec<usize>>,
    sessions: u32,
    script: Option<Script>,
}

struct Upload {
    key: String,
    content_type: String,
    parts: BTreeMap<u32, Bytes>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Wire {
    /// Starts the server; `script` is asked about every request, with how many of
    /// its kind came before.
    pub async fn start(script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { script: Some(Box::new(script)), ..State::default() }));
        let shared = state.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| serve(shared.clone(), request));
                    // Connections end in errors here by design.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, state, _server: AbortOnDropHandle::new(server) }
    }

    /// A server without faults.
    pub async fn healthy() -> Self {
        Self::start(|_, _| None).await
    }

    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state.lock().unwrap().objects.clone()
    }

    pub fn content_type(&self, key: &str) -> String {
        self.state.lock().unwrap().content_types[key].clone()
    }

    /// Sizes of the parts each object was completed from.
    pub fn part_sizes(&self) -> BTreeMap<String, Vec<usize>> {
        self.state.lock().unwrap().part_sizes.clone()
    }

    /// Uploads neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
    }

    /// Their keys.
    pub fn open(&self) -> Vec<String> {
        self.state.lock().unwrap().uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// An upload that nobody here has created.
    pub fn create(&self, key: &str) {
        let state = &mut *self.state.lock().unwrap();
        state.created += 1;
        let upload = Upload { key: key.into(), content_type: String::new(), parts: BTreeMap::new() };
        state.uploads.insert(format!("upload-{}", state.created), upload);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state.lock().unwrap().script = None;
    }

    pub fn put(&self, key: &str, body: &'static str) {
        self.state.lock().unwrap().objects.insert(key.into(), Bytes::from_static(body.as_bytes()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn count(&self, call: Call) -> usize {
        self.seen().iter().filter(|seen| seen.call == call).count()
    }
}

async fn serve(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let query: HashMap<String, String> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = head.uri.path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
    let call = match head.method {
        Method::POST if path.is_empty() => Call::AssumeRole,
        Method::POST if query.contains_key("uploads") => Call::Create,
        Method::POST if query.contains_key("uploadId") => Call::Complete,
        Method::PUT if query.contains_key("uploadId") => Call::Part,
        Method::DELETE if query.contains_key("uploadId") => Call::Abort,
        Method::GET if query.contains_key("uploads") => Call::List,
        _ => Call::Other,
    };
    let seen = Seen { call, key, query, headers: head.headers, body };
    let fault = {
        let mut state = state.lock().unwrap();
        let count = state.counts.entry(call).or_default();
        let before = *count;
        *count += 1;
        state.seen.push(seen.clone());
        let mut script = state.script.take();
        let fault = script.as_mut().and_then(|script| script(&seen, before));
        state.script = script;
        fault
    };
    let reset = || Err(std::io::Error::other("the connection ends here"));
    match fault {
        Some(Fault::Answer(status, headers, body)) => {
            let headers = headers.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            Ok(respond(Answer { status, headers, body }, false))
        }
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Late(by)) => {
            let answer = state.lock().unwrap().act(&seen);
            tokio::time::sleep(by).await;
            Ok(respond(answer, false))
        }
        Some(Fault::Reset) => reset(),
        Some(Fault::LoseReply) => {
            state.lock().unwrap().act(&seen);
            reset()
        }
        Some(Fault::Truncate) => {
            let answer = state.lock().unwrap().act(&seen);
            Ok(respond(answer, true))
        }
        None => {
            let answer = state.lock().unwrap().act(&seen);
            Ok(respond(answer, false))
        }
    }
}

fn respond(answer: Answer, truncated: bool) -> Response<BoxBody<Bytes, std::io::Error>> {
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).unwrap());
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = Bytes::from(answer.body);
    if truncated {
        let half = body.slice(..body.len() / 2);
        let pieces = [Ok(Frame::data(half)), Err(std::io::Error::other("cut off"))];
        let body = StreamBody::new(futures::stream::iter(pieces).then(|piece| async {
            // Lets the first half out before the connection ends.
            tokio::task::yield_now().await;
            piece
        }));
        return response.body(http_body_util::BodyExt::boxed(body)).unwrap();
    }
    response.body(Full::new(body).map_err(|never: Infallible| match never {}).boxed()).unwrap()
}

impl State {
    fn act(&mut self, seen: &Seen) -> Answer {
        if seen.call == Call::AssumeRole {
            return self.assume_role();
        }
        let owner = seen.headers.get("x-amz-expected-bucket-owner").map(|v| v.to_str().unwrap());
        if owner != Some("123456789012") {
            return error(403, "AccessDenied", "Access Denied");
        }
        let id = seen.query.get("uploadId").cloned().unwrap_or_default();
        match seen.call {
            Call::Create => {
                assert_eq!(seen.headers["x-amz-checksum-algorithm"], "CRC64NVME");
                assert_eq!(seen.headers["x-amz-checksum-type"], "FULL_OBJECT");
                // Not by the count of requests: two may have been counted before either is carried out.
                self.created += 1;
                let id = format!("upload-{}", self.created);
                let content_type = seen.headers["content-type"].to_str().unwrap().to_owned();
                self.uploads.insert(id.clone(), Upload { key: seen.key.clone(), content_type, parts: BTreeMap::new() });
                let body =
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                let headers = vec![("x-amz-checksum-type".to_owned(), "FULL_OBJECT".to_owned())];
                Answer { status: 200, headers, body }
            }
            Call::Part => match self.uploads.get_mut(&id) {
                None => no_such_upload(),
                Some(_) if seen.headers["x-amz-checksum-crc64nvme"] != crc(&seen.body).as_str() => {
                    error(400, "BadDigest", "The CRC64NVME you specified did not match")
                }
                Some(upload) => {
                    let number = seen.query["partNumber"].parse().unwrap();
                    upload.parts.insert(number, seen.body.clone());
                    Answer {
                        status: 200,
                        headers: vec![("ETag".into(), format!("\"etag-{number}\""))],
                        body: String::new(),
                    }
                }
            },
            Call::Complete => self.complete(seen, &id),
            Call::Abort => match self.uploads.remove(&id) {
                None => no_such_upload(),
                Some(_) => Answer { status: 204, headers: Vec::new(), body: String::new() },
            },
            Call::List => self.list(&seen.query),
            Call::AssumeRole | Call::Other => error(501, "NotImplemented", "not here"),
        }
    }

    fn complete(&mut self, seen: &Seen, id: &str) -> Answer {
        let Some(upload) = self.uploads.get(id) else { return no_such_upload() };
        if seen.headers.contains_key("if-none-match") && self.objects.contains_key(&upload.key) {
            return error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
        }
        let listed = String::from_utf8_lossy(&seen.body).matches("<PartNumber>").count();
        if listed != upload.parts.len() {
            return error(400, "InvalidPart", "One or more of the specified parts could not be found");
        }
        let sizes: Vec<usize> = upload.parts.values().map(Bytes::len).collect();
        if sizes.iter().rev().skip(1).any(|size| *size < 5 << 20) {
            return error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
        }
        let whole: Vec<u8> = upload.parts.values().flat_map(|part| part.iter().copied()).collect();
        if seen.headers["x-amz-checksum-crc64nvme"] != crc(&whole).as_str()
            || seen.headers["x-amz-checksum-type"] != "FULL_OBJECT"
            || seen.headers["x-amz-mp-object-size"] != whole.len().to_string().as_str()
        {
            return error(400, "BadDigest", "The CRC64NVME you specified did not match");
        }
        let (crc, key) = (crc(&whole), upload.key.clone());
        self.content_types.insert(key.clone(), upload.content_type.clone());
        self.uploads.remove(id);
        self.part_sizes.insert(key.clone(), sizes);
        self.objects.insert(key, whole.into());
        let body = format!(
            "<CompleteMultipartUploadResult><ETag>\"whole-{id}\"</ETag><ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>\
             <ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>"
        );
        Answer { status: 200, headers: Vec::new(), body }
    }

    /// Two uploads a page.
    fn list(&self, query: &HashMap<String, String>) -> Answer {
        let asked = |name: &str| query.get(name).cloned().unwrap_or_default();
        let after = (asked("key-marker"), asked("upload-id-marker"));
        let mut open: Vec<_> = self.uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect();
        open.retain(|of| of.0.starts_with(&asked("prefix")) && *of > after);
        open.sort();
        let page = &open[..open.len().min(2)];
        let uploads: String = page
            .iter()
            .map(|(key, id)| format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>"))
            .collect();
        let (key, id) = page.last().cloned().unwrap_or_default();
        let body = format!(
            "<ListMultipartUploadsResult><IsTruncated>{}</IsTruncated><NextKeyMarker>{key}</NextKeyMarker>\
             <NextUploadIdMarker>{id}</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>",
            page.len() < open.len()
        );
        Answer { status: 200, headers: Vec::new(), body }
    }

    fn assume_role(&mut self) -> Answer {
        self.sessions += 1;
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>ASIA{n}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>token-{n}</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
            n = self.sessions
        );
        Answer { status: 200, headers: vec![("content-type".into(), "text/xml".into())], body }
    }
}

pub fn crc(bytes: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(Crc64Nvme, bytes).to_be_bytes())
}

pub fn s3_error(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer { status, headers: Vec::new(), body: s3_error(code, message) }
}

fn no_such_upload() -> Answer {
    error(404, "NoSuchUpload", "The specified upload does not exist")
}
