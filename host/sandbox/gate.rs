//! What happens to every request before and after s3s: clock, key, session token and region are
//! checked here, because s3s knows only the machine's clock and nothing of tokens and regions.
//! The signature itself is s3s's to verify.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use chrono::{NaiveDateTime, TimeDelta};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use s3s::Body;
use s3s::crypto::{Checksum as _, Sha256};
use s3s::service::S3Service;

use super::identity::{Caller, Refusal};
use super::ingest::payload_hash_mismatch;
use super::journal::{Draft, Entry};
use super::xml::{Rejection, document, element, text_in};
use super::{Shared, sts};
use crate::domain::hex;

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, `RequestTimeTooSkewed`.
const SKEW_MAX: TimeDelta = TimeDelta::minutes(15);
/// The largest XML or form body read into memory, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// How much of an unread upload is taken in after it was refused, so that the client gets to read why.
const DRAIN_BYTES_MAX: u64 = 64 << 20;

/// The credential scope of an `Authorization` header.
struct Scope {
    access_key: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
}

pub(super) async fn handle(shared: &Shared, service: &S3Service, request: Request<Incoming>) -> Response<Body> {
    let request_id = format!("{:016X}", shared.requests.fetch_add(1, Ordering::Relaxed) + 1);
    let (mut parts, body) = request.into_parts();
    let drain = !parts.headers.contains_key("expect");
    let body = Upload { incoming: Some(body), drain };
    let scope = Scope::of(&parts.headers);
    let for_sts = scope.as_ref().is_some_and(|scope| scope.service == "sts") || sts::is_sts(&parts.method, &parts.uri);
    let draft = Draft::default();
    let (bucket, key) = target(&parts);
    let mut entry = Entry {
        at: shared.clock.now(),
        operation: parts.method.to_string(),
        bucket,
        key,
        caller: None,
        status: 0,
        code: None,
    };

    let admitted = admit(shared, &parts, scope.as_ref(), entry.bucket.as_deref(), for_sts);
    let answer = match admitted {
        Ok(caller) => {
            entry.caller = Some(caller.arn.clone());
            parts.extensions.insert(caller);
            parts.extensions.insert(draft.clone());
            forward(service, parts, body).await
        }
        Err(rejection) => Err(rejection),
    };
    let mut response = match answer {
        Ok(response) if for_sts => sts::in_sts_form(response, &request_id),
        Ok(response) => response,
        Err(rejection) if for_sts => sts::refuse(&rejection, &request_id),
        Err(rejection) => refuse(&rejection, &request_id),
    };
    finish(shared, &mut response, &request_id);
    entry.operation = draft.operation().unwrap_or(entry.operation);
    entry.status = response.status().as_u16();
    entry.code = (entry.status >= 300).then(|| response.body().bytes().and_then(|body| code_in(&body))).flatten();
    shared.journal.add(entry);
    response
}

/// Hands a request to s3s. Documents are read and compared with their signed hash first: s3s would
/// answer a mismatch there with 500, which clients retry.
async fn forward(service: &S3Service, parts: Parts, body: Upload) -> Result<Response<Body>, Rejection> {
    let is_document = parts.method == Method::POST || parts.uri.query().is_some_and(|query| query.contains("tagging"));
    let body = if is_document {
        let too_large =
            || Rejection::new(StatusCode::BAD_REQUEST, "MaxMessageLengthExceeded", "Your request was too large.");
        let collected = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await.map_err(|_| too_large())?;
        let bytes = collected.to_bytes();
        verify_payload_hash(&parts.headers, &bytes)?;
        Body::from(bytes)
    } else {
        Body::http_body_unsync(body)
    };
    let internal = || Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The sandbox failed.");
    service.call(Request::from_parts(parts, body)).await.map_err(|_| internal())
}

