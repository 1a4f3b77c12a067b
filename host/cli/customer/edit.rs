//! Surgery on TOML: what is not meant stays as it is, to the last comment.

use toml_edit::{Decor, DocumentMut, InlineTable, Item, Table, Value, value};

use super::profile::Profile;

/// A file cannot be edited, and what to say of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotEdited(String);

/// The text of a new file with this profile.
pub fn new_file(profile: &Profile) -> Result<String, NotEdited> {
    let name = &profile.name;
    let above = format!("# Written by `consign customer add`; next: `consign customer pack {name}`.\n");
    added(DocumentMut::new(), profile, &above)
}

/// The text with one more profile.
pub fn with(text: &str, profile: &Profile) -> Result<String, NotEdited> {
    let mut document = parsed(text)?;
    if !document.is_empty() {
        return added(document, profile, "\n");
    }
    // Comments alone are what comes after everything.
    let above = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    added(document, profile, &above)
}

fn added(mut document: DocumentMut, profile: &Profile, above: &str) -> Result<String, NotEdited> {
    let customers = document.entry("customers").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let mut table = profile.table();
    match customers {
        Item::Table(customers) => {
            table.decor_mut().set_prefix(above);
            customers.insert(profile.name.as_str(), Item::Table(table));
        }
        Item::Value(Value::InlineTable(customers)) => {
            let inline: InlineTable = table.into_inline_table();
            customers.insert(profile.name.as_str(), Value::InlineTable(inline));
        }
        _ => return Err(NotEdited("`customers` is no table".into())),
    }
    Ok(document.to_string())
}

/// The text with another value for a key of a profile; None takes the key out.
pub fn set(text: &str, customer: &str, key: &str, to: Option<&str>) -> Result<String, NotEdited> {
    let mut document = parsed(text)?;
    let profile = document
        .get_mut("customers")
        .and_then(|customers| customers.as_table_like_mut()?.get_mut(customer)?.as_table_like_mut())
        .ok_or_else(|| NotEdited(format!("there is no table of customer `{customer}`")))?;
    match (to, profile.get_mut(key).and_then(Item::as_value_mut)) {
        (Some(to), Some(now)) => {
            let decor = now.decor().clone();
            *now = to.into();
            *now.decor_mut() = decor;
        }
        (Some(to), None) => {
            profile.insert(key, value(to));
        }
        (None, _) => {
            profile.remove(key);
        }
    }
    Ok(document.to_string())
}

/// The text without a profile, and whether it says nothing more.
pub fn without(text: &str, customer: &str) -> Result<(String, bool), NotEdited> {
    let mut document = parsed(text)?;
    let missing = || NotEdited(format!("there is no table of customer `{customer}`"));
    let customers = document.get_mut("customers").and_then(Item::as_table_like_mut).ok_or_else(missing)?;
    let removed = customers.remove(customer).ok_or_else(missing)?;
    if customers.is_empty() {
        document.remove("customers");
    }
    let (mut kept, position) = match removed.as_table() {
        Some(table) => (foreword(table.decor()), table.position()),
        None => (String::new(), None),
    };
    if document.is_empty() {
        kept.push_str(document.trailing().as_str().unwrap_or_default());
        return Ok((kept, true));
    }
    if !kept.trim().is_empty() {
        keep_above(&mut document, position, &kept);
    }
    Ok((document.to_string(), false))
}

/// Of the comments above a table those that an empty line parts from it: they are about
/// the file, or about what stood above.
fn foreword(decor: &Decor) -> String {
    let above = decor.prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    above.rsplit_once("\n\n").map_or(String::new(), |(foreword, _)| format!("{foreword}\n\n"))
}

/// Puts comments above the table that came after the one at `position`.
fn keep_above(document: &mut DocumentMut, position: Option<isize>, kept: &str) {
    let mut next = None;
    tables(document.as_table_mut(), &mut |table| {
        if table.position() > position && next.is_none_or(|next| table.position() < next) {
            next = Some(table.position());
        }
    });
    let Some(next) = next else {
        let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
        return document.set_trailing(format!("\n{}{trailing}", kept.trim_start_matches('\n')));
    };
    tables(document.as_table_mut(), &mut |table| {
        if table.position() == next {
            let own = table.decor().prefix().and_then(|own| own.as_str()).unwrap_or_default();
            let prefix = format!("{kept}{}", own.trim_start_matches('\n'));
            table.decor_mut().set_prefix(prefix);
        }
    });
}

