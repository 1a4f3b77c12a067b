//! Key confinement: whatever a profile, a template, a file and a plugin say, the key
//! that comes of it lies in the customer's folder, and another customer's does not.
#![no_main]

use arbitrary::Arbitrary;
use chrono::TimeDelta;
use consign::clock::Instant;
use consign::domain::{CustomerName, CustomerPrefix, Interval, KeyFacts, KeyTemplate, LeafName, ShareName};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Said<'a> {
    prefix: &'a str,
    other_prefix: &'a str,
    template: &'a str,
    leaf: &'a str,
    share: &'a str,
    customer: &'a str,
    /// Seconds since 1970, and of the interval before it.
    slot: i64,
    interval: u32,
    recorded: &'a str,
}

/// What S3 takes and no client, console or file system reads as another place.
fn is_confined(key: &str, prefix: &str) -> bool {
    let Some(relative) = key.strip_prefix(prefix) else { return false };
    key.len() <= 1024
        && (prefix.is_empty() || prefix.ends_with('/'))
        && !key.starts_with('/')
        && relative.split('/').all(|step| !step.is_empty() && step != "." && step != "..")
        && !key.chars().any(|c| c.is_control() || c == '\\')
}

fuzz_target!(|said: Said<'_>| {
    let Ok(prefix) = CustomerPrefix::parse(said.prefix) else { return };
    // A key that an earlier process wrote down, into whatever file.
    if let Ok(key) = prefix.recorded(said.recorded) {
        assert_eq!(key.as_str(), said.recorded);
        assert!(is_confined(key.as_str(), prefix.as_str()), "{key:?} of {prefix:?}");
    }
    let template = match KeyTemplate::parse(said.template) {
        Ok(template) => template,
        // Most texts are none; the names are to be tried all the same.
        Err(_) => KeyTemplate::default(),
    };
    let (Ok(leaf), Ok(share), Ok(customer)) =
        (LeafName::parse(said.leaf), ShareName::parse(said.share), CustomerName::parse(said.customer))
    else {
        return;
    };
    let Some(slot) = Instant::from_timestamp(said.slot, 0) else { return };
    let Some(start) = slot.checked_sub_signed(TimeDelta::seconds(i64::from(said.interval))) else { return };
    let facts = KeyFacts { share: &share, customer: &customer, slot, interval: Interval { start, end: slot } };
    let Ok(key) = prefix.key(&template, &facts, &leaf) else { return };
    assert!(is_confined(key.as_str(), prefix.as_str()), "{key:?} of {prefix:?}");
    assert!(key.as_str().ends_with(&format!("/{}", leaf.as_str())), "{key:?} is not named {leaf:?}");
    // It is the one that a restart finds in the ledger.
    assert_eq!(prefix.recorded(key.as_str()).unwrap(), key);
    if let Ok(other) = CustomerPrefix::parse(said.other_prefix)
        && !prefix.overlaps(&other)
    {
        assert!(!key.as_str().starts_with(other.as_str()), "{key:?} lies in {other:?}, too");
        assert!(other.recorded(key.as_str()).is_err());
    }
    // The manifest's name is nobody else's.
    assert!(!leaf.as_str().starts_with("_manifest"));
});