fn verify_payload_hash(headers: &HeaderMap, bytes: &Bytes) -> Result<(), Rejection> {
    let declared = headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_hash = declared.len() == 64 && declared.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash && !declared.eq_ignore_ascii_case(&hex(&Sha256::checksum(bytes))) {
        let error = payload_hash_mismatch();
        let message = error.message().unwrap_or_default().to_owned();
        return Err(Rejection::new(StatusCode::BAD_REQUEST, error.code().as_str(), message));
    }
    Ok(())
}

fn admit(
    shared: &Shared,
    parts: &Parts,
    scope: Option<&Scope>,
    bucket: Option<&str>,
    for_sts: bool,
) -> Result<Caller, Rejection> {
    let Some(scope) = scope else {
        let is_signed = parts.headers.contains_key("authorization")
            || parts.uri.query().is_some_and(|query| query.contains("Signature="));
        return Err(if is_signed {
            let message = "The authorization mechanism you have provided is not supported. \
                           The sandbox takes AWS4-HMAC-SHA256 in the Authorization header.";
            Rejection::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
        } else if for_sts {
            Rejection::new(
                StatusCode::FORBIDDEN,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            )
        } else {
            Rejection::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied")
        });
    };
    check_time(shared, &parts.headers, for_sts)?;
    check_signed_headers(&parts.headers, scope)?;
    let token = parts.headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
    let caller = shared
        .identities
        .resolve(&scope.access_key, token, shared.clock.now())
        .map_err(|refusal| refused_key(refusal, for_sts))?;
    if let Some((_, bucket)) = bucket.and_then(|name| shared.bucket(name))
        && !for_sts
        && bucket.region != scope.region
    {
        return Err(wrong_region(&bucket.name, &bucket.region, &scope.region));
    }
    Ok(caller)
}

