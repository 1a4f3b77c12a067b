//! Where an object may land. The prefix is a type, and it alone makes keys, so
//! that no name, template or plugin can reach outside it.

mod units;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use chrono::format::{Item, StrftimeItems};

use super::{CustomerName, Interval, Invalid, ShareName};
use crate::clock::Instant;
use units::Units;

/// Leaf name of the manifest. Plugins cannot use names that begin with `_manifest`.
pub const MANIFEST_NAME: &str = "_manifest.json";

/// Leaf name of the object that Hadoop's readers wait for: empty, and written last.
pub const SUCCESS_NAME: &str = "_SUCCESS";

/// Leaf name of the object that leads to the newest manifest.
pub const LATEST_NAME: &str = "latest.json";

/// Leaf name of uploads that are begun to see whether one could be, and never completed.
const PROBE_NAME: &str = "_consign-preflight";

/// S3 User Guide, "Naming Amazon S3 objects": 1,024 bytes of UTF-8.
const KEY_BYTES_MAX: usize = 1024;

/// The folder in the customer's bucket that is consign's to write: empty (the
/// whole bucket) or ending in `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CustomerPrefix(String);

/// A full key, under the prefix it was made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// The last segment of a key, as named by a plugin or a file: 1 to 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafName(String);

/// How keys are made: literal text and placeholders.
///
/// `{share}`, `{customer}`, `{name}`, and the instants `{slot}`,
/// `{interval_start}`, `{interval_end}`, each with an optional strftime format
/// in UTC (`{slot:%Y-%m-%d}`; without one `%Y%m%dT%H%M%SZ`). There is no
/// placeholder for the run or the attempt: a repeat must overwrite itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    text: Arc<str>,
    pieces: Arc<[Piece]>,
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    pub share: &'a ShareName,
    pub customer: &'a CustomerName,
    pub slot: Instant,
    pub interval: Interval,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Share,
    Customer,
    Name,
    Slot(String),
    IntervalStart(String),
    IntervalEnd(String),
}

