//! Key confinement: whatever a profile, a template, a file and a plugin say, the key
//! that comes of it lies in the customer's folder, and another customer's does not.
#![no_main]

use arbitrary::{Result, Unstructured};
use chrono::TimeDelta;
use consign::clock::Instant;
use consign::domain::{CustomerName, CustomerPrefix, Interval, KeyFacts, KeyTemplate, LeafName, ShareName};
use libfuzzer_sys::{Corpus, fuzz_target};

/// What S3 takes and no client, console or file system reads as another place.
fn is_confined(key: &str, prefix: &str) -> bool {
    let Some(relative) = key.strip_prefix(prefix) else { return false };
    key.len() <= 1024
        && (prefix.is_empty() || prefix.ends_with('/'))
        && !key.starts_with('/')
        && relative.split('/').all(|step| !step.is_empty() && step != "." && step != "..")
        && !key.chars().any(|c| c.is_control() || c == '\\')
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match confined(&mut Unstructured::new(bytes)) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});

fn confined(said: &mut Unstructured<'_>) -> Result<()> {
    let (slot, interval): (i64, u32) = (said.int_in_range(-62_135_596_800..=253_402_300_799)?, said.arbitrary()?);
    let texts: [&str; 7] = [
        said.arbitrary()?,
        said.arbitrary()?,
        said.arbitrary()?,
        said.arbitrary()?,
        said.arbitrary()?,
        said.arbitrary()?,
        said.arbitrary()?,
    ];
    let [prefix, other, template, leaf, share, customer, recorded] = texts;
    let Ok(prefix) = CustomerPrefix::parse(prefix) else { return Ok(()) };
    // A key that an earlier process wrote down.
    if let Ok(key) = prefix.recorded(recorded) {
        assert_eq!(key.as_str(), recorded);
        assert!(is_confined(key.as_str(), prefix.as_str()), "{key:?} of {prefix:?}");
    }
    // Most texts are none of these; what depends on the others is to be tried all the same.
    let template = KeyTemplate::parse(template).unwrap_or_default();
    let share = ShareName::parse(share).or_else(|_| ShareName::parse("daily")).expect("a name");
    let customer = CustomerName::parse(customer).or_else(|_| CustomerName::parse("acme")).expect("a name");
    let Ok(leaf) = LeafName::parse(leaf) else { return Ok(()) };
    // The manifest's name is nobody else's.
    assert!(!leaf.as_str().starts_with("_manifest"));
    let Some(slot) = Instant::from_timestamp(slot, 0) else { return Ok(()) };
    let Some(start) = slot.checked_sub_signed(TimeDelta::seconds(i64::from(interval))) else { return Ok(()) };
    let facts = KeyFacts { share: &share, customer: &customer, slot, interval: Interval { start, end: slot } };
    let Ok(key) = prefix.key(&template, &facts, &leaf) else { return Ok(()) };
    assert!(is_confined(key.as_str(), prefix.as_str()), "{key:?} of {prefix:?}");
    assert!(key.as_str().ends_with(&format!("/{}", leaf.as_str())), "{key:?} is not named {leaf:?}");
    // It is the one that a restart finds in the ledger.
    assert_eq!(prefix.recorded(key.as_str()).ok(), Some(key.clone()));
    if let Ok(other) = CustomerPrefix::parse(other)
        && !prefix.overlaps(&other)
    {
        assert!(!key.as_str().starts_with(other.as_str()), "{key:?} lies in {other:?}, too");
        assert!(other.recorded(key.as_str()).is_err());
    }
    Ok(())
}
