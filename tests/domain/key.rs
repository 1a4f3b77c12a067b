//! No input whatsoever makes a key outside the prefix.

use chrono::{TimeDelta, TimeZone, Utc};
use consign::clock::Instant;
use consign::domain::{
    CustomerName, CustomerPrefix, Interval, KeyFacts, KeyTemplate, LeafName, MANIFEST_NAME, ShareName,
};
use proptest::prelude::*;

struct Names(ShareName, CustomerName);

impl Names {
    fn new() -> Self {
        Self(ShareName::parse("daily").unwrap(), CustomerName::parse("acme").unwrap())
    }

    fn facts(&self, slot: Instant) -> KeyFacts<'_> {
        let interval = Interval { start: slot - TimeDelta::days(1), end: slot };
        KeyFacts { share: &self.0, customer: &self.1, slot, interval }
    }
}

fn six() -> Instant {
    Utc.with_ymd_and_hms(2026, 1, 31, 6, 0, 0).unwrap()
}

fn key(prefix: &str, template: &str, name: &str) -> Result<String, String> {
    let prefix = CustomerPrefix::parse(prefix).map_err(|e| e.to_string())?;
    let template = KeyTemplate::parse(template).map_err(|e| e.to_string())?;
    let name = LeafName::parse(name).map_err(|e| e.to_string())?;
    let names = Names::new();
    prefix.key(&template, &names.facts(six()), &name).map(|key| key.to_string()).map_err(|e| e.to_string())
}

#[test]
fn keys_look_like_this() {
    let made = |template| key("in", template, "part-0.csv").unwrap();
    assert_eq!(made(KeyTemplate::DEFAULT), "in/daily/2026-01-31/060000Z/part-0.csv");
    assert_eq!(made("{customer}/{share}-{slot}/{name}"), "in/acme/daily-20260131T060000Z/part-0.csv");
    assert_eq!(made("{share}/{interval_start:%d}-{interval_end:%d-%y}/{name}"), "in/daily/30-31-26/part-0.csv");
    assert_eq!(KeyTemplate::default(), KeyTemplate::parse(KeyTemplate::DEFAULT).unwrap());
    assert_eq!(key("", KeyTemplate::DEFAULT, "x").unwrap(), "daily/2026-01-31/060000Z/x");
}

#[test]
fn keys_that_slots_have_in_common() {
    let replaced = |text: &str| KeyTemplate::parse_replaced(text).map_err(|why| why.to_string());
    assert_eq!(KeyTemplate::default_replaced(), replaced(KeyTemplate::DEFAULT_REPLACED).unwrap());
    assert_eq!(replaced("now/{customer}/{share}/{name}").unwrap().as_str(), "now/{customer}/{share}/{name}");
    for (template, why) in [
        ("{share}/{slot}/{name}", "has an instant"),
        ("{share}/{interval_end:%Y}/{name}", "has an instant"),
        ("latest/{name}", "no {share}"),
        ("{share}/x-{name}", "alone after"),
        ("{share}/../{name}", "path step"),
    ] {
        assert!(replaced(template).unwrap_err().contains(why), "{template}");
    }
}

#[test]
fn the_folder_above_all_slots_is_the_shares_own() {
    let above = |text: &str| KeyTemplate::parse(text).unwrap().above_slots().map(|above| above.as_str().to_owned());
    for (template, folder) in [
        (KeyTemplate::DEFAULT, Some("{share}/{name}")),
        ("{share}/{slot}/{name}", Some("{share}/{name}")),
        ("a/{customer}/{share}/b-{slot:%Y}/{slot}/{name}", Some("a/{customer}/{share}/{name}")),
        ("a/{share}-x/y/{interval_start:%Y}/{slot}/{name}", Some("a/{share}-x/y/{name}")),
        ("a/{share}-{slot}/{name}", None),
        ("{share}-{slot}/{name}", None),
        ("{slot}/{share}/{name}", None),
    ] {
        assert_eq!(above(template).as_deref(), folder, "{template}");
        if let Some(above) = KeyTemplate::parse(template).unwrap().above_slots() {
            assert_eq!(KeyTemplate::parse_replaced(above.as_str()).unwrap(), above);
        }
    }
}

#[test]
fn templates_that_are_refused() {
    let cases = [
        ("", "end in {name}"),
        ("{name}", "alone after"),
        ("{share}/{slot}", "end in {name}"),
        ("{share}/{slot}/{name}.csv", "end in {name}"),
        ("{share}/{slot}/x-{name}", "alone after"),
        ("{share}/{slot}{name}", "alone after"),
        ("{share}/{slot}/{name}/{name}", "more than once"),
        ("{share}/{name}", "mode = \"replace\""),
        ("{slot}/{name}", "no {share}"),
        ("{share}/{slot:%m-%d}/{name}", "no year"),
        ("{share}/{slot:%H%M%S}/{interval_start:%B %e}/{name}", "no year"),
        ("/{share}/{slot}/{name}", "empty segment"),
        ("{share}//{slot}/{name}", "empty segment"),
        ("../{share}/{slot}/{name}", "path step"),
        ("{share}/./{slot}/{name}", "path step"),
        ("{share}/*/{slot}/{name}", "'*'"),
        ("{share}/{slot:%Y/{name}", "without its '}'"),
        ("{share}/{slot:}/{name}", "strftime"),
        ("{share}/{slot:%!}/{name}", "strftime"),
        ("{share:%Y}/{slot}/{name}", "only instants"),
        ("{share}/{attempt}/{slot}/{name}", "unknown placeholder"),
        ("{share}/}{slot}/{name}", "without its '{'"),
        ("{share}/{slot/{name", "without its '}'"),
    ];
    for (template, words) in cases {
        let why = KeyTemplate::parse(template).expect_err(template).to_string();
        assert!(why.contains(words), "{template}: {why}");
    }
}