impl CustomerPrefix {
    /// Adds the trailing `/` when it is missing, because `cust1` also matches `cust10/`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self(String::new()));
        }
        if text.starts_with('/') {
            return Err(Invalid::new("begins with '/'; S3 keys have no leading slash"));
        }
        let body = text.strip_suffix('/').unwrap_or(text);
        check_segments(body)?;
        // What remains must leave room for a template and a leaf name.
        if body.len() > KEY_BYTES_MAX / 2 {
            return Err(Invalid::new(format!("has {} bytes; use at most {}", body.len(), KEY_BYTES_MAX / 2)));
        }
        Ok(Self(format!("{body}/")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether one of the two contains the other.
    pub fn overlaps(&self, other: &CustomerPrefix) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// The key of `name` for these facts. Refuses what would leave the prefix
    /// or be longer than S3 allows.
    pub fn key(&self, template: &KeyTemplate, facts: &KeyFacts<'_>, name: &LeafName) -> Result<ObjectKey, Invalid> {
        let relative = template.render(facts, name.as_str())?;
        check_segments(&relative)?;
        let key = format!("{}{relative}", self.0);
        if key.len() > KEY_BYTES_MAX {
            return Err(Invalid::new(format!("makes a key of {} bytes; S3 takes at most {KEY_BYTES_MAX}", key.len())));
        }
        Ok(ObjectKey(key))
    }

    /// Where to try whether something could be written. No delivery's object is there: a
    /// template has a folder before the name.
    pub fn probe(&self) -> ObjectKey {
        ObjectKey(format!("{}{PROBE_NAME}", self.0))
    }

    /// Where nothing may be written, to try that it is so: at the top of the bucket, beside the
    /// prefix, and where a policy leads that lacks the last `/`. They are no keys of ours, and no
    /// [`ObjectKey`]. None of the whole bucket.
    pub fn outside(&self) -> Vec<String> {
        let Some(body) = self.0.strip_suffix('/') else { return Vec::new() };
        let parent = body.rfind('/').map_or("", |end| &body[..=end]);
        let mut keys = vec![PROBE_NAME.to_owned(), format!("{parent}{PROBE_NAME}"), format!("{body}{PROBE_NAME}")];
        keys.dedup();
        keys
    }

    /// A key that an earlier process wrote down, checked again: profiles change.
    pub fn recorded(&self, key: &str) -> Result<ObjectKey, Invalid> {
        let Some(relative) = key.strip_prefix(&self.0) else {
            return Err(Invalid::new(format!("is outside the customer's prefix '{}'", self.0)));
        };
        check_segments(relative)?;
        Ok(ObjectKey(key.into()))
    }
}

impl std::fmt::Display for CustomerPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl ObjectKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl LeafName {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > 200 {
            return Err(Invalid::new(format!("has {} bytes; a leaf name has 1 to 200", text.len())));
        }
        if text.contains(['/', '\\']) {
            return Err(Invalid::new("has a path separator; name a leaf, the host chooses the folder"));
        }
        if text == "." || text == ".." {
            return Err(Invalid::new("is a path step, not a name"));
        }
        if text.chars().any(is_unsafe) {
            return Err(Invalid::new("has a control or invisible character"));
        }
        if text.starts_with("_manifest") {
            return Err(Invalid::new("begins with '_manifest', which is kept for consign's manifest"));
        }
        Ok(Self(text.into()))
    }

    /// The name of the manifest itself.
    pub fn manifest() -> Self {
        Self(MANIFEST_NAME.into())
    }

    pub fn success() -> Self {
        Self(SUCCESS_NAME.into())
    }

    pub fn latest() -> Self {
        Self(LATEST_NAME.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for LeafName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl KeyTemplate {
    /// Where objects go when a share does not say.
    pub const DEFAULT: &'static str = "{share}/{slot:%Y-%m-%d}/{slot:%H%M%SZ}/{name}";
    /// The same of a share whose slots take each other's place.
    pub const DEFAULT_REPLACED: &'static str = "{share}/{name}";

    /// Of keys that each slot has of its own.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let template = Self::read(text)?;
        if !template.pieces.iter().any(Piece::is_instant) {
            return Err(Invalid::new(
                "has no {slot}; every slot needs keys of its own, unless the share says mode = \"replace\"",
            ));
        }
        if !units(template.pieces.iter()).has_year() {
            return Err(Invalid::new(
                "has no year, so that next year's slots would overwrite this year's; write {slot:%Y-%m-%d} or {slot}",
            ));
        }
        Ok(template)
    }

    /// Of keys that all slots of a share have in common.
    pub fn parse_replaced(text: &str) -> Result<Self, Invalid> {
        let template = Self::read(text)?;
        match template.pieces.iter().any(Piece::is_instant) {
            true => Err(Invalid::new(
                "has an instant, so that no slot would take the place of another; remove it, or the share's mode",
            )),
            false => Ok(template),
        }
    }

    fn read(text: &str) -> Result<Self, Invalid> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            push_literal(&mut pieces, literal);
            let Some(inside) = tail.strip_prefix('{') else {
                return Err(Invalid::new("has a '}' without its '{'"));
            };
            let Some((placeholder, after)) = inside.split_once('}') else {
                return Err(Invalid::new("has a '{' without its '}'"));
            };
            if placeholder.contains('{') {
                return Err(Invalid::new("has a '{' without its '}'"));
            }
            pieces.push(placeholder_piece(placeholder)?);
            rest = after;
        }
        push_literal(&mut pieces, rest);
        if pieces.last() != Some(&Piece::Name) {
            return Err(Invalid::new("must end in {name}, or two objects of one delivery would have the same key"));
        }
        if pieces.iter().filter(|p| **p == Piece::Name).count() != 1 {
            return Err(Invalid::new("has {name} more than once"));
        }
        if !matches!(pieces.get(pieces.len().wrapping_sub(2)), None | Some(Piece::Literal(_))) || pieces.len() == 1 {
            return Err(Invalid::new("must have {name} alone after the last '/'"));
        }
        if !matches!(pieces.get(pieces.len() - 2), Some(Piece::Literal(l)) if l.ends_with('/')) {
            return Err(Invalid::new("must have {name} alone after the last '/'"));
        }
        if !pieces.contains(&Piece::Share) {
            return Err(Invalid::new("has no {share}; two shares would write the same keys"));
        }
        let literal: String =
            pieces.iter().map(|p| if let Piece::Literal(text) = p { text.as_str() } else { "x" }).collect();
        check_segments(&literal)?;
        Ok(Self { text: text.into(), pieces: pieces.into() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it tells the slot to the second, so that no two can have the same key.
    pub fn is_whole(&self) -> bool {
        // Of a share's slots, each ends its interval and begins the next one's.
        units(self.pieces.iter().filter(|piece| matches!(piece, Piece::Slot(_) | Piece::IntervalEnd(_)))).is_whole()
            || units(self.pieces.iter().filter(|piece| matches!(piece, Piece::IntervalStart(_)))).is_whole()
    }

    /// Of keys in the innermost folder that all slots have in common, if that is the share's alone.
    pub fn above_slots(&self) -> Option<Self> {
        let common = self.pieces.iter().take_while(|piece| !piece.is_instant() && **piece != Piece::Name);
        let mut pieces: Vec<Piece> = common.cloned().collect();
        // What is of one step of the path with the instant is no folder.
        loop {
            if let Piece::Literal(text) = pieces.last_mut()?
                && let Some(end) = text.rfind('/')
            {
                text.truncate(end + 1);
                break;
            }
            pieces.pop();
        }
        pieces.push(Piece::Name);
        let text: String = pieces.iter().map(Piece::to_string).collect();
        pieces.contains(&Piece::Share).then(|| Self { text: text.into(), pieces: pieces.into() })
    }

    /// The first two of these slots that get the same keys.
    pub fn repeats<'a>(&self, facts: impl Iterator<Item = KeyFacts<'a>>) -> Option<(Instant, Instant)> {
        let mut seen = HashMap::new();
        facts
            .filter_map(|facts| Some((self.render(&facts, "x").ok()?, facts.slot)))
            .find_map(|(key, slot)| seen.insert(key, slot).map(|earlier| (earlier, slot)))
    }

    fn render(&self, facts: &KeyFacts<'_>, name: &str) -> Result<String, Invalid> {
        let mut key = String::new();
        let time = |key: &mut String, at: Instant, format: &str| {
            write!(key, "{}", at.format(format))
                .map_err(|_| Invalid::new(format!("cannot format an instant by '{format}'")))
        };
        for piece in self.pieces.iter() {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Share => key.push_str(facts.share.as_str()),
                Piece::Customer => key.push_str(facts.customer.as_str()),
                Piece::Name => key.push_str(name),
                Piece::Slot(format) => time(&mut key, facts.slot, format)?,
                Piece::IntervalStart(format) => time(&mut key, facts.interval.start, format)?,
                Piece::IntervalEnd(format) => time(&mut key, facts.interval.end, format)?,
            }
        }
        Ok(key)
    }
}

/// What they tell together.
fn units<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Units {
    pieces.map(Piece::units).fold(Units::NONE, |all, units| all | units)
}

impl Piece {
    fn units(&self) -> Units {
        match self {
            Piece::Slot(format) | Piece::IntervalStart(format) | Piece::IntervalEnd(format) => Units::of(format),
            _ => Units::NONE,
        }
    }

    fn is_instant(&self) -> bool {
        matches!(self, Piece::Slot(_) | Piece::IntervalStart(_) | Piece::IntervalEnd(_))
    }
}

impl std::fmt::Display for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Piece::Literal(text) => f.write_str(text),
            Piece::Share => f.write_str("{share}"),
            Piece::Customer => f.write_str("{customer}"),
            Piece::Name => f.write_str("{name}"),
            Piece::Slot(format) => write!(f, "{{slot:{format}}}"),
            Piece::IntervalStart(format) => write!(f, "{{interval_start:{format}}}"),
            Piece::IntervalEnd(format) => write!(f, "{{interval_end:{format}}}"),
        }
    }
}

