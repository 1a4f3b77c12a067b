//! Who is calling: long-lived keys, temporary sessions, and what each may do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::auth::{S3Auth, SecretKey};
use s3s::crypto::{Checksum as _, Sha256};
use s3s::{S3Result, s3_error};
use uuid::Uuid;

use super::config::{Bucket, SandboxConfig, VENDOR_ACCOUNT, VENDOR_ARN};
use super::policy::{Policy, Question, Verdict};
use crate::clock::Instant;

/// An identity whose key is known; its signature is checked by s3s.
#[derive(Clone)]
pub(super) struct Caller {
    pub account: String,
    /// As in messages and in the journal.
    pub arn: String,
    /// The user, role or root behind it: the same for all sessions of a role.
    pub principal: String,
    /// As in `GetCallerIdentity`.
    pub user_id: String,
    policy: Policy,
    session_policy: Option<Policy>,
    /// Whether it came by AssumeRole, which limits what it may assume in turn.
    pub is_session: bool,
}

/// Keys as AssumeRole hands them out.
pub(super) struct Credentials {
    pub access_key_id: String,
    pub secret: String,
    pub token: String,
    pub expires: Instant,
}

/// Why a key is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownKey,
    WrongToken,
    Expired,
}

pub(super) struct Identities {
    keys: Mutex<BTreeMap<String, Key>>,
}

struct Key {
    secret: String,
    session: Option<(String, Instant)>,
    caller: Caller,
}

impl Identities {
    pub fn new(config: &SandboxConfig) -> Self {
        let mut keys = BTreeMap::new();
        let vendor = Caller::lasting(VENDOR_ACCOUNT, VENDOR_ARN, "AIDACONSIGNVENDORUSER", &config.vendor_policy);
        let mut add = |pair: &super::config::KeyPair, caller| {
            let secret = pair.secret_access_key.reveal().to_owned();
            keys.insert(pair.access_key_id.clone(), Key { secret, session: None, caller });
        };
        add(&config.vendor, vendor);
        for account in &config.accounts {
            if let Some(root) = &account.root {
                let arn = format!("arn:aws:iam::{}:root", account.id);
                add(root, Caller::lasting(&account.id, &arn, &account.id, &Policy::allow_all()));
            }
        }
        Self { keys: Mutex::new(keys) }
    }

    /// Finds the caller of a key. The token has to be the one issued with it, or absent if none was.
    pub fn resolve(&self, access_key: &str, token: Option<&str>, now: Instant) -> Result<Caller, Refusal> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(access_key).ok_or(Refusal::UnknownKey)?;
        match (&key.session, token) {
            (None, None) => Ok(key.caller.clone()),
            (Some((expected, _)), Some(token)) if expected != token => Err(Refusal::WrongToken),
            (Some((_, expires)), Some(_)) if *expires <= now => Err(Refusal::Expired),
            (Some(_), Some(_)) => Ok(key.caller.clone()),
            _ => Err(Refusal::WrongToken),
        }
    }

    /// Issues keys for a session that may do what `role` and `session_policy` both allow.
    pub fn begin_session(&self, session: Session<'_>) -> (Credentials, Caller) {
        let role_id = format!("AROA{}", token_text(session.role_arn.as_bytes(), 17));
        let random = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()].map(Uuid::into_bytes).concat();
        let derive = |purpose: &str, length| token_text(&[purpose.as_bytes(), &random].concat(), length);
        let credentials = Credentials {
            access_key_id: format!("ASIA{}", derive("id", 16)),
            secret: secret_text(&random, "secret", 40),
            token: secret_text(&random, "token", 256),
            expires: session.expires,
        };
        let caller = Caller {
            account: session.account.to_owned(),
            arn: format!("arn:aws:sts::{}:assumed-role/{}/{}", session.account, session.role_name, session.name),
            principal: session.role_arn.to_owned(),
            user_id: format!("{role_id}:{}", session.name),
            policy: session.policy.clone(),
            session_policy: session.session_policy,
            is_session: true,
        };
        let key = Key {
            secret: credentials.secret.clone(),
            session: Some((credentials.token.clone(), session.expires)),
            caller: caller.clone(),
        };
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(credentials.access_key_id.clone(), key);
        (credentials, caller)
    }
}