#[test]
fn a_format_may_not_smuggle_path_steps() {
    // The format is literal text after the template was checked; the key is checked again.
    for template in ["{share}/{slot:%Y/../..}/{name}", "{share}/{slot:%Y//}/{name}", "{share}/{slot:%n}/{name}"] {
        assert!(key("in", template, "x").is_err(), "{template}");
    }
    assert_eq!(key("in", "{share}/{slot:%Y/%m/%d}/{name}", "x").unwrap(), "in/daily/2026/01/31/x");
}

#[test]
fn leaf_names() {
    for name in ["a", "part-00000.csv.gz", "..a", "a..b", "ü 1", "-", &"x".repeat(200)] {
        assert!(LeafName::parse(name).is_ok(), "{name:?}");
    }
    let long = "x".repeat(201);
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "/x",
        "a/../../b",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\u{200b}b",
        MANIFEST_NAME,
        "_manifest",
        &long,
    ] {
        assert!(LeafName::parse(name).is_err(), "{name:?}");
    }
    assert_eq!(LeafName::manifest().as_str(), MANIFEST_NAME);
}

#[test]
fn too_long_keys_are_refused() {
    let prefix = "p".repeat(512);
    let template = format!("{}/{{share}}/{{slot}}/{{name}}", "t".repeat(400));
    assert!(key(&prefix, &template, "x").is_ok());
    assert!(key(&prefix, &template, &"n".repeat(200)).unwrap_err().contains("1024"));
}

#[test]
fn slots_that_share_keys_are_noticed() {
    let names = Names::new();
    let slots = || (0..4).map(|hour| names.facts(six() + TimeDelta::hours(hour)));
    assert_eq!(KeyTemplate::default().repeats(slots()), None);
    let daily = KeyTemplate::parse("{share}/{slot:%Y-%m-%d}/{name}").unwrap();
    assert_eq!(daily.repeats(slots()), Some((six(), six() + TimeDelta::hours(1))));
}

#[test]
fn formats_that_tell_every_second() {
    let whole = |slot: &str| KeyTemplate::parse(&format!("{{share}}/{slot}/{{name}}")).unwrap().is_whole();
    for slot in [
        "{slot}",
        "{slot:%s}",
        "{slot:%+}",
        "{slot:%F}/{slot:%T}",
        "{slot:%F}/{interval_end:%H%M%S}",
        "{slot:%Y%j-%H%M%S}",
        "{slot:%G-W%V-%u}/{slot:%I%p%M%S}",
        "{interval_start:%y%b%d %X}",
    ] {
        assert!(whole(slot), "{slot}");
    }
    for slot in [
        "{slot:%F}",
        "{slot:%F %H%M}",
        "{slot:%Y-%V-%u %T}",
        "{slot:%F %I%M%S}",
        "{slot:%F}/{interval_start:%T}",
        "{slot:%Y-%d %T}",
    ] {
        assert!(!whole(slot), "{slot}");
    }
    assert!(KeyTemplate::default().is_whole());
}

/// What a key must be, whatever it was made from.
fn confined(prefix: &CustomerPrefix, key: &str, name: &str) -> bool {
    key.starts_with(prefix.as_str())
        && key.len() <= 1024
        && key.split('/').all(|step| !step.is_empty() && step != "." && step != "..")
        && !key.chars().any(|c| c.is_control() || "*?$\\".contains(c))
        && key.ends_with(&format!("/{name}"))
}

/// Texts that attackers and slips are made of.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("//".to_owned()),
        Just("\\".to_owned()),
        Just("\0".to_owned()),
        Just("%2e%2e%2f".to_owned()),
        Just("\u{202e}".to_owned()),
        Just("_manifest.json".to_owned()),
        "[a-z]{1,4}",
        "\\PC{0,3}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{share}".to_owned()),
        Just("{customer}".to_owned()),
        Just("{slot}".to_owned()),
        Just("{slot:%Y/%m}".to_owned()),
        Just("/".to_owned()),
        nasty().prop_map(|text| format!("{{slot:%Y{text}}}")),
        nasty().prop_map(|text| format!("{{interval_end:{text}%d}}")),
        nasty(),
    ];
    let free = prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat());
    (free, any::<bool>())
        .prop_map(|(text, whole)| if whole { format!("{text}{{share}}/{{slot}}/{{name}}") } else { text })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_input_leaves_the_prefix(prefix in nasty(), template in template(), name in nasty(), seconds in -62_000_000_000i64..250_000_000_000) {
        let Ok(prefix) = CustomerPrefix::parse(&prefix) else { return Ok(()) };
        let template = KeyTemplate::parse(&template).unwrap_or_default();
        let Ok(leaf) = LeafName::parse(&name) else { return Ok(()) };
        let names = Names::new();
        let Some(slot) = Utc.timestamp_opt(seconds, 0).single() else { return Ok(()) };
        if let Ok(key) = prefix.key(&template, &names.facts(slot), &leaf) {
            prop_assert!(confined(&prefix, key.as_str(), &name), "{key:?}");
        }
    }

    /// The usual case is not refused by accident.
    #[test]
    fn plain_names_always_make_keys(prefix in "[a-z]{0,8}(/[a-z0-9]{1,8}){0,3}", name in "[A-Za-z0-9][A-Za-z0-9._-]{0,60}") {
        let prefix = prefix.trim_start_matches('/');
        prop_assert!(key(prefix, KeyTemplate::DEFAULT, &name).is_ok());
    }
}
