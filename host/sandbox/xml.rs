//! Answers in XML: what S3 and STS have in common.

use http::{HeaderValue, Response, StatusCode};
use s3s::Body;

/// A refusal as AWS words it.
pub(super) struct Rejection {
    pub status: StatusCode,
    pub code: String,
    pub message: String,
    /// Further elements of S3's error document.
    pub details: Vec<(&'static str, String)>,
    pub region: Option<String>,
}

impl Rejection {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), details: Vec::new(), region: None }
    }
}

pub(super) fn document(status: StatusCode, xml: String) -> Response<Body> {
    let mut response = Response::new(Body::from(xml));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
    response
}

/// Appends an XML element whose text is escaped.
pub(super) fn element(xml: &mut String, name: &str, text: &str) {
    xml.push_str(&format!("<{name}>"));
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            c => xml.push(c),
        }
    }
    xml.push_str(&format!("</{name}>"));
}

/// The text of an element in a small error document.
pub(super) fn text_in<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}
