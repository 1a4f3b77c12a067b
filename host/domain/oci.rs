//! References to what a registry holds (OCI Distribution Specification 1.1).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Invalid, hex};

/// SHA-256 of some content, which names it: `sha256:` and 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentDigest(String);

impl ContentDigest {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(is_hex) => Ok(Self(text.to_owned())),
            _ => Err(Invalid::new("is not a digest; write `sha256:` and 64 hex digits in lower case")),
        }
    }

    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(&Sha256::digest(bytes))))
    }

    /// The hex digits alone.
    pub fn digits(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }
}

impl std::fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> String {
        digest.0
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// `registry.example.com/team/fmt:1.4`, with a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<ContentDigest>,
}

impl OciReference {
    /// Everything is written out: there is no default registry, and no default tag.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const EXAMPLE: &str = "write for example registry.example.com/team/fmt:1.4";
        let text = text.strip_prefix("oci://").unwrap_or(text);
        if text.contains("://") {
            return Err(Invalid::new(format!("is a URL; {EXAMPLE}")));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let not =
                    |_| Invalid::new("has no SHA-256 after `@`; write `@sha256:` and 64 hex digits in lower case");
                (name, Some(ContentDigest::parse(digest).map_err(not)?))
            }
            None => (text, None),
        };
        let Some((registry, path)) = name.split_once('/').filter(|(first, _)| is_registry(first)) else {
            return Err(Invalid::new(format!("does not begin with the name of a registry; {EXAMPLE}")));
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !repository.split('/').all(is_component) {
            return Err(Invalid::new(format!("has a repository that no registry can have; {EXAMPLE}")));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(Invalid::new(format!("has a tag that no registry can have; {EXAMPLE}")));
        }
        if tag.is_none() && digest.is_none() {
            return Err(Invalid::new(format!("has neither a tag nor a digest; {EXAMPLE}")));
        }
        let owned = str::to_owned;
        Ok(Self { registry: owned(registry), repository: owned(repository), tag: tag.map(owned), digest })
    }

    /// Host, and port if there is one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn digest(&self) -> Option<&ContentDigest> {
        self.digest.as_ref()
    }

    /// The same with this digest, as it goes into a delivery's manifest.
    pub fn pinned_to(&self, digest: &ContentDigest) -> String {
        Self { digest: Some(digest.clone()), ..self.clone() }.to_string()
    }

    /// What a registry is asked for: the digest if there is one, or else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for OciReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Host and optional port. The host has a dot or is `localhost`, unless there is a port.
pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) if host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => {
            ("[]", rest.strip_prefix(':'))
        }
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let is_host = host == "[]" || (!host.is_empty() && host.bytes().all(plain));
    is_host
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
        && (port.is_some() || host == "[]" || host == "localhost" || host.contains('.'))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = text.split(|c: char| word(u8::try_from(c).unwrap_or(0))).filter(|part| !part.is_empty());
    text.bytes().next().is_some_and(word)
        && text.bytes().last().is_some_and(word)
        && separators.into_iter().all(|part| matches!(part, "." | "_" | "__") || part.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_written_out() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let pinned = format!("localhost:5000/fmt@{digest}");
        let both = format!("registry.example.com/a/b__c/d-e.f:1.4_x@{digest}");
        for text in ["registry.example.com/team/fmt:1.4", "127.0.0.1:5000/fmt:a", "[::1]:5000/fmt:a", &pinned, &both] {
            assert_eq!(OciReference::parse(text).map(|reference| reference.to_string()), Ok(text.to_owned()));
        }
        let given = OciReference::parse("oci://registry.example.com/team/fmt:1.4").unwrap();
        assert_eq!((given.registry(), given.repository()), ("registry.example.com", "team/fmt"));
        assert_eq!(given.wanted(), "1.4");
        assert_eq!(OciReference::parse(&both).unwrap().wanted(), digest);
        let refused = [
            ("fmt:1.4", "the name of a registry"),
            ("team/fmt:1.4", "the name of a registry"),
            ("https://registry.example.com/fmt:1", "is a URL"),
            ("registry.example.com/fmt", "neither a tag nor a digest"),
            ("registry.example.com/Fmt:1", "a repository that"),
            ("registry.example.com//fmt:1", "a repository that"),
            ("registry.example.com/../fmt:1", "a repository that"),
            ("registry.example.com/fmt:", "a tag that"),
            ("registry.example.com/fmt:a/b", "a tag that"),
            ("registry.example.com/fmt@sha256:00", "no SHA-256 after `@`"),
            ("user@registry.example.com/fmt:1", "no SHA-256 after `@`"),
            ("registry.example.com:port/fmt:1", "the name of a registry"),
        ];
        for (text, why) in refused {
            let told = OciReference::parse(text).unwrap_err();
            assert!(told.0.contains(why), "{text}: {told}");
        }
    }
}
