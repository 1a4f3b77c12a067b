//! `[shares.NAME]`

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use chrono_tz::Tz;

use super::keys::Keys;
use super::known::{Known, What, unknown};
use super::limits;
use super::model::{Compression, Empty, Overlap, RetryPolicy, Share};
use super::plugin::SHIPPED;
use super::report::{Problems, listed, quote};
use super::section::Section;
use super::shape::{Kind, NAME_PATTERN, Names, Shape, TEXT, default, in_two, optional, required};
use super::timing;
use super::tree::{Node, Table};
use crate::calendar::Calendar;
use crate::domain::{CustomerName, DatasetName, Invalid, Mode, PluginName, ShareName};

pub(crate) static SHARES: Names = super::names("share", |text| ShareName::parse(text).map(drop), Kind::Table(&SHARE));

const DAY_MS: u64 = 24 * 3_600_000;

const NAME: Kind = Kind::Text(NAME_PATTERN);

pub(crate) static SHARE: Shape = Shape {
    noun: "share",
    doc: "What goes to whom, when and how.",
    keys: &[
        required(
            "schedule",
            TEXT,
            r#""0 6 * * *""#,
            "Cron: minute, hour, day of month, month, day of week, with seconds before them if there are six fields; or \
             `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.",
        ),
        default("timezone", TEXT, r#""UTC""#, r#""America/New_York""#, "IANA time zone that the schedule is read in."),
        optional(
            "start",
            Kind::Date,
            "2026-02-01",
            "No slot is before it. A date is its first moment in the share's time zone; so is a time without an offset \
             one of that zone. No quotes.",
        ),
        optional(
            "end",
            Kind::Date,
            "2026-12-31T18:00:00Z",
            "No slot is after it. A date is included whole, in the share's time zone.",
        ),
        default(
            "jitter",
            Kind::Duration(0, 7 * DAY_MS),
            r#""0s""#,
            r#""10min""#,
            "The share begins up to this much later than its slots, so that shares of one minute do not all begin in it. \
             How much follows from the share's name; never past the next slot. Slots, intervals and keys stay what they are.",
        ),
        default(
            "catch_up",
            Kind::Choice(&["latest", "all", "none"]),
            r#""latest""#,
            r#""all""#,
            "Which slots are made up for that were missed while consign was down: the latest one, all of them one after \
             another, or none. The others are recorded as skipped.",
        ),
        default(
            "catch_up_window",
            Kind::Duration(1000, 366 * DAY_MS),
            r#""24h""#,
            r#""3days""#,
            "What was missed longer ago than this is never made up for. What could not be delivered at its time is tried for as long, and at least until the next slot is due. Not with `catch_up = \"none\"`.",
        ),
        default(
            "overlap",
            Kind::Choice(&Overlap::NAMES),
            r#""skip""#,
            r#""queue""#,
            "What becomes of a slot, for a customer to whom an earlier one of the share is still being delivered: it is \
             left out, it waits, the earlier one is given up for it, or both go on. A delivery that waits for another try \
             is in nobody's way.",
        ),
        optional(
            "deadline",
            Kind::Duration(1000, 366 * DAY_MS),
            r#""4h""#,
            "What is not delivered this long after its slot has failed, and is not tried again. Longer than `jitter`. Not \
             for `send` and `backfill`.",
        ),
        required("dataset", NAME, r#""orders""#, "A name of `[datasets]`."),
        optional(
            "plugin",
            NAME,
            r#""csv""#,
            "What formats the rows: a format that is shipped, or a name of `[plugins]`. Required for tables, refused for \
             files.",
        ),
        optional(
            "options",
            Kind::Free,
            r#"{ delimiter = ";" }"#,
            "The plugin's own options. Dates and times become strings.",
        ),
        optional(
            "limits",
            Kind::Table(&limits::OF_SHARE),
            r#"{ memory = "1 GiB" }"#,
            "What the plugin may use up in one delivery of this share, where that is not what `[plugins.NAME.limits]` says.",
        ),
        default(
            "compression",
            Kind::Either(&[Kind::Choice(&["none", "gzip", "zstd"]), Kind::Table(&COMPRESSION)]),
            r#""none""#,
            r#""gzip""#,
            "Of each object, by consign, after the plugin. A table also says the level. Not for \
             formats that compress inside, whose own `options.compression` keeps files readable.",
        ),
        default(
            "max_object_size",
            Kind::Size(1 << 10, 5 << 40),
            "one object",
            r#""256 MiB""#,
            "Splits the output into complete files of about this size, before compression.",
        ),
        optional(
            "piece_rows",
            Kind::Int(1, 1_000_000_000_000),
            "1000000",
            "Formats pieces of so many rows side by side, on all cores, each into objects of its own. How many at the same time \
             changes no byte. The plugin has to name objects by the `object-stem` that it is told.",
        ),
        default(
            "empty",
            Kind::Choice(&["header", "skip", "fail"]),
            r#""header""#,
            r#""skip""#,
            "What no rows become: what the plugin writes without rows, only the manifest, or a failed delivery.",
        ),
        default(
            "mode",
            Kind::Choice(&Mode::NAMES),
            r#""slot""#,
            r#""replace""#,
            "Whether each slot has keys of its own, or takes the place of the one before, as in `latest.csv`: only ever \
             forward, in the order of slots. What has fewer objects than the one before leaves the others where they are; \
             the manifest names those that count.",
        ),
        default(
            "key",
            TEXT,
            r#""{share}/{slot:%Y-%m-%d}/{slot:%H%M%SZ}/{name}""#,
            r#""{share}/{slot:%Y/%m/%d/%H%M%S}/{name}""#,
            "Keys of the objects, under the customer's prefix. `{share}`, `{customer}`, `{name}`; `{slot}`, \
             `{interval_start}` and `{interval_end}` take a strftime format, in UTC. Has a year, and all that tells one slot \
             from another; ends in `/{name}`. With `mode = \"replace\"` it has no instant, and is `{share}/{name}` unless said.",
        ),
        default(
            "success_marker",
            Kind::Bool,
            "false",
            "true",
            "Writes an empty `_SUCCESS` next to the manifest and after it, for readers that wait for one. Not with `mode = \"replace\"`.",
        ),
        default(
            "latest_pointer",
            Kind::Bool,
            "false",
            "true",
            "Writes `latest.json` into the folder that all slots of the share are in: it names the newest slot and its \
             manifest, and never goes back. One slot at a time then, also by hand. Not with `mode = \"replace\"`.",
        ),
        default(
            "retry",
            Kind::Table(&RETRY),
            "8 attempts over about an hour",
            r#"{ attempts = 12, backoff = "1m", max_backoff = "30m" }"#,
            "How often a delivery is tried whose failure may pass. A failure that will not pass by itself, such as a role \
             that refuses, is not tried again.",
        ),
        required("to", Kind::Table(&TO), r#"{ customers = ["acme"], groups = ["enterprise"] }"#, "Who gets it."),
    ],
    synonyms: &[
        ("cron", "schedule"),
        ("tz", "timezone"),
        ("time_zone", "timezone"),
        ("format", "plugin"),
        ("formatter", "plugin"),
        ("max_object_bytes", "max_object_size"),
        ("rows_per_piece", "piece_rows"),
        ("chunk_rows", "piece_rows"),
        ("customers", "to"),
        ("groups", "to"),
        ("recipients", "to"),
        ("path", "key"),
        ("write_mode", "mode"),
        ("marker", "success_marker"),
        ("success", "success_marker"),
        ("latest", "latest_pointer"),
        ("start_date", "start"),
        ("end_date", "end"),
        ("until", "end"),
        ("catchup", "catch_up"),
        ("concurrency_policy", "overlap"),
        ("timeout", "deadline"),
        ("limit", "limits"),
    ],
};

static COMPRESSION: Shape = Shape {
    noun: "compression",
    doc: "A codec and its level.",
    keys: &[
        required("codec", Kind::Choice(&["gzip", "zstd"]), r#""zstd""#, "The codec."),
        default("level", Kind::Int(1, 19), "6 for gzip, 3 for zstd", "9", "1 to 9 for gzip, 1 to 19 for zstd."),
    ],
    synonyms: &[("type", "codec"), ("algorithm", "codec")],
};

static RETRY: Shape = Shape {
    noun: "retry",
    doc: "Attempts at a delivery, and the time between them.",
    keys: &[
        default("attempts", Kind::Int(1, 1000), "8", "12", "How often it is tried in all; 1 is never again."),
        default(
            "backoff",
            Kind::Duration(1, 24 * 3_600_000),
            r#""30s""#,
            r#""1m""#,
            "Time before the second attempt. It doubles with each further one, and a part of it varies with the delivery.",
        ),
        default(
            "max_backoff",
            Kind::Duration(1, 24 * 3_600_000),
            r#""1h""#,
            r#""30m""#,
            "The longest time between two.",
        ),
    ],
    synonyms: &[("max_attempts", "attempts"), ("delay", "backoff"), ("max_delay", "max_backoff")],
};

static TO: Shape = Shape {
    noun: "to",
    doc: "Who gets a share: at least one customer.",
    keys: &[
        optional("customers", Kind::List(&NAME), r#"["acme"]"#, "Names of `[customers]`."),
        optional("groups", Kind::List(&NAME), r#"["enterprise"]"#, "Every customer with one of these in its `groups`."),
        default("all", Kind::Bool, "false", "true", "Every customer. Alone."),
    ],
    synonyms: &[("customer", "customers"), ("group", "groups"), ("everyone", "all")],
};

pub(crate) fn read(root: &Table, problems: &mut Problems) -> BTreeMap<ShareName, Arc<Share>> {
    let known = Known::new(root);
    let mut read = BTreeMap::new();
    for section in Section::each(known.table("shares"), &SHARE) {
        let Ok(name) = ShareName::parse(section.name) else { continue };
        if let Some(share) = share(&section, name.clone(), &known, problems) {
            read.insert(name, Arc::new(share));
        }
    }
    read
}

fn share(section: &Section<'_>, name: ShareName, known: &Known<'_>, problems: &mut Problems) -> Option<Share> {
    let timezone = section.parse("timezone", |text| known.zone(text), problems).unwrap_or(Tz::UTC);
    let schedule = schedule(section, timezone, problems);
    let dataset = dataset(section, known, problems);
    let of_files = dataset.as_ref().is_some_and(|(_, of_files)| *of_files);
    let plugin = if of_files { no_plugin(section, problems) } else { plugin(section, known, problems) };
    let options = options(section, problems);
    let compression = compression(section, problems);
    let Keys { mode, key, success_marker, latest_pointer } = Keys::read(section, problems);
    let to = section.section("to", &TO).and_then(|to| recipients(&to, section.name, known, problems));
    let (schedule, calendar) = schedule?;
    let calendar = timing::between(section, calendar, problems);
    timing::check(section, problems);
    Some(Share {
        jitter: timing::jitter(section, &name),
        catch_up: timing::catch_up(section),
        overlap: timing::overlap(section),
        deadline: section.duration("deadline"),
        name,
        schedule,
        timezone,
        calendar,
        dataset: dataset?.0,
        plugin,
        options,
        limits: limits::of_share(section, known.table("plugins")),
        compression,
        max_object_bytes: section.size("max_object_size"),
        piece_rows: section.int("piece_rows").and_then(NonZeroU64::new),
        empty: match section.text("empty") {
            Some("skip") => Empty::Skip,
            Some("fail") => Empty::Fail,
            _ => Empty::Header,
        },
        mode,
        key,
        success_marker,
        latest_pointer,
        retry: retry(section),
        to: to?,
    })
}

fn retry(section: &Section<'_>) -> RetryPolicy {
    let usual = RetryPolicy::default();
    let Some(table) = section.section("retry", &RETRY) else { return usual };
    RetryPolicy {
        attempts: table.int("attempts").unwrap_or(usual.attempts),
        backoff: table.duration("backoff").unwrap_or(usual.backoff),
        max_backoff: table.duration("max_backoff").unwrap_or(usual.max_backoff),
    }
}

/// The schedule as written and understood; what is wrong with it is underlined.
fn schedule(section: &Section<'_>, zone: Tz, problems: &mut Problems) -> Option<(String, Calendar)> {
    let text = section.text("schedule")?;
    let error = match Calendar::parse(text, zone) {
        Ok(calendar) => return Some((text.to_owned(), calendar)),
        Err(error) => error,
    };
    let span = section.span("schedule");
    let place = error.span().map_or(span, |part| problems.inside(span, text, &part));
    let told = Invalid::new(error.to_string());
    let (why, help) = in_two(&told);
    problems.error(place, why, if help.is_empty() { "docs/calendar.md has the rules".into() } else { help });
    None
}

/// The dataset, and whether it is one of files.
fn dataset(section: &Section<'_>, known: &Known<'_>, problems: &mut Problems) -> Option<(DatasetName, bool)> {
    let text = section.text("dataset")?;
    match known.table("datasets").and_then(|datasets| datasets.get(text)) {
        Some(entry) => {
            let of_files = entry.node.table().is_some_and(|d| d.contains_key("files") && !d.contains_key("tables"));
            Some((known.datasets.get(text)?.clone(), of_files))
        }
        None => {
            unknown(What::Dataset, text, section.span("dataset"), known, problems);
            None
        }
    }
}

fn plugin(section: &Section<'_>, known: &Known<'_>, problems: &mut Problems) -> Option<PluginName> {
    let Some(text) = section.text("plugin") else {
        if !section.has("plugin") {
            let message = format!("share {} has no `plugin` to format its rows", quote(section.name));
            let help = format!("add `plugin = \"csv\"`, or another of {}, or one of `[plugins]`", listed(SHIPPED));
            problems.error(section.name_span, message, help);
        }
        return None;
    };
    let is_own = known.table("plugins").is_some_and(|plugins| plugins.contains_key(text));
    if !is_own && !SHIPPED.contains(&text) {
        unknown(What::Plugin, text, section.span("plugin"), known, problems);
        return None;
    }
    known.plugins.get(text).cloned()
}

fn no_plugin(section: &Section<'_>, problems: &mut Problems) -> Option<PluginName> {
    let keys = ["plugin", "options", "limits", "compression", "max_object_size", "piece_rows"];
    section.refuse(&keys, "is for rows, but the dataset's files pass through unread", "remove it", problems);
    if section.text("empty") == Some("header") {
        let message = "`empty` cannot be `header`: the dataset is of files, which have none";
        problems.error(section.span("empty"), message, "write \"skip\" or \"fail\"");
    }
    None
}

fn options(section: &Section<'_>, problems: &mut Problems) -> String {
    let empty = || "{}".to_owned();
    let Some(node) = section.node("options").filter(|node| node.table().is_some()) else { return empty() };
    let own = section.text("plugin").unwrap_or("");
    for (name, entry) in node.table().into_iter().flat_map(Table::iter) {
        let moved = match (name, own) {
            ("compression", "arrow" | "csv" | "fixed-width" | "jsonl") => "compression",
            ("max_object_bytes" | "max_object_size", own) if SHIPPED.contains(&own) => "max_object_size",
            _ => continue,
        };
        let value = match (moved, entry.node.text()) {
            (_, Some(text)) => format!("{text:?}"),
            ("compression", None) => "\"gzip\"".into(),
            _ => "\"256 MiB\"".into(),
        };
        let message = format!("`{name}` is not an option of the plugin `{own}`, but of the share");
        problems.error(entry.key, message, format!("write `{moved} = {value}` on the share"));
    }
    match node.to_json() {
        Ok(json) => json.to_string(),
        Err(span) => {
            problems.error(span, "`options` has a number that JSON cannot hold", "write a finite number, or a string");
            empty()
        }
    }
}

fn compression(section: &Section<'_>, problems: &mut Problems) -> Compression {
    let table = section.section("compression", &COMPRESSION);
    let codec = table.map_or_else(|| section.text("compression"), |table| table.text("codec"));
    let level: Option<i64> = table.and_then(|table| table.int("level"));
    let inside = section.text("plugin").and_then(compressed_inside);
    if let Some((files, help)) = inside.filter(|_| codec.is_some_and(|codec| codec != "none")) {
        let message = format!("`compression` would make {files} that readers cannot open");
        problems.error(section.span("compression"), message, help);
    }
    match (codec, level) {
        (Some("gzip"), Some(level)) if level > 9 => {
            if let Some(table) = table.filter(|_| level <= 19) {
                let message = format!("`level` is {level}, which gzip does not have");
                problems.error(table.span("level"), message, "write 1 to 9, or `codec = \"zstd\"`");
            }
            Compression::default()
        }
        (Some("gzip"), level) => Compression::Gzip { level: level.and_then(|l| u32::try_from(l).ok()).unwrap_or(6) },
        (Some("zstd"), level) => Compression::Zstd { level: level.and_then(|l| i32::try_from(l).ok()).unwrap_or(3) },
        _ => Compression::None,
    }
}

/// Of the shipped formats that are compressed inside: what they are, and what to
/// write for it.
fn compressed_inside(plugin: &str) -> Option<(&'static str, &'static str)> {
    Some(match plugin {
        "avro" => ("Avro files", "write `options = { compression = \"zstd\" }`: Avro compresses its own blocks"),
        "parquet" => {
            ("Parquet files", "write `options = { compression = \"zstd\" }`: Parquet compresses its own pages")
        }
        "xlsx" => ("workbooks", "remove it: a workbook is compressed inside"),
        _ => return None,
    })
}

/// None when there are none, or when not all of them are there.
fn recipients(to: &Section<'_>, share: &str, known: &Known<'_>, problems: &mut Problems) -> Option<Vec<CustomerName>> {
    let mut found = BTreeSet::new();
    let mut missing = false;
    for (name, span) in to.texts("customers") {
        if known.table("customers").is_some_and(|customers| customers.contains_key(name)) {
            found.insert(name);
        } else {
            unknown(What::Customer, name, span, known, problems);
            missing = true;
        }
    }
    for (name, span) in to.texts("groups") {
        match known.groups.get(name) {
            Some(members) => found.extend(members),
            None => {
                missing = true;
                unknown(What::Group, name, span, known, problems);
            }
        }
    }
    if to.bool("all") == Some(true) {
        if to.has("customers") || to.has("groups") {
            let message = "`all = true` already names every customer";
            problems.error(
                to.key_span("all"),
                message,
                "write `to = { all = true }`, or name customers and groups only",
            );
        }
        found.extend(known.names("customers"));
    }
    let mistyped = ["customers", "groups"].iter().any(|key| to.node(key).is_some_and(|node| !is_list(node)));
    if found.is_empty() && !missing && !mistyped {
        let message = format!("share {} goes to nobody", quote(share));
        let help = "write `to = { customers = [\"NAME\"] }`, `{ groups = [\"NAME\"] }` or `{ all = true }`";
        problems.error(to.name_span, message, help);
        return None;
    }
    found.into_iter().map(|name| known.customers.get(name).cloned()).collect()
}

fn is_list(node: &Node) -> bool {
    matches!(node.value, super::tree::Value::List(_))
}
