//! A configuration with a mistake in each of its shares.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use consign::config::{Config, ConfigErrors, SHOWN_MAX, Severity, rendered};

use super::{environment, load};

/// So many shares in files of 1,000, each with what `wrong` says of it.
fn shares(dir: &Path, customers: usize, shares: usize, wrong: impl Fn(usize) -> String) {
    let mut main = "include = [\"*.d.toml\"]\n[datasets.d]\ntables.t = \"t.parquet\"\n".to_owned();
    for n in 0..customers {
        let id = 100_000_000_000 + n;
        writeln!(
            main,
            "[customers.customer-{n:05}]\nrole_arn = \"arn:aws:iam::{id}:role/r\"\nexternal_id = \"id-{n}\"\n\
             bucket = \"bucket-{n}\"\nregion = \"eu-west-1\""
        )
        .unwrap();
    }
    std::fs::write(dir.join("consign.toml"), main).unwrap();
    for first in (0..shares).step_by(1_000) {
        let mut text = String::new();
        for n in first..shares.min(first + 1_000) {
            let wrong = wrong(n);
            write!(text, "[shares.share-{n:06}]\nschedule = \"@daily\"\ndataset = \"d\"\nplugin = \"csv\"\n{wrong}\n")
                .unwrap();
        }
        std::fs::write(dir.join(format!("{first:06}.d.toml")), text).unwrap();
    }
}

fn errors(dir: &Path) -> ConfigErrors {
    Config::load(&dir.join("consign.toml"), &environment()).unwrap_err()
}

#[test]
fn the_first_of_many_errors_are_shown_and_the_others_counted() {
    let dir = tempfile::tempdir().unwrap();
    shares(dir.path(), 20, 12_500, |n| format!("colour = 1\nto = {{ customers = [\"customer-{:05}\"] }}", n % 20));
    let errors = errors(dir.path());
    assert_eq!(errors.problems().len(), 12_500);
    let text = errors.to_string();
    assert_eq!(text.matches("error: unknown key `colour`").count(), SHOWN_MAX);
    let file = |name: &str| dir.path().join(name).display().to_string();
    let counts =
        format!("… and 12400 more errors:\n  900 in {}\n  1000 in {}\n", file("000000.d.toml"), file("001000.d.toml"));
    assert!(text.contains(&counts), "{}", &text[text.len() - 2000..]);
    assert!(
        text.ends_with("2500 in 3 more files\n\n12500 errors in the configuration"),
        "{}",
        &text[text.len() - 300..]
    );
    let refused = consign::domain::Refused::from(errors);
    assert_eq!((refused.problems.len(), refused.omitted), (SHOWN_MAX, 12_400));
    assert_eq!(refused.message, "12500 errors in the configuration");
    assert!(refused.text.len() < 100_000, "{}", refused.text.len());
    // The number of the line, deep in a long file.
    assert_eq!((&refused.problems[99]["line"], &refused.problems[99]["column"]), (&(99 * 6 + 5).into(), &1.into()));
}

/// A customer that is not there is looked for among all customers, and every error
/// is laid out from its file: with either for each error this takes minutes.
#[test]
fn many_errors_do_not_take_long() {
    let dir = tempfile::tempdir().unwrap();
    shares(dir.path(), 1_000, 20_000, |n| format!("colour = 1\nto = {{ customers = [\"customr-{:05}\"] }}", n % 1_000));
    let started = Instant::now();
    let errors = errors(dir.path());
    let json: Vec<_> = errors.problems().iter().map(|problem| problem.to_json()).collect();
    let text = errors.to_string();
    let took = started.elapsed();
    assert_eq!(json.len(), 40_000);
    assert!(text.contains("help: did you mean `customer-00000`?"), "{}", &text[..3000]);
    assert_eq!(json[1]["help"], "did you mean `customer-00000`?");
    // Nobody reads the others.
    let help = json[39_999]["help"].as_str().unwrap();
    assert!(help.starts_with("the customers are `customer-00000`, "), "{help}");
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[test]
fn errors_are_shown_before_warnings_when_there_is_not_room_for_all() {
    let customer = |name: &str, more: &str| {
        format!(
            "[customers.{name}]\nrole_arn = \"arn:aws:iam::123456789012:role/{name}\"\nbucket = \"b-{name}\"\n{more}\n"
        )
    };
    let mut text = String::new();
    for n in 0..150 {
        text += &customer(&format!("a{n:03}"), "region = \"eu-west-1\"\nallow_missing_external_id = true");
    }
    text += &customer("z", "region = \"eu-west-1\"\nexternal_id = \"x y\"");
    let errors = load(&text).unwrap_err();
    let shown = errors.to_string();
    assert_eq!(errors.problems().iter().filter(|problem| problem.severity == Severity::Warning).count(), 150);
    assert!(shown.contains("external_id `x y`") && shown.contains("… and 51 more warnings:"), "{shown}");
    let parts = rendered(errors.problems(), false);
    assert_eq!(parts.len(), SHOWN_MAX + 1);
    assert!(parts[SHOWN_MAX - 1].starts_with("error: "), "in the order of the file");
}

/// Two places that are far apart in one file: each with its lines, and the right numbers.
#[test]
fn places_far_apart_are_shown_without_what_is_between() {
    let customer = |name: &str, id: u64| {
        format!(
            "[customers.{name}]\nrole_arn = \"arn:aws:iam::{id}:role/r\"\nexternal_id = \"the-same\"\n\
             bucket = \"b-{name}\"\nregion = \"eu-west-1\"\n"
        )
    };
    let between = "# nothing\n".repeat(20_000);
    let text = format!("{}{between}{}", customer("a", 100_000_000_001), customer("b", 100_000_000_002));
    let shown = load(&text).unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    assert!(lines.iter().any(|line| line.starts_with("3 | external_id")), "{shown}");
    assert!(lines.iter().any(|line| line.starts_with("20008 | external_id")), "{shown}");
    assert!(lines.len() < 20, "{shown}");
}