fn refused_key(refusal: Refusal, for_sts: bool) -> Rejection {
    let expired = "The provided token has expired.";
    let (status, code, message) = match (refusal, for_sts) {
        (Refusal::UnknownKey, false) => {
            (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
        }
        (Refusal::WrongToken, false) => (400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
        (Refusal::Expired, false) => (400, "ExpiredToken", expired),
        (Refusal::Expired, true) => (403, "ExpiredToken", "The security token included in the request is expired"),
        (_, true) => (403, "InvalidClientTokenId", "The security token included in the request is invalid."),
    };
    Rejection::new(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), code, message)
}

fn check_time(shared: &Shared, headers: &HeaderMap, for_sts: bool) -> Result<(), Rejection> {
    let text = headers.get("x-amz-date").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(sent) = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ") else {
        let message = "AWS authentication requires a valid Date or x-amz-date header";
        return Err(Rejection::new(StatusCode::FORBIDDEN, "AccessDenied", message));
    };
    let now = shared.clock.now();
    if (now - sent.and_utc()).abs() <= SKEW_MAX {
        return Ok(());
    }
    if for_sts {
        let message = format!(
            "Signature not valid at this time: {text} is not within 15 min. of {}",
            now.format("%Y%m%dT%H%M%SZ")
        );
        return Err(Rejection::new(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message));
    }
    let message = "The difference between the request time and the current time is too large.";
    let mut rejection = Rejection::new(StatusCode::FORBIDDEN, "RequestTimeTooSkewed", message);
    rejection.details = vec![
        ("RequestTime", text.to_owned()),
        ("ServerTime", now.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("MaxAllowedSkewMilliseconds", SKEW_MAX.num_milliseconds().to_string()),
    ];
    Err(rejection)
}

/// An `x-amz-` header that is not signed could have been added on the way.
fn check_signed_headers(headers: &HeaderMap, scope: &Scope) -> Result<(), Rejection> {
    let signed = |name: &str| scope.signed_headers.iter().any(|signed| signed == name);
    let unsigned: Vec<&str> =
        headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-amz-") && !signed(name)).collect();
    if unsigned.is_empty() && signed("host") {
        return Ok(());
    }
    let message = "There were headers present in the request which were not signed";
    let mut rejection = Rejection::new(StatusCode::FORBIDDEN, "AccessDenied", message);
    rejection.details = vec![("HeadersNotSigned", unsigned.join(", "))];
    Err(rejection)
}

/// A client set to us-east-1 reaches the bucket's own region, which finds the signature's region
/// wrong; any other region's endpoint only knows where the bucket is.
fn wrong_region(bucket: &str, actual: &str, signed: &str) -> Rejection {
    let mut rejection = if signed == "us-east-1" {
        let message =
            format!("The authorization header is malformed; the region '{signed}' is wrong; expecting '{actual}'");
        Rejection::new(StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", message)
    } else {
        let message = "The bucket you are attempting to access must be addressed using the specified endpoint. \
                       Please send all future requests to this endpoint.";
        let mut rejection = Rejection::new(StatusCode::MOVED_PERMANENTLY, "PermanentRedirect", message);
        rejection.details = vec![("Endpoint", format!("s3.{actual}.amazonaws.com")), ("Bucket", bucket.to_owned())];
        rejection
    };
    rejection.details.push(("Region", actual.to_owned()));
    rejection.region = Some(actual.to_owned());
    rejection
}

fn refuse(rejection: &Rejection, request_id: &str) -> Response<Body> {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
    element(&mut xml, "Code", &rejection.code);
    element(&mut xml, "Message", &rejection.message);
    for (name, value) in &rejection.details {
        element(&mut xml, name, value);
    }
    element(&mut xml, "RequestId", request_id);
    xml.push_str("</Error>");
    let mut response = document(rejection.status, xml);
    if let Some(region) = rejection.region.as_deref().and_then(|region| HeaderValue::from_str(region).ok()) {
        response.headers_mut().insert("x-amz-bucket-region", region);
    }
    response
}

fn finish(shared: &Shared, response: &mut Response<Body>, request_id: &str) {
    // Clients correct their clock by this header, so it has to be the sandbox's.
    let date = shared.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (name, value) in [("date", date.as_str()), ("x-amz-request-id", request_id), ("server", "consign-sandbox")] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The bucket and key of a path-style request.
fn target(parts: &Parts) -> (Option<String>, Option<String>) {
    let decode = |text: &str| {
        // Unlike in forms, a plus is itself in a path.
        let text = text.replace('+', "%2B");
        url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned())
    };
    let path = parts.uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let escape = |text: &str| text.replace('&', "%26").replace('=', "%3D");
    (decode(&escape(bucket)).filter(|b| !b.is_empty()), decode(&escape(key)).filter(|k| !k.is_empty()))
}

impl Scope {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("authorization")?.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256")?;
        let field = |name: &str| text.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let mut credential = field("Credential")?.split('/');
        Some(Self {
            access_key: credential.next()?.to_owned(),
            region: credential.nth(1)?.to_owned(),
            service: credential.next()?.to_owned(),
            signed_headers: field("SignedHeaders")?.split(';').map(str::to_owned).collect(),
        })
    }
}

fn code_in(body: &Bytes) -> Option<String> {
    text_in(std::str::from_utf8(body).ok()?, "Code").map(str::to_owned)
}

/// A request's body. If it is dropped before its end, the rest is still taken in: closing the
/// connection instead would reset it, and the client might never see the answer.
struct Upload {
    incoming: Option<Incoming>,
    /// Off when the client waits for "100 Continue" and so has sent nothing yet.
    drain: bool,
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.incoming = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), hyper::body::Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut incoming) =
            self.incoming.take().filter(|body| self.drain && !hyper::body::Body::is_end_stream(body))
        else {
            return;
        };
        // Dropped outside of a runtime, there is no connection left to drain.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut left = DRAIN_BYTES_MAX;
            while let Some(Ok(frame)) = incoming.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
                if left == 0 {
                    break;
                }
            }
        });
    }
}
