//! The parts of a customer's profile, each checked against AWS's own rule.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Invalid, hex};
use crate::clock::Instant;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text!(
    /** An AWS account: 12 digits. */
    AccountId
);
text!(
    /** A role: `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`. */
    RoleArn
);
text!(
    /** What the customer's trust policy asks for; unique per customer, not a secret. */
    ExternalId
);
text!(
    /** Whom customers' trust policies name: the vendor's account, or a role or user of it. */
    Principal
);
text!(
    /** A general purpose bucket. */
    BucketName
);
text!(
    /** A region code such as `eu-west-1`. */
    Region
);

/// All of a profile that decides whether deliveries by it work, as a hash: it tells two apart, and says
/// nothing of either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileHash(String);

impl ProfileHash {
    /// Of each setting that there is, by its name.
    pub fn of<'a>(settings: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in settings {
            for text in value.iter().flat_map(|value| [name, value]) {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
        }
        Self(hex(&hash.finalize()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AccountId {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new("is not an AWS account id; write its 12 digits as a string"))
    }
}

impl RoleArn {
    /// Shape: IAM User Guide, "IAM identifiers".
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: &str = "write arn:aws:iam::<12 digits>:role/<name>";
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, resource] = parts[..] else {
            return Err(Invalid::new(format!("is not a role ARN; {SHAPE}")));
        };
        if arn != "arn" || !partition.starts_with("aws") || service != "iam" || !region.is_empty() {
            return Err(Invalid::new(format!("is not an IAM ARN; {SHAPE}")));
        }
        AccountId::parse(account).map_err(|_| Invalid::new(format!("has no 12-digit account id; {SHAPE}")))?;
        let Some(name) = resource.strip_prefix("role/") else {
            return Err(Invalid::new(format!("names no role; {SHAPE} (a user or assumed-role cannot be assumed)")));
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || "/+=,.@_-".contains(c);
        // A path of up to 512 characters, its slashes included, then a name of up to 64.
        let (path, last) = name.rsplit_once('/').unwrap_or(("", name));
        let too_long = path.len() + 2 > 512 || last.len() > 64;
        if too_long || name.split('/').any(str::is_empty) || !name.chars().all(letters) {
            return Err(Invalid::new(
                "has a role name that IAM does not allow; use at most 64 letters, digits and +=,.@_-",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The account that owns the role, which is the customer's.
    pub fn account_id(&self) -> AccountId {
        AccountId(self.0.split(':').nth(4).unwrap_or_default().into())
    }

    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or("aws")
    }
}

impl ExternalId {
    /// 2 to 1,224 of `\w+=,.@:/-` (STS API Reference, AssumeRole, `ExternalId`).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new(
                "is empty, but it is what keeps others from using this role through consign; make one (`uuidgen` does)",
            ));
        }
        if text.len() < 2 || text.len() > 1224 {
            let how = if text.len() < 2 { "short" } else { "long" };
            return Err(Invalid::new(format!("is too {how}; write 2 to 1224 characters, as STS takes")));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c)) {
            return Err(Invalid::new("has a character that STS refuses; use letters, digits and _+=,.@:/-"));
        }
        Ok(Self(text.into()))
    }
}

