//! Where in the configuration an error of a dataset is, as far as its words tell.

use std::ops::Range;

use crate::config::{Config, Location, TableDataset};
use crate::dataset::{DatasetError, Kind};

/// The key that the error is about, or the word of the query.
pub(super) fn of(config: &Config, dataset: &TableDataset, error: &DatasetError) -> Location {
    let name = dataset.name.as_str();
    match (error.kind, &dataset.query) {
        (Kind::Tenant, _) => config.locate(&["datasets", name, "tenant_column"]),
        (Kind::Query | Kind::Parameter, Some(query)) => in_query(config, name, query, &error.message),
        _ => in_tables(config, dataset, &error.message),
    }
}

fn in_tables(config: &Config, dataset: &TableDataset, message: &str) -> Location {
    let name = dataset.name.as_str();
    let only = dataset.tables.keys().next().filter(|_| dataset.tables.len() == 1).map(|table| table.as_str());
    let Some(table) = between(message, "table '").or(only) else {
        return config.locate(&["datasets", name, "tables"]);
    };
    if let Some(column) = between(message, "`columns` has '") {
        return config.locate_key(&["datasets", name, "tables", table, "columns", column]);
    }
    if let Some(column) = between(message, "`columns` gives '") {
        return config.locate(&["datasets", name, "tables", table, "columns", column]);
    }
    let key =
        if message.contains("`partitions`") || message.contains("the path has no '") { "partitions" } else { "path" };
    let path = ["datasets", name, "tables", table, key];
    config.locate(if config.has(&path) { &path } else { &path[..4] })
}

/// The word of the query that the message names by line and column, or by itself.
pub(super) fn in_query(config: &Config, dataset: &str, query: &str, message: &str) -> Location {
    let path = ["datasets", dataset, "query"];
    let part = line_and_column(message)
        .and_then(|(line, column)| word_at(query, line, column))
        .or_else(|| named(message).find_map(|word| only_word(query, word)));
    match part {
        Some(part) => config.locate_inside(&path, &part),
        None => config.locate(&path),
    }
}

/// What stands from `before` to the next `'`.
fn between<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.split_once(before)?.1.split_once('\'').map(|(text, _)| text)
}

/// `Line: 1, Column: 8`, or the same in lower case.
fn line_and_column(message: &str) -> Option<(usize, usize)> {
    let message = message.to_ascii_lowercase();
    let (_, rest) = message.rsplit_once("line")?;
    let (line, column) = rest.split_once("column")?;
    let number = |text: &str| {
        let digits = text.trim_start_matches([':', ' ']);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    };
    Some((number(line)?, number(column)?))
}

fn word_at(query: &str, line: usize, column: usize) -> Option<Range<usize>> {
    let text = query.split('\n').nth(line.checked_sub(1)?)?;
    let start_of_line = query.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
    let (at, _) = text.char_indices().nth(column.checked_sub(1)?)?;
    // The query that is parsed has other placeholders, of other lengths.
    if text[..at].contains("$customer.") {
        return None;
    }
    let rest = &text[at..];
    let word = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
    let length = if word == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { word };
    Some(start_of_line + at..start_of_line + at + length)
}

/// The names in a message, in their order: `$customer.NAME`, and what is quoted.
fn named(message: &str) -> impl Iterator<Item = &str> {
    let params = message.match_indices("$customer.").map(|(at, _)| {
        let rest = &message[at..];
        let end = rest.find(|c: char| !is_of_word(c) && c != '.').unwrap_or(rest.len());
        &rest[..end]
    });
    let own =
        message.strip_prefix("dataset '").and_then(|rest| rest.split_once('\'')).map_or(message, |(_, rest)| rest);
    params.chain(own.split('\'').skip(1).step_by(2))
}

/// Where the word stands, if it stands there once.
fn only_word(query: &str, word: &str) -> Option<Range<usize>> {
    let alone = |(at, _): &(usize, &str)| {
        let (before, after) = (&query[..*at], &query[at + word.len()..]);
        !before.ends_with(is_of_word) && !after.starts_with(is_of_word)
    };
    let mut found = query.match_indices(word).filter(alone);
    let (at, _) = found.next().filter(|_| !word.is_empty())?;
    found.next().is_none().then_some(at..at + word.len())
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::{line_and_column, named, only_word, word_at};

    #[test]
    fn words_are_found_in_queries() {
        let query = "select a,\n  größe from t where b = $customer.x and c = d";
        let at = |line, column| word_at(query, line, column).map(|part| &query[part]);
        assert_eq!(at(1, 1), Some("select"));
        assert_eq!(at(1, 9), Some(","));
        assert_eq!(at(2, 3), Some("größe"));
        assert_eq!(at(2, 9), Some("from"));
        assert_eq!((at(3, 1), at(0, 1), at(1, 100)), (None, None, None));
        assert_eq!(at(2, 40), None, "behind a placeholder that was replaced");
        let only = |word| only_word(query, word).map(|part| &query[part]);
        assert_eq!((only("größe"), only("$customer.x"), only("t")), (Some("größe"), Some("$customer.x"), Some("t")));
        assert_eq!((only("gr"), only(""), only("zz")), (None, None, None));
    }

    #[test]
    fn messages_tell_places_and_names() {
        assert_eq!(line_and_column("x is not valid SQL: found: y at Line: 12, Column: 3"), Some((12, 3)));
        assert_eq!(line_and_column("unknown parameter '$x' at line 2, column 14; did you mean"), Some((2, 14)));
        assert_eq!(line_and_column("the first line is wrong"), None);
        let names: Vec<&str> = named("dataset 'a': no column 'b'; did you mean 'c', or $customer.d, 'e'").collect();
        assert_eq!(names, ["$customer.d", "b", "c", "e"]);
    }
}
