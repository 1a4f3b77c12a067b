//! What shares can name: datasets, plugins, customers and their groups, time zones.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::plugin::SHIPPED;
use super::report::{Candidates, Problems, listed, near, quote};
use super::section::Section;
use super::source::Span;
use super::tree::Table;
use crate::domain::{CustomerName, DatasetName, Invalid, PluginName};

/// Names that shares refer to, whether or not what they name is right. Each is
/// kept once, however many shares say it.
pub(super) struct Known<'a> {
    root: &'a Table,
    pub groups: BTreeMap<&'a str, Vec<&'a str>>,
    pub customers: BTreeMap<&'a str, CustomerName>,
    pub datasets: BTreeMap<&'a str, DatasetName>,
    pub plugins: BTreeMap<&'a str, PluginName>,
    zones: RefCell<HashMap<String, Result<Tz, Invalid>>>,
    /// Of what is none of them, made when there is one.
    candidates: [OnceCell<Arc<Candidates>>; 4],
}

impl<'a> Known<'a> {
    pub fn new(root: &'a Table) -> Self {
        let mut known = Self {
            root,
            groups: BTreeMap::new(),
            customers: BTreeMap::new(),
            datasets: BTreeMap::new(),
            plugins: BTreeMap::new(),
            zones: RefCell::default(),
            candidates: Default::default(),
        };
        known.customers = each(known.names("customers"), CustomerName::parse);
        known.datasets = each(known.names("datasets"), DatasetName::parse);
        known.plugins = each(known.names("plugins").chain(SHIPPED), PluginName::parse);
        for section in Section::each(known.table("customers"), &super::customer::CUSTOMER) {
            for (group, _) in section.texts("groups") {
                known.groups.entry(group).or_default().push(section.name);
            }
        }
        known
    }

    pub fn table(&self, key: &str) -> Option<&'a Table> {
        self.root.get(key).and_then(|entry| entry.node.table())
    }

    /// The zone of this name. Saying what may have been meant takes a look at all of them.
    pub fn zone(&self, text: &str) -> Result<Tz, Invalid> {
        self.zones.borrow_mut().entry(text.to_owned()).or_insert_with(|| zone(text)).clone()
    }

    fn candidates(&self, what: What) -> &Arc<Candidates> {
        let none = |names: &[&str]| match (what, names) {
            (What::Group, []) => "add it to the `groups` of a customer".into(),
            (what, []) => format!("there is no {what} yet; add `[{what}s.NAME]`", what = what.noun()),
            (what, names) => format!("the {}s are {}", what.noun(), listed(names.iter().copied())),
        };
        self.candidates[what as usize].get_or_init(|| {
            let of = |key: &str| Candidates::new(self.names(key), none);
            Arc::new(match what {
                What::Dataset => of("datasets"),
                What::Plugin => Candidates::new(self.names("plugins").chain(SHIPPED), none),
                What::Customer => of("customers"),
                What::Group => Candidates::new(self.groups.keys().copied(), none),
            })
        })
    }

    pub fn names(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.table(key).into_iter().flat_map(Table::iter).map(|(name, _)| name)
    }
}

/// What shares name.
#[derive(Clone, Copy)]
pub(super) enum What {
    Dataset,
    Plugin,
    Customer,
    Group,
}

impl What {
    fn noun(self) -> &'static str {
        match self {
            What::Dataset => "dataset",
            What::Plugin => "plugin",
            What::Customer => "customer",
            What::Group => "group",
        }
    }
}

/// Those that are names.
fn each<'a, N>(
    names: impl Iterator<Item = &'a str>,
    rule: impl Fn(&str) -> Result<N, Invalid>,
) -> BTreeMap<&'a str, N> {
    names.filter_map(|name| Some((name, rule(name).ok()?))).collect()
}

/// An error about a name that a share has and nobody else.
pub(super) fn unknown(what: What, text: &str, span: Span, known: &Known<'_>, problems: &mut Problems) {
    let message = match what {
        What::Group => format!("no customer is in the group {}", quote(text)),
        what => format!("there is no {} {}", what.noun(), quote(text)),
    };
    problems.unknown(span, message, text, known.candidates(what));
}

pub(super) fn zone(text: &str) -> Result<Tz, Invalid> {
    text.parse().map_err(|_| {
        let wanted = text.trim().replace(' ', "_").to_lowercase();
        let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
        let city = |name: &&str| name.to_lowercase() == wanted || name.to_lowercase().ends_with(&format!("/{wanted}"));
        Invalid::new(match names().find(city).or_else(|| near(&wanted, names())) {
            Some(name) => format!("is not an IANA time zone; did you mean \"{name}\"?"),
            None => "is not an IANA time zone; write one such as \"Europe/Berlin\", or \"UTC\"".into(),
        })
    })
}
