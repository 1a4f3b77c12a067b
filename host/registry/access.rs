//! How a registry lets somebody in: it refuses, says how to ask, and is asked
//! again with a password or with a token that was got for it (RFC 7617, RFC 6750,
//! and the token protocol of the CNCF's distribution).

use std::collections::BTreeMap;

use base64::Engine as _;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use crate::domain::Secret;

/// Who to be, if anybody.
pub(super) struct Login {
    pub username: String,
    pub password: Secret,
}

impl Login {
    pub fn basic(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password.reveal());
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Of an answer of 401; a token is preferred. Err is what it asks for instead.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        let asked: Vec<&str> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let after = |scheme: &str| {
            let is_it = |text: &&&str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
            asked.iter().find(is_it).map(|text| &text[scheme.len()..])
        };
        if let Some(parameters) = after("Bearer ").map(parameters) {
            let of = |name: &str| parameters.get(name).cloned();
            let Some(realm) = of("realm") else { return Err("a token from nowhere".into()) };
            return Ok(Self::Bearer { realm, service: of("service"), scope: of("scope") });
        }
        match after("Basic") {
            Some(_) => Ok(Self::Basic),
            None => Err(if asked.is_empty() { "it does not say how".into() } else { asked.join(", ") }),
        }
    }
}

/// `name="value"` after `name="value"`, with commas between them.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name.trim_matches([' ', ',']).to_ascii_lowercase(), value.trim().to_owned());
        rest = next;
    }
    found
}

/// A header that no log of the HTTP client shows.
pub(super) fn hidden(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(values: &[&str]) -> Result<Challenge, String> {
        let headers = values.iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap()));
        Challenge::of(&headers.collect())
    }

    #[test]
    fn challenges_are_understood() {
        assert_eq!(asks(&["Basic realm=\"x\""]), Ok(Challenge::Basic));
        let bearer =
            "Bearer realm=\"https://auth.example.com/token\",service=\"reg, one\",scope=\"repository:a/b:pull,push\"";
        let expected = Challenge::Bearer {
            realm: "https://auth.example.com/token".into(),
            service: Some("reg, one".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(asks(&[bearer]), Ok(expected));
        let short = Challenge::Bearer { realm: "http://x/".into(), service: Some("s".into()), scope: None };
        assert_eq!(asks(&["Basic realm=x", "bearer realm=http://x/, service=s"]), Ok(short));
        assert_eq!(asks(&["Negotiate"]), Err("Negotiate".into()));
        assert!(asks(&[]).is_err());
        assert!(asks(&["Bearer service=\"x\""]).is_err());
    }
}