/// What a new session is made of.
pub(super) struct Session<'a> {
    pub account: &'a str,
    pub role_name: &'a str,
    pub role_arn: &'a str,
    pub name: &'a str,
    pub policy: &'a Policy,
    pub session_policy: Option<Policy>,
    pub expires: Instant,
}

#[async_trait::async_trait]
impl S3Auth for super::Shared {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let keys = self.identities.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get(access_key) {
            Some(key) => Ok(SecretKey::from(key.secret.as_str())),
            None => {
                Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
            }
        }
    }
}

impl Caller {
    fn lasting(account: &str, arn: &str, user_id: &str, policy: &Policy) -> Self {
        Self {
            account: account.to_owned(),
            arn: arn.to_owned(),
            principal: arn.to_owned(),
            user_id: user_id.to_owned(),
            policy: policy.clone(),
            session_policy: None,
            is_session: false,
        }
    }

    /// The names by which a resource's policy may mean this caller.
    pub fn names(&self) -> [&str; 3] {
        [&self.arn, &self.principal, &self.account]
    }

    /// Role (or user) policy and session policy, both.
    pub fn ask(&self, question: &Question<'_>) -> Verdict {
        let session = self.session_policy.as_ref().map_or(Verdict::Allowed, |policy| policy.ask(question));
        match (self.policy.ask(question), session) {
            (Verdict::Denied, _) | (_, Verdict::Denied) => Verdict::Denied,
            (Verdict::Allowed, Verdict::Allowed) => Verdict::Allowed,
            _ => Verdict::Silent,
        }
    }

    /// Whether the caller may do this to `bucket` of account `owner`, or to something in it.
    pub fn may(&self, owner: &str, bucket: &Bucket, question: &Question<'_>) -> Verdict {
        let own = self.ask(question);
        let shared = bucket.policy.as_ref().map_or(Verdict::Silent, |p| p.ask_for(&self.names(), question));
        let session = self.session_policy.as_ref().map_or(Verdict::Allowed, |policy| policy.ask(question));
        let allowed = match (own, shared) {
            (Verdict::Denied, _) | (_, Verdict::Denied) => return Verdict::Denied,
            (Verdict::Allowed, Verdict::Allowed) => true,
            // Across accounts both sides have to agree.
            _ if self.account != owner => false,
            (Verdict::Allowed, Verdict::Silent) => true,
            // What a bucket grants its own account's roles is still cut by the session policy.
            (Verdict::Silent, Verdict::Allowed) => session == Verdict::Allowed,
            _ => false,
        };
        if allowed { Verdict::Allowed } else { Verdict::Silent }
    }

    /// Whether the caller may do this with a KMS key of account `owner`. Its policy lets in by name, or leaves it to IAM by
    /// naming an account; without one it does that in its own.
    /// <https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html>
    pub fn may_use(&self, owner: &str, policy: Option<&Policy>, question: &Question<'_>) -> Verdict {
        let (own, is_own) = (self.ask(question), self.account == owner);
        let usual = if is_own { Verdict::Allowed } else { Verdict::Silent };
        let account = policy.map_or(usual, |policy| policy.ask_for(&[self.account.as_str()], question));
        let named = policy
            .map_or(Verdict::Silent, |policy| policy.ask_for(&[self.arn.as_str(), self.principal.as_str()], question));
        if [own, account, named].contains(&Verdict::Denied) {
            return Verdict::Denied;
        }
        let session = self.session_policy.as_ref().map_or(Verdict::Allowed, |policy| policy.ask(question));
        let by_name = is_own && named == Verdict::Allowed && session == Verdict::Allowed;
        let by_iam = own == Verdict::Allowed && [account, named].contains(&Verdict::Allowed);
        if by_name || by_iam { Verdict::Allowed } else { Verdict::Silent }
    }
}

/// Letters and digits as in AWS ids, derived from `seed`.
fn token_text(seed: &[u8], length: usize) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    Sha256::checksum(seed).iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).take(length).collect()
}

fn secret_text(random: &[u8], purpose: &str, length: usize) -> String {
    let mut text = String::new();
    for block in 0_u32.. {
        if text.len() >= length {
            break;
        }
        let seed = [purpose.as_bytes(), &block.to_be_bytes(), random].concat();
        text.push_str(&BASE64_URL_SAFE_NO_PAD.encode(Sha256::checksum(&seed)));
    }
    text.truncate(length);
    text
}