impl KeyTemplate {
    /// [`KeyTemplate::DEFAULT_REPLACED`].
    pub fn default_replaced() -> Self {
        let pieces = [Piece::Share, Piece::Literal("/".into()), Piece::Name];
        Self { text: Self::DEFAULT_REPLACED.into(), pieces: pieces.into() }
    }
}

impl Default for KeyTemplate {
    fn default() -> Self {
        // Most shares have it, so there is one.
        static USUAL: LazyLock<KeyTemplate> = LazyLock::new(|| {
            let pieces = [
                Piece::Share,
                Piece::Literal("/".into()),
                Piece::Slot("%Y-%m-%d".into()),
                Piece::Literal("/".into()),
                Piece::Slot("%H%M%SZ".into()),
                Piece::Literal("/".into()),
                Piece::Name,
            ];
            KeyTemplate { text: KeyTemplate::DEFAULT.into(), pieces: pieces.into() }
        });
        USUAL.clone()
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Literal(text.into()));
    }
}

fn placeholder_piece(placeholder: &str) -> Result<Piece, Invalid> {
    let (word, format) = match placeholder.split_once(':') {
        Some((word, format)) => (word, Some(format)),
        None => (placeholder, None),
    };
    if let Some(format) = format
        && (format.is_empty() || StrftimeItems::new(format).any(|item| item == Item::Error))
    {
        return Err(Invalid::new(format!("has '{{{placeholder}}}', whose format is not strftime; try %Y-%m-%d")));
    }
    let time = || format.unwrap_or("%Y%m%dT%H%M%SZ").to_owned();
    match (word, format) {
        ("slot", _) => Ok(Piece::Slot(time())),
        ("interval_start", _) => Ok(Piece::IntervalStart(time())),
        ("interval_end", _) => Ok(Piece::IntervalEnd(time())),
        ("share", None) => Ok(Piece::Share),
        ("customer", None) => Ok(Piece::Customer),
        ("name", None) => Ok(Piece::Name),
        ("share" | "customer" | "name", Some(_)) => {
            Err(Invalid::new(format!("has '{{{placeholder}}}'; only instants take a format")))
        }
        _ => Err(Invalid::new(format!(
            "has the unknown placeholder '{{{placeholder}}}'; there are share, customer, name, slot, interval_start and interval_end"
        ))),
    }
}

/// Every segment between slashes is a plain name. Wildcards are refused because
/// in a policy's resource they would match other customers' keys.
fn check_segments(path: &str) -> Result<(), Invalid> {
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err(Invalid::new("has an empty segment ('//' or a '/' at an end)"));
        }
        if segment == "." || segment == ".." {
            return Err(Invalid::new(format!("has the path step '{segment}'")));
        }
    }
    if let Some(c) = path.chars().find(|c| is_unsafe(*c)) {
        return Err(Invalid::new(format!("has the control or invisible character U+{:04X}", u32::from(c))));
    }
    if let Some(c) = path.chars().find(|c| "*?$\\".contains(*c)) {
        return Err(Invalid::new(format!("has '{c}', which policies or tools read as something else")));
    }
    Ok(())
}

/// Control characters, and those that only change how others are shown.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