impl Principal {
    /// An account's 12 digits, or the ARN of its root, of a role or of a user (IAM User
    /// Guide, "AWS JSON policy elements: Principal").
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const SHAPE: &str =
            "write the account's 12 digits, or arn:aws:iam::<12 digits>:root, :role/<name> or :user/<name>";
        if AccountId::parse(text).is_ok() {
            return Ok(Self(text.into()));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, region, account, resource] = parts[..] else {
            return Err(Invalid::new(format!("is neither an account nor an ARN; {SHAPE}")));
        };
        if service == "sts" {
            return Err(Invalid::new(
                "is a session, which trust policies should not name; write its account's 12 digits, or its role as \
                 arn:aws:iam::<12 digits>:role/<name>",
            ));
        }
        let is_iam = arn == "arn" && partition.starts_with("aws") && service == "iam" && region.is_empty();
        let named = resource.strip_prefix("role/").or_else(|| resource.strip_prefix("user/"));
        let letters = |c: char| c.is_ascii_alphanumeric() || "/+=,.@_-".contains(c);
        let is_named = named.is_some_and(|name| !name.split('/').any(str::is_empty) && name.chars().all(letters));
        let plain = |c: char| c.is_ascii_lowercase() || c == '-';
        if !is_iam || !partition.chars().all(plain) || AccountId::parse(account).is_err() {
            return Err(Invalid::new(format!("is not an IAM ARN; {SHAPE}")));
        }
        if resource != "root" && !is_named {
            return Err(Invalid::new(format!("names neither an account's root nor a role or user; {SHAPE}")));
        }
        Ok(Self(text.into()))
    }

    /// The account of whom STS says that is asking: `arn:aws:sts::ACCOUNT:assumed-role/…` and
    /// the like. An account outlives its roles, whose trust ends when they are made anew. It is
    /// one of its partition: another one may have an account of the same number.
    pub fn of_caller(arn: &str) -> Option<Self> {
        let (partition, account) = (arn.split(':').nth(1)?, arn.split(':').nth(4)?);
        AccountId::parse(account).ok().map(|account| Self(format!("arn:{partition}:iam::{account}:root")))
    }

    /// None of an account's digits alone.
    pub fn partition(&self) -> Option<&str> {
        self.0.split_once(':').and_then(|(_, rest)| rest.split(':').next())
    }

    /// As a trust policy has it.
    pub fn arn(&self, partition: &str) -> String {
        match AccountId::parse(&self.0) {
            Ok(account) => format!("arn:{partition}:iam::{account}:root"),
            Err(_) => self.0.clone(),
        }
    }

    pub fn account_id(&self) -> AccountId {
        AccountId(self.0.split(':').nth(4).unwrap_or(&self.0).into())
    }

    /// Whether it is a whole account.
    pub fn is_account(&self) -> bool {
        !self.0.contains('/')
    }
}

impl BucketName {
    /// S3 User Guide, "General purpose bucket naming rules".
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Some(c) = text.chars().find(|c| "*?$".contains(*c)) {
            return Err(Invalid::new(format!("has the wildcard '{c}', which would widen policies; name one bucket")));
        }
        if text.starts_with("arn:") || text.contains('/') {
            return Err(Invalid::new("is not a bucket name; write the name alone, without arn: or a path"));
        }
        if !(3..=63).contains(&text.len()) {
            let how = if text.len() < 3 { "short" } else { "long" };
            return Err(Invalid::new(format!("is too {how}; a bucket name has 3 to 63 characters")));
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-') {
            return Err(Invalid::new("has a character that bucket names cannot have; use a-z, 0-9, '.' and '-'"));
        }
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        if !edge(text.bytes().next()) || !edge(text.bytes().last()) {
            return Err(Invalid::new("must begin and end with a letter or digit"));
        }
        if text.contains("..") || text.parse::<std::net::Ipv4Addr>().is_ok() {
            return Err(Invalid::new("must not have two periods in a row or look like an IP address"));
        }
        let reserved = ["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|p| text.starts_with(p))
            || ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|s| text.ends_with(s));
        if reserved {
            return Err(Invalid::new("has a beginning or end that AWS reserves"));
        }
        Ok(Self(text.into()))
    }
}

impl Region {
    /// `xx-word-1`, with further words allowed (`us-gov-west-1`).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('-').collect();
        let word = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase());
        let ok = match parts.split_last() {
            Some((number, words)) => {
                let number = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
                words.len() >= 2 && words.iter().all(word) && number
            }
            None => false,
        };
        if ok {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new("is not a region code; write one such as eu-west-1"))
    }
}

/// A value of a customer's `params`, bound into queries, never pasted into them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ParamValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Instant(Instant),
    /// Only as the value of a tenant column: any of these.
    List(Vec<ParamValue>),
}
