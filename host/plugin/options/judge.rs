//! Holds a value against a schema, and finds everything that does not fit.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value};

use super::rule::{Id, Node, Rule, compare, is_multiple, same};
use super::{escaped, unescaped};

/// Subschemas looked at for the options of one share. Those of real formats take
/// some hundred; a schema whose branches multiply would take hours.
const STEPS_MAX: u32 = 200_000;

/// Subschemas inside of each other: a schema that refers to itself has no end.
const DEPTH_MAX: u32 = 200;

/// Faults of one value that are kept.
const FAULTS_MAX: usize = 200;

/// The detail of a value that fits more than one branch.
pub(super) const SEVERAL: &str = "several";

/// A schema that cannot be followed to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Endless {
    #[error("refers to itself without end")]
    Depth,
    #[error("takes more than {STEPS_MAX} steps to follow")]
    Steps,
}

/// One thing that does not fit.
pub(super) struct Fault<'s, 'v> {
    /// JSON Pointer into the options.
    pub pointer: String,
    /// The same for people: `columns[0].width`.
    pub name: String,
    /// The key is at fault, and not its value.
    pub of_key: bool,
    /// The subschema and its rule.
    pub node: Id,
    pub rule: &'s Rule,
    pub value: &'v Value,
    /// What is missing, or how it does not fit.
    pub detail: Option<&'s str>,
    /// What other branches would have there.
    pub also: Vec<&'s Rule>,
}

impl Fault<'_, '_> {
    /// The last key on the way there: `widths` of `/widths/3`.
    pub fn key(&self) -> String {
        let is_name = |step: &&str| !step.bytes().all(|byte| byte.is_ascii_digit());
        unescaped(self.pointer.rsplit('/').find(is_name).unwrap_or_default())
    }

    /// Whether this is a key that a table does not have.
    pub fn is_unknown_in(&self, table: &str) -> bool {
        let is_unknown = matches!(self.rule, Rule::Properties { .. } | Rule::UnevaluatedProperties(_));
        is_unknown && self.pointer.rsplit_once('/').is_some_and(|(above, _)| above == table)
    }
}

/// Holds a value against the first of these subschemas.
pub(super) fn judge<'s, 'v>(nodes: &'s [Node], value: &'v Value) -> Result<Vec<Fault<'s, 'v>>, Endless> {
    let mut judge = Judge { nodes, steps: 0, depth: 0 };
    let mut faults = Vec::new();
    judge.look(0, value, Place::Root, &mut faults)?;
    // What is said of the value of a thing that is of another type is a consequence.
    let of_type = |fault: &Fault<'_, '_>| matches!(fault.rule, Rule::Type(_)).then(|| fault.pointer.clone());
    let strange: BTreeSet<String> = faults.iter().filter_map(of_type).collect();
    faults.retain(|fault| matches!(fault.rule, Rule::Type(_)) || !strange.contains(&fault.pointer));
    Ok(faults)
}

struct Judge<'s> {
    nodes: &'s [Node],
    steps: u32,
    depth: u32,
}

/// Where a value is, from the inside out.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Key(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

/// What a subschema that fits has judged, which `unevaluated…` leaves alone.
#[derive(Default)]
struct Seen<'v> {
    keys: BTreeSet<&'v str>,
    items: BTreeSet<usize>,
}

impl<'v> Seen<'v> {
    fn add(&mut self, other: Seen<'v>) {
        self.keys.extend(other.keys);
        self.items.extend(other.items);
    }
}

/// A subschema and the value that is held against it.
#[derive(Clone, Copy)]
struct Held<'v, 'p> {
    node: Id,
    value: &'v Value,
    place: Place<'p>,
}