/// Every table below, each with a header of its own or not.
fn tables(table: &mut Table, see: &mut dyn FnMut(&mut Table)) {
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => {
                see(table);
                tables(table, see);
            }
            Item::ArrayOfTables(array) => array.iter_mut().for_each(|table| {
                see(table);
                tables(table, see);
            }),
            _ => {}
        }
    }
}

/// The text with a customer taken out of the names that a share goes to; None if it is not there.
pub fn left_out(text: &str, share: &str, customer: &str) -> Result<Option<String>, NotEdited> {
    let mut document = parsed(text)?;
    let to = document.get_mut("shares").and_then(|shares| {
        shares.as_table_like_mut()?.get_mut(share)?.as_table_like_mut()?.get_mut("to")?.as_table_like_mut()
    });
    let Some(to) = to else { return Ok(None) };
    let Some(names) = to.get_mut("customers").and_then(Item::as_array_mut) else { return Ok(None) };
    let Some(at) = names.iter().position(|name| name.as_str() == Some(customer)) else { return Ok(None) };
    let removed = names.remove(at);
    if at == 0
        && let Some(first) = names.get_mut(0)
    {
        // The first one stands where the first one stood.
        *first.decor_mut() = Decor::new(
            removed.decor().prefix().cloned().unwrap_or_default(),
            first.decor().suffix().cloned().unwrap_or_default(),
        );
    }
    if names.is_empty() && to.contains_key("groups") {
        to.remove("customers");
    }
    Ok(Some(document.to_string()))
}

fn parsed(text: &str) -> Result<DocumentMut, NotEdited> {
    text.parse().map_err(|error: toml_edit::TomlError| NotEdited(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_and_nothing_else_does() {
        let text = "# ours\n[customers.a]  # A\nexternal_id = \"x1\"  # was longer\nbucket='b'\n\n[shares]\n";
        let next = set(text, "a", "external_id", Some("y2")).unwrap();
        assert_eq!(next, text.replace("\"x1\"", "\"y2\""));
        let pending = set(text, "a", "next_external_id", Some("z3")).unwrap();
        assert_eq!(set(&pending, "a", "next_external_id", None).unwrap(), text);
        assert!(set(text, "b", "external_id", None).is_err());
        let inline = "customers = { a = { external_id = \"x1\" } } # all\n";
        assert_eq!(set(inline, "a", "external_id", Some("y2")).unwrap(), inline.replace("x1", "y2"));
    }

    #[test]
    fn a_profile_goes_with_what_is_said_of_it_alone() {
        let text = "# Our customers.\n\n# The first one.\n[customers.a]\nbucket = \"a\"\n[customers.a.params]\nx = 1\n\n\
                    # The second one.\n[customers.b]\nbucket = \"b\" # b\n";
        let (rest, is_empty) = without(text, "a").unwrap();
        assert_eq!(rest, "# Our customers.\n\n# The second one.\n[customers.b]\nbucket = \"b\" # b\n");
        assert!(!is_empty);
        let (rest, is_empty) = without(&rest, "b").unwrap();
        assert!(is_empty && rest.contains("# Our customers."), "{rest}");
    }

    #[test]
    fn a_share_goes_to_the_others_still() {
        let text = "[shares.s]\nto = { customers = [\"a\", \"b\"] } # both\n";
        assert_eq!(left_out(text, "s", "a").unwrap().unwrap(), "[shares.s]\nto = { customers = [\"b\"] } # both\n");
        assert_eq!(left_out(text, "s", "b").unwrap().unwrap(), "[shares.s]\nto = { customers = [\"a\"] } # both\n");
        assert!(left_out(text, "s", "c").unwrap().is_none() && left_out(text, "t", "a").unwrap().is_none());
        let lines = "[shares.s.to]\ngroups = [\"g\"]\ncustomers = [\n  # the only one\n  \"a\",\n]\n";
        assert_eq!(left_out(lines, "s", "a").unwrap().unwrap(), "[shares.s.to]\ngroups = [\"g\"]\n");
    }
}
