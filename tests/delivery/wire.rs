//! A small S3 and STS at the wire, with the rules of AWS that matter here, and a
//! script that can make any request go wrong. Everything is kept for looking at.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{SecondsFormat, TimeDelta};
use consign::clock::{Clock, Instant};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::wire::{Answer, Behind, Front};
pub use crate::support::wire::{Call, Fault, Seen, s3_error, sts_error};

pub struct Wire {
    pub url: String,
    front: Arc<Front<Scripted>>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Scripted(Mutex<State>);

impl Behind for Scripted {
    async fn carry_out(&self, seen: &Seen) -> io::Result<Answer> {
        Ok(self.0.lock().unwrap().act(seen))
    }
}

#[derive(Default)]
struct State {
    created: usize,
    objects: BTreeMap<String, Bytes>,
    content_types: BTreeMap<String, String>,
    uploads: BTreeMap<String, Upload>,
    part_sizes: BTreeMap<String, Vec<usize>>,
    sessions: u32,
}

struct Upload {
    key: String,
    begun: Instant,
    content_type: String,
    parts: BTreeMap<u32, Bytes>,
}

impl Wire {
    /// Starts the server; `script` is asked about every request, with how many of
    /// its kind came before.
    pub async fn start(script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let front = Front::new(Scripted::default(), Box::new(script));
        let server = tokio::spawn(front.clone().serve(listener));
        Self { url, front, _server: AbortOnDropHandle::new(server) }
    }

    /// A server without faults.
    pub async fn healthy() -> Self {
        Self::start(|_, _| None).await
    }

    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.clone()
    }

    pub fn content_type(&self, key: &str) -> String {
        self.state().content_types[key].clone()
    }

    /// Sizes of the parts each object was completed from.
    pub fn part_sizes(&self) -> BTreeMap<String, Vec<usize>> {
        self.state().part_sizes.clone()
    }

    /// Uploads neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Their keys.
    pub fn open(&self) -> Vec<String> {
        self.state().uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// An upload that nobody here has created, an hour ago.
    pub fn create(&self, key: &str) {
        self.created(key, Clock::system().now() - TimeDelta::hours(1));
    }

    /// The same at this moment.
    pub fn create_now(&self, key: &str) {
        self.created(key, Clock::system().now());
    }

    fn created(&self, key: &str, begun: Instant) {
        let mut state = self.state();
        state.created += 1;
        let id = format!("upload-{}", state.created);
        let upload = Upload { key: key.into(), begun, content_type: String::new(), parts: BTreeMap::new() };
        state.uploads.insert(id, upload);
    }

    /// Somebody aborts whatever uploads of this key there are.
    pub fn end(&self, key: &str) {
        self.state().uploads.retain(|_, upload| upload.key != key);
    }

    /// From now on this goes wrong.
    pub fn obey(&self, script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) {
        self.front.obey(Box::new(script));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.front.obey(Box::new(|_, _| None));
    }

    pub fn put(&self, key: &str, body: &'static str) {
        self.state().objects.insert(key.into(), Bytes::from_static(body.as_bytes()));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.front.events().into_iter().map(|event| event.seen).collect()
    }

    pub fn count(&self, call: Call) -> usize {
        self.seen().iter().filter(|seen| seen.call == call).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.front.behind.0.lock().unwrap()
    }
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
        let id = seen.upload_id().to_owned();
        match seen.call {
            Call::Create => {
                assert_eq!(seen.headers["x-amz-checksum-algorithm"], "CRC64NVME");
                assert_eq!(seen.headers["x-amz-checksum-type"], "FULL_OBJECT");
                // Not by the count of requests: two may have been counted before either is carried out.
                self.created += 1;
                let id = format!("upload-{}", self.created);
                let content_type = seen.headers["content-type"].to_str().unwrap().to_owned();
                let (key, begun) = (seen.key.clone(), Clock::system().now());
                self.uploads.insert(id.clone(), Upload { key, begun, content_type, parts: BTreeMap::new() });
                let body =
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                let headers = vec![("x-amz-checksum-type".to_owned(), "FULL_OBJECT".to_owned())];
                Answer::new(200, headers, body)
            }
            Call::Part => match self.uploads.get_mut(&id) {
                None => no_such_upload(),
                Some(_) if seen.headers["x-amz-checksum-crc64nvme"] != crc(&seen.body).as_str() => {
                    error(400, "BadDigest", "The CRC64NVME you specified did not match")
                }
                Some(upload) => {
                    let number = seen.query["partNumber"].parse().unwrap();
                    upload.parts.insert(number, seen.body.clone());
                    Answer::new(200, vec![("ETag".into(), format!("\"etag-{number}\""))], "")
                }
            },
            Call::Complete => self.complete(seen, &id),
            Call::Abort => match self.uploads.remove(&id) {
                None => no_such_upload(),
                Some(_) => Answer::new(204, Vec::new(), ""),
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
        let body = String::from_utf8_lossy(&seen.body);
        let listed = body.split("<PartNumber>").skip(1).map(|rest| rest.split('<').next().unwrap().parse().unwrap());
        // Those that are there and not listed are no part of it.
        let Some(parts) = listed.map(|number| upload.parts.get(&number)).collect::<Option<Vec<&Bytes>>>() else {
            return error(400, "InvalidPart", "One or more of the specified parts could not be found");
        };
        let sizes: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        if sizes.iter().rev().skip(1).any(|size| *size < 5 << 20) {
            return error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
        }
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
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
        Answer::new(200, Vec::new(), body)
    }

    /// Two uploads a page.
    fn list(&self, query: &HashMap<String, String>) -> Answer {
        let asked = |name: &str| query.get(name).cloned().unwrap_or_default();
        let after = (asked("key-marker"), asked("upload-id-marker"));
        let mut open: Vec<_> =
            self.uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone(), upload.begun)).collect();
        open.retain(|(key, id, _)| key.starts_with(&asked("prefix")) && (key, id) > (&after.0, &after.1));
        open.sort();
        let page = &open[..open.len().min(2)];
        let uploads: String = page
            .iter()
            .map(|(key, id, begun)| {
                let begun = begun.to_rfc3339_opts(SecondsFormat::Millis, true);
                format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>")
            })
            .collect();
        let (key, id, _) = page.last().cloned().unwrap_or_default();
        let body = format!(
            "<ListMultipartUploadsResult><IsTruncated>{}</IsTruncated><NextKeyMarker>{key}</NextKeyMarker>\
             <NextUploadIdMarker>{id}</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>",
            page.len() < open.len()
        );
        Answer::new(200, Vec::new(), body)
    }

    fn assume_role(&mut self) -> Answer {
        self.sessions += 1;
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>ASIA{n}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>token-{n}</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
            n = self.sessions
        );
        Answer::new(200, vec![("content-type".into(), "text/xml".into())], body)
    }
}

pub fn crc(bytes: &[u8]) -> String {
    STANDARD.encode(crc_fast::checksum(Crc64Nvme, bytes).to_be_bytes())
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status, Vec::new(), s3_error(code, message))
}

fn no_such_upload() -> Answer {
    error(404, "NoSuchUpload", "The specified upload does not exist")
}
