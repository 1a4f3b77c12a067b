//! Columns of every type, and types within types.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields, SchemaRef};
use futures::FutureExt;

use super::{Check, Finding, Suite, Verdict, batch, told, values};

/// How deep types are nested.
const DEPTH: usize = 32;

pub static CHECKS: [Check; 4] = [
    Check {
        name: "types",
        wants: "a value of any type is written, or refused in words",
        remedy: "say `unsupported` in `check` and `open` for a type that the format does not have",
        run: |suite| types(suite).boxed(),
    },
    Check {
        name: "check-agrees",
        wants: "`check` finds an error exactly where `open` refuses",
        remedy: "let both call the same function: what only `open` refuses fails a delivery that `consign check` let pass",
        run: |suite| agrees(suite).boxed(),
    },
    Check {
        name: "nesting",
        wants: "lists and structs 32 deep are written, or refused in words",
        remedy: "bound the depth, and say `unsupported` beyond it; the stack of a plugin has 1 MiB",
        run: |suite| nesting(suite).boxed(),
    },
    Check {
        name: "column-names",
        wants: "columns are written in their order, or under their names, also if these are numbers",
        remedy: "go by a column's place in the schema: in an object of JavaScript names of digits come first",
        run: |suite| column_names(suite).boxed(),
    },
];

async fn types(suite: &Suite) -> Finding {
    let (mut written, mut refused, mut bad) = (0, Vec::new(), Vec::new());
    for (name, array) in values::every_type() {
        let rows = alone_or_added(suite, array)?;
        if !suite.takes(&suite.options, &rows.schema())? {
            refused.push(name);
            continue;
        }
        match suite.over(vec![rows]).run().await.ended {
            Ok(_) => written += 1,
            Err(failed) if failed.cause.is_said() => refused.push(name),
            Err(failed) => bad.push(format!("{name} ({})", told(&failed))),
        }
    }
    if !bad.is_empty() {
        return Err(Verdict::Failed(bad.join("; ")));
    }
    Ok(match refused[..] {
        [] => format!("{written} written"),
        _ => format!("{written} written; refused: {}", refused.join(", ")),
    })
}

async fn agrees(suite: &Suite) -> Finding {
    let mut bad = Vec::new();
    for (name, array) in values::every_type() {
        let schema = alone_or_added(suite, array)?.schema();
        match disagreement(suite, schema).await? {
            Some(why) => bad.push(format!("{name}: {why}")),
            None => continue,
        }
    }
    if bad.is_empty() { Ok(String::new()) } else { Err(Verdict::Failed(bad.join("; "))) }
}

/// What `check` and `open` say differently of some columns.
async fn disagreement(suite: &Suite, schema: SchemaRef) -> Result<Option<String>, Verdict> {
    let takes = suite.takes(&suite.options, &schema)?;
    let mut attempt = suite.over(Vec::new());
    attempt.schema = schema;
    Ok(match (takes, attempt.run().await.ended) {
        (true, Ok(_)) => None,
        (false, Err(failed)) if failed.cause.is_said() => None,
        (true, Err(failed)) => Some(format!("`check` lets it pass, and then {}", told(&failed))),
        (false, Ok(_)) => Some("`check` refuses it, and `open` takes it".into()),
        (false, Err(failed)) => Some(format!("`open` does not refuse it in words: {}", told(&failed))),
    })
}

/// As the only column, or beside those that the plugin may want.
fn alone_or_added(suite: &Suite, array: ArrayRef) -> Result<RecordBatch, Verdict> {
    let mut columns = Vec::new();
    let rows = array.len();
    if suite.own && suite.rows.num_rows() >= rows {
        let given = suite.rows.slice(0, rows);
        let names = suite.schema.fields().iter().map(|field| field.name().clone());
        columns.extend(names.zip(given.columns().to_vec()));
    }
    columns.push(("conformance_value".to_owned(), array));
    batch(columns)
}

async fn nesting(suite: &Suite) -> Finding {
    let mut notes = Vec::new();
    for (what, array) in [("lists", lists()), ("structs", structs())] {
        let array = array.map_err(|error| super::unmade(&error))?;
        let rows = alone_or_added(suite, array)?;
        if let Some(why) = disagreement(suite, rows.schema()).await? {
            return Err(Verdict::Failed(format!("{what}: {why}")));
        }
        if !suite.takes(&suite.options, &rows.schema())? {
            notes.push(format!("{what} refused"));
            continue;
        }
        match suite.over(vec![rows]).run().await.ended {
            Ok(_) => notes.push(format!("{what} written")),
            Err(failed) if failed.cause.is_said() => notes.push(format!("{what} refused")),
            Err(failed) => return Err(Verdict::Failed(format!("{what}: {}", told(&failed)))),
        }
    }
    Ok(notes.join(", "))
}

/// Columns that a language which sorts its keys would turn round, each with a value
/// that is no part of another one, nor of a name.
const NUMBERED: [(&str, &str); 3] = [("7309731", "firstvalue"), ("7209721", "secondvalue"), ("7109711", "thirdvalue")];

async fn column_names(suite: &Suite) -> Finding {
    let mut columns = Vec::new();
    if suite.own && suite.rows.num_rows() > 0 {
        let names = suite.schema.fields().iter().map(|field| field.name().clone());
        columns.extend(names.zip(suite.rows.slice(0, 1).columns().to_vec()));
    }
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    columns.extend(NUMBERED.iter().map(|(name, value)| ((*name).to_owned(), text(value))));
    let rows = batch(columns)?;
    if !suite.takes(&suite.options, &rows.schema())? {
        return Ok("refused".into());
    }
    let ran = suite.over(vec![rows]).run().await;
    match ran.ended {
        Ok(_) => {}
        Err(failed) if failed.cause.is_said() => return Ok(format!("refused: {}", failed.message)),
        Err(failed) => return Err(super::bad(&failed)),
    }
    let bytes: Vec<u8> = ran.objects.into_iter().flat_map(|object| object.bytes).collect();
    let Some(values) = order(&bytes, NUMBERED.map(|(_, value)| value)) else {
        return Ok("where they are cannot be seen in what is written".into());
    };
    // Without names, a value's place says which it is.
    let names = order(&bytes, NUMBERED.map(|(name, _)| name)).unwrap_or([0, 1, 2]);
    if values == names {
        return Ok(String::new());
    }
    let told = |order: [usize; 3]| order.map(|column| format!("`{}`", NUMBERED[column].0)).join(", ");
    Err(Verdict::Failed(format!("values of the columns {} were written in the order {}", told(names), told(values))))
}

/// Which of the words comes first, which second, and which last; None if one is not there.
fn order(bytes: &[u8], words: [&str; 3]) -> Option<[usize; 3]> {
    let place = |word: &str| bytes.windows(word.len()).position(|window| window == word.as_bytes());
    let mut places = [(place(words[0])?, 0), (place(words[1])?, 1), (place(words[2])?, 2)];
    places.sort_unstable();
    Some(places.map(|(_, word)| word))
}

fn lists() -> Result<ArrayRef, arrow::error::ArrowError> {
    let mut array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    for _ in 0..DEPTH {
        let item = Arc::new(Field::new_list_field(array.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(vec![1; array.len()]);
        array = Arc::new(ListArray::try_new(item, offsets, array, None)?);
    }
    Ok(array)
}

fn structs() -> Result<ArrayRef, arrow::error::ArrowError> {
    let mut array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    for _ in 0..DEPTH {
        let fields = Fields::from(vec![Field::new("in", array.data_type().clone(), true)]);
        array = Arc::new(StructArray::try_new(fields, vec![array], None)?);
    }
    Ok(array)
}