impl<'s> Judge<'s> {
    /// Adds the faults, and tells what was judged. (Nothing that counts, if there is a fault.)
    fn look<'v>(
        &mut self,
        node: Id,
        value: &'v Value,
        place: Place<'_>,
        faults: &mut Vec<Fault<'s, 'v>>,
    ) -> Result<Seen<'v>, Endless> {
        self.spend(1)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Endless::Depth);
        }
        let nodes = self.nodes;
        let held = Held { node, value, place };
        let mut seen = Seen::default();
        for rule in nodes.get(node).iter().flat_map(|node| &node.rules) {
            match value {
                Value::Object(object) => self.object(rule, held, object, &mut seen, faults)?,
                Value::Array(list) => self.list(rule, held, list, &mut seen, faults)?,
                _ => {}
            }
            self.scalar(rule, held, faults)?;
            self.together(rule, held, &mut seen, faults)?;
        }
        self.depth -= 1;
        Ok(seen)
    }

    fn spend(&mut self, steps: u32) -> Result<(), Endless> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(Endless::Steps) } else { Ok(()) }
    }

    /// A pattern takes time in proportion to the text, and to its own size.
    fn matches(&mut self, pattern: &Regex, text: &str) -> Result<bool, Endless> {
        self.spend(50 + u32::try_from(text.len() / 16).unwrap_or(STEPS_MAX))?;
        Ok(pattern.is_match(text))
    }

    /// Whether it fits, and what was judged.
    fn fits<'v>(&mut self, node: Id, value: &'v Value, place: Place<'_>) -> Result<Option<Seen<'v>>, Endless> {
        let mut faults = Vec::new();
        let seen = self.look(node, value, place, &mut faults)?;
        Ok(faults.is_empty().then_some(seen))
    }

    /// Rules about the value as a whole.
    fn scalar<'v>(
        &mut self,
        rule: &'s Rule,
        held: Held<'v, '_>,
        faults: &mut Vec<Fault<'s, 'v>>,
    ) -> Result<(), Endless> {
        let fits = match (rule, held.value) {
            (Rule::Never, _) => false,
            (Rule::Type(kinds), value) => kinds.iter().any(|kind| kind.takes(value)),
            (Rule::Enum(choices), value) => {
                let mut looked = 0;
                let is_one = choices.iter().any(|choice| same(choice, value, &mut looked));
                self.spend(looked)?;
                is_one
            }
            (Rule::Minimum(least), Value::Number(number)) => compare(number, least).is_ge(),
            (Rule::Maximum(most), Value::Number(number)) => compare(number, most).is_le(),
            (Rule::Above(limit), Value::Number(number)) => compare(number, limit).is_gt(),
            (Rule::Below(limit), Value::Number(number)) => compare(number, limit).is_lt(),
            (Rule::MultipleOf(step), Value::Number(number)) => is_multiple(number, step),
            (Rule::MinLength(least), Value::String(text)) => text.chars().count() as u64 >= *least,
            (Rule::MaxLength(most), Value::String(text)) => text.chars().count() as u64 <= *most,
            (Rule::Pattern(pattern), Value::String(text)) => self.matches(pattern, text)?,
            (Rule::MinItems(least), Value::Array(list)) => list.len() as u64 >= *least,
            (Rule::MaxItems(most), Value::Array(list)) => list.len() as u64 <= *most,
            (Rule::MinProperties(least), Value::Object(object)) => object.len() as u64 >= *least,
            (Rule::MaxProperties(most), Value::Object(object)) => object.len() as u64 <= *most,
            _ => true,
        };
        if !fits {
            add(faults, held.fault(rule, None));
        }
        Ok(())
    }

    fn object<'v>(
        &mut self,
        rule: &'s Rule,
        held: Held<'v, '_>,
        object: &'v Map<String, Value>,
        seen: &mut Seen<'v>,
        faults: &mut Vec<Fault<'s, 'v>>,
    ) -> Result<(), Endless> {
        let place = held.place;
        match rule {
            Rule::Required(names) => {
                for name in names.iter().filter(|name| !object.contains_key(*name)) {
                    add(faults, held.fault(rule, Some(name)));
                }
            }
            Rule::Properties { named, patterns, rest } => {
                for (key, value) in object {
                    let below = Place::Key(&place, key);
                    let own = named.get(key).copied();
                    let mut judges: Vec<Id> = own.into_iter().collect();
                    for (pattern, node) in patterns {
                        if self.matches(pattern, key)? {
                            judges.push(*node);
                        }
                    }
                    let is_known = !judges.is_empty();
                    judges.extend(rest.filter(|_| !is_known));
                    for node in &judges {
                        if !is_known && self.is_never(*node) {
                            add(faults, Held { value, place: below, ..held }.key_fault(rule, None));
                            continue;
                        }
                        self.look(*node, value, below, faults)?;
                    }
                    if !judges.is_empty() {
                        seen.keys.insert(key);
                    }
                }
            }
            Rule::UnevaluatedProperties(node) => {
                for (key, value) in
                    object.iter().filter(|(key, _)| !seen.keys.contains(key.as_str())).collect::<Vec<_>>()
                {
                    let below = Place::Key(&place, key);
                    if self.is_never(*node) {
                        add(faults, Held { value, place: below, ..held }.key_fault(rule, None));
                    } else {
                        self.look(*node, value, below, faults)?;
                    }
                    seen.keys.insert(key);
                }
            }
            Rule::Names(node) => {
                for (key, value) in object {
                    let name = Value::String(key.clone());
                    if self.fits(*node, &name, place)?.is_none() {
                        add(faults, Held { value, place: Place::Key(&place, key), ..held }.key_fault(rule, None));
                    }
                }
            }
            Rule::DependentRequired(needs) => {
                for (key, names) in needs.iter().filter(|(key, _)| object.contains_key(*key)) {
                    for name in names.iter().filter(|name| !object.contains_key(*name)) {
                        add(faults, Held { place: Place::Key(&place, key), ..held }.key_fault(rule, Some(name)));
                    }
                }
            }
            Rule::DependentSchemas(needs) => {
                for (_, node) in needs.iter().filter(|(key, _)| object.contains_key(*key)) {
                    let also = self.look(*node, held.value, place, faults)?;
                    seen.add(also);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn list<'v>(
        &mut self,
        rule: &'s Rule,
        held: Held<'v, '_>,
        list: &'v [Value],
        seen: &mut Seen<'v>,
        faults: &mut Vec<Fault<'s, 'v>>,
    ) -> Result<(), Endless> {
        let place = held.place;
        match rule {
            Rule::Items { prefix, rest } => {
                for (number, value) in list.iter().enumerate() {
                    let Some(node) = prefix.get(number).or(rest.as_ref()) else { break };
                    self.look(*node, value, Place::Item(&place, number), faults)?;
                    seen.items.insert(number);
                }
            }
            Rule::Contains { item, min, max } => {
                let mut found = 0;
                for (number, value) in list.iter().enumerate() {
                    if self.fits(*item, value, Place::Item(&place, number))?.is_some() {
                        found += 1;
                        seen.items.insert(number);
                    }
                }
                if found < *min || max.is_some_and(|max| found > max) {
                    add(faults, held.fault(rule, None));
                }
            }
            Rule::Unique => {
                for (number, value) in list.iter().enumerate() {
                    let mut looked = 0;
                    let is_there = list[..number].iter().any(|earlier| same(earlier, value, &mut looked));
                    self.spend(looked)?;
                    if is_there {
                        let again = Held { value, place: Place::Item(&place, number), ..held };
                        add(faults, again.fault(rule, None));
                    }
                }
            }
            Rule::UnevaluatedItems(node) => {
                for (number, value) in list.iter().enumerate() {
                    if seen.items.insert(number) {
                        self.look(*node, value, Place::Item(&place, number), faults)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Rules made of other schemas for the same value.
    fn together<'v>(
        &mut self,
        rule: &'s Rule,
        held: Held<'v, '_>,
        seen: &mut Seen<'v>,
        faults: &mut Vec<Fault<'s, 'v>>,
    ) -> Result<(), Endless> {
        let Held { value, place, .. } = held;
        match rule {
            Rule::Ref(node) => seen.add(self.look(*node, value, place, faults)?),
            Rule::All(all) => {
                for node in all {
                    seen.add(self.look(*node, value, place, faults)?);
                }
            }
            Rule::Any(branches) | Rule::One(branches) => {
                let mut fitting = 0;
                let mut misfits = Vec::new();
                for node in branches {
                    let mut found = Vec::new();
                    let also = self.look(*node, value, place, &mut found)?;
                    if found.is_empty() {
                        fitting += 1;
                        seen.add(also);
                    } else {
                        misfits.push(found);
                    }
                }
                match (fitting, rule) {
                    (0, _) => match self.meant(misfits, held.place) {
                        Some(found) => found.into_iter().for_each(|fault| add(faults, fault)),
                        None => add(faults, held.fault(rule, None)),
                    },
                    (2.., Rule::One(_)) => add(faults, held.fault(rule, Some(SEVERAL))),
                    _ => {}
                }
            }
            Rule::Not(node) => {
                let fits = self.fits(*node, value, place)?.is_some();
                if fits {
                    add(faults, held.fault(rule, None));
                }
            }
            Rule::If { condition, then, otherwise } => {
                let branch = match self.fits(*condition, value, place)? {
                    Some(also) => {
                        seen.add(also);
                        then
                    }
                    None => otherwise,
                };
                if let Some(node) = branch {
                    seen.add(self.look(*node, value, place, faults)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_never(&self, node: Id) -> bool {
        matches!(self.nodes.get(node).map(|node| node.rules.as_slice()), Some([Rule::Never]))
    }

    /// The faults of the branch that was meant, if one can be told: the value is
    /// of its type, and has the words that tell it from the others.
    fn meant<'v>(&self, branches: Vec<Vec<Fault<'s, 'v>>>, place: Place<'_>) -> Option<Vec<Fault<'s, 'v>>> {
        let here = place.pointer();
        let is_of_kind = |faults: &Vec<Fault<'_, '_>>| {
            let is_other = |rule| matches!(rule, &Rule::Type(_) | &Rule::Enum(_) | &Rule::Any(_) | &Rule::One(_));
            !faults.iter().any(|fault| fault.pointer == here && is_other(fault.rule))
        };
        let strangeness = |faults: &Vec<Fault<'_, '_>>| {
            let words = |fault: &&Fault<'_, '_>| matches!(fault.rule, Rule::Enum(choices) if choices.len() == 1);
            (faults.iter().filter(words).count(), faults.len())
        };
        let mut likely: Vec<_> = branches.into_iter().filter(is_of_kind).collect();
        likely.sort_by_key(strangeness);
        let is_clear = match likely.as_slice() {
            [] => false,
            [_] => true,
            [first, second, ..] => strangeness(first) < strangeness(second),
        };
        match likely.split_first_mut() {
            Some((first, others)) if strangeness(first).0 > 0 && !others.is_empty() => word(first, others),
            _ => likely.into_iter().next().filter(|_| is_clear),
        }
    }
}

/// The word that would have told which branch is meant, with what it is in all of them.
fn word<'s, 'v>(first: &mut Vec<Fault<'s, 'v>>, others: &[Vec<Fault<'s, 'v>>]) -> Option<Vec<Fault<'s, 'v>>> {
    let at = first.iter().position(|fault| matches!(fault.rule, Rule::Enum(_)))?;
    let mut fault = first.swap_remove(at);
    let same = |other: &&Fault<'_, '_>| other.pointer == fault.pointer && matches!(other.rule, Rule::Enum(_));
    let also: Vec<&Rule> =
        others.iter().filter_map(|faults| faults.iter().find(same)).map(|fault| fault.rule).collect();
    fault.also = also;
    (fault.also.len() == others.len()).then_some(vec![fault])
}

impl<'v> Held<'v, '_> {
    fn fault<'s>(&self, rule: &'s Rule, detail: Option<&'s str>) -> Fault<'s, 'v> {
        let Held { node, value, place } = *self;
        let (pointer, name) = (place.pointer(), place.name());
        Fault { pointer, name, of_key: false, node, rule, value, detail, also: Vec::new() }
    }

    /// The same, of the key rather than its value.
    fn key_fault<'s>(&self, rule: &'s Rule, detail: Option<&'s str>) -> Fault<'s, 'v> {
        Fault { of_key: true, ..self.fault(rule, detail) }
    }
}

impl Place<'_> {
    fn pointer(self) -> String {
        match self {
            Place::Root => String::new(),
            Place::Key(above, key) => format!("{}/{}", above.pointer(), escaped(key)),
            Place::Item(above, number) => format!("{}/{number}", above.pointer()),
        }
    }

    fn name(self) -> String {
        match self {
            Place::Root => String::new(),
            Place::Key(Place::Root, key) => key.to_owned(),
            Place::Key(above, key) => format!("{}.{key}", above.name()),
            Place::Item(above, number) => format!("{}[{number}]", above.name()),
        }
    }
}

fn add<'s, 'v>(faults: &mut Vec<Fault<'s, 'v>>, fault: Fault<'s, 'v>) {
    let is_known = |known: &Fault<'_, '_>| std::ptr::eq(known.rule, fault.rule) && known.pointer == fault.pointer;
    // Two branches may say the same of one value.
    if faults.len() < FAULTS_MAX && !faults.iter().any(|known| is_known(known) && known.detail == fault.detail) {
        faults.push(fault);
    }
}
