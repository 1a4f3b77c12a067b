//! Why something did not work, in the form that the ledger keeps and the
//! operator reads.

use serde::{Deserialize, Serialize};

/// Which part of the way failed. Callers branch on it; people start there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The configuration cannot be carried out.
    Config,
    /// The share's own rules of time: its deadline, or another of its slots.
    Schedule,
    /// Reading or querying the data.
    Dataset,
    /// A row of another customer was about to be delivered.
    Tenant,
    /// The format plugin.
    Plugin,
    /// The vendor's own AWS identity.
    Identity,
    /// The customer's role: who may assume it (external ID included).
    TrustPolicy,
    /// The customer's role: what it may do (or consign's session policy), and for how long.
    RolePolicy,
    /// The bucket: missing, or its policy refuses.
    Bucket,
    Kms,
    Acl,
    Region,
    /// The bucket belongs to another account than expected.
    Owner,
    /// No answer, throttling, or a fault on the other side.
    Network,
    /// The machine's clock is off.
    Clock,
    /// What is there already, or is written at the same moment, is not this delivery's: the slot's own
    /// earlier one, whole or not, another slot's or share's, or somebody else's.
    Conflict,
    Ledger,
    /// A local file or directory, or consign itself.
    Local,
}

impl Layer {
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Config => "config",
            Layer::Schedule => "schedule",
            Layer::Dataset => "dataset",
            Layer::Tenant => "tenant",
            Layer::Plugin => "plugin",
            Layer::Identity => "identity",
            Layer::TrustPolicy => "trust policy",
            Layer::RolePolicy => "role policy",
            Layer::Bucket => "bucket",
            Layer::Kms => "KMS",
            Layer::Acl => "ACL",
            Layer::Region => "region",
            Layer::Owner => "bucket owner",
            Layer::Network => "network",
            Layer::Clock => "clock",
            Layer::Conflict => "conflict",
            Layer::Ledger => "ledger",
            Layer::Local => "local",
        }
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether the same work may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Not until somebody changes something.
    Never,
    /// After a pause.
    Later,
}

/// A failure, ready for the ledger and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{layer}: {message}")]
pub struct Failure {
    pub layer: Layer,
    pub retry: Retry,
    /// What was wrong and where, causes joined by `: `.
    pub message: String,
    /// What to do about it. Empty when nobody can know.
    pub remedy: String,
    /// A plugin did not end as plugins do: it trapped, hung, or passed a limit. What it
    /// says to be wrong is no fault of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plugin_fault: bool,
    /// Who was asked, and refused or did not answer. Not kept. None: nobody in particular.
    #[serde(skip)]
    pub asked: Option<Asked>,
    /// Whoever was asked says what is wrong with the request, whichever layer that is of. Not kept.
    #[serde(skip)]
    pub answered: bool,
    /// Not kept.
    #[serde(skip)]
    pub leaves: Leaves,
}

/// What a failure leaves of a delivery whose every byte was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaves {
    /// All that it was: it goes on from where it stands.
    #[default]
    Whole,
    /// An upload of it is gone, or never becomes what was sent: only another attempt can deliver it.
    Torn,
    /// Its manifest may be there: it has not failed before that is known.
    InDoubt,
}

/// On which side a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The customer's.
    Sts,
    S3,
    /// None of the customer's: the vendor's own policies, this machine's disk, or where the dataset is. It
    /// concerns many deliveries alike, whatever they are and wherever they go.
    Vendor,
}

impl Failure {
    pub fn new(layer: Layer, retry: Retry, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            layer,
            retry,
            message: message.into(),
            remedy: remedy.into(),
            plugin_fault: false,
            asked: None,
            answered: false,
            leaves: Leaves::Whole,
        }
    }

    /// Of a delivery whose manifest may be there: only asking later tells, whatever was answered now.
    pub fn in_doubt(self) -> Self {
        Self { leaves: Leaves::InDoubt, ..self }
    }

    /// The customer's own role or bucket refuses, and refuses whatever is delivered until somebody
    /// on that side sets it right.
    pub fn is_of_setup(&self) -> bool {
        use Layer::{Acl, Bucket, Kms, Owner, Region, RolePolicy, TrustPolicy};
        let is_theirs = matches!(self.layer, TrustPolicy | RolePolicy | Bucket | Kms | Acl | Region | Owner);
        is_theirs && self.retry == Retry::Never
    }

    /// Whoever was asked has not answered, or only that it cannot now; or STS was not asked, or does not
    /// hear, because nobody knows who the vendor is or because this machine's clock is off.
    pub fn is_silence(&self) -> bool {
        let is_unheard = matches!(self.layer, Layer::Identity | Layer::Clock) && self.asked == Some(Asked::Sts);
        ((self.layer == Layer::Network && !self.answered) || is_unheard) && self.retry == Retry::Later
    }

    /// The vendor's own policies, disk or source of data are in the way.
    pub fn is_of_vendor(&self) -> bool {
        self.asked == Some(Asked::Vendor)
    }

    /// Nothing that is the matter with this delivery: its share makes up for it, however often it was tried.
    pub fn is_elsewhere(&self) -> bool {
        self.is_silence() || (self.is_of_vendor() && self.retry == Retry::Later)
    }

    /// What to do, as a log may have it, which many read: policies to paste, with the customer's external
    /// ID in them, are in the ledger and in the report that is forwarded.
    pub fn logged_remedy(&self) -> &str {
        match self.is_of_setup() {
            true => "`consign preflight` with the customer's name tells it, with what to forward",
            false => &self.remedy,
        }
    }

    /// The chain of an error's causes as one line: `Display` of each, joined by `: `.
    pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}
