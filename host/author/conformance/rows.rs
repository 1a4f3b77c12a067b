//! Rows: none, one, many, in batches of any size, and what is written of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::FutureExt;

use super::{Check, Finding, Suite, Verdict, same, unmade, with_column};
use crate::plugin::Cause;

/// Rows of the runs that have a batch for each.
const SINGLE_ROWS: usize = 64;

/// One value that is larger than what the host takes in one call.
const LONG_BYTES: usize = 20 << 20;

pub static CHECKS: [Check; 9] = [
    Check {
        name: "rows",
        wants: "every row is in an object that is finished and says how many rows it holds",
        remedy: "finish every object with the number of the batches' rows in it; a format neither filters nor adds up",
        run: |suite| all_rows(suite).boxed(),
    },
    Check {
        name: "empty",
        wants: "a dataset without rows is no failure",
        remedy: "`finish` is called without any `write` before it: write what the format has without rows, or nothing",
        run: |suite| empty(suite).boxed(),
    },
    Check {
        name: "one-row",
        wants: "one row is enough",
        remedy: "look at what is done between rows, and after the last",
        run: |suite| one_row(suite).boxed(),
    },
    Check {
        name: "batches",
        wants: "how the rows come in batches changes no byte",
        remedy: "keep what spans rows in the formatter, not in `write`: batches are as large as reading makes them",
        run: |suite| batches(suite).boxed(),
    },
    Check {
        name: "repeat",
        wants: "another attempt writes the same bytes",
        remedy: "write neither `run` nor `attempt` into an object, nor what hangs on them: a repeat has to overwrite itself",
        run: |suite| repeat(suite).boxed(),
    },
    Check {
        name: "nulls",
        wants: "columns of nulls are written, or refused in words",
        remedy: "look at `null-count` and `validity` before a value; `values` hold nothing of use where it is null",
        run: |suite| nulls(suite).boxed(),
    },
    Check {
        name: "long-values",
        wants: "a text of 20 MiB is written, or refused in words",
        remedy: "write in pieces of 64 KiB to 1 MiB: the host takes up to `call_bytes` (16 MiB) in one call",
        run: |suite| long_values(suite).boxed(),
    },
    Check {
        name: "names",
        wants: "objects have legal names, each its own, whatever the share is called",
        remedy: "make names of `object-stem` and the extension; a name has 1 to 200 bytes, and no `/` or `\\`",
        run: |suite| names(suite).boxed(),
    },
    Check {
        name: "split",
        wants: "`max-object-bytes` is kept to, or has no effect",
        remedy: "begin the next object before a row would pass the limit; or ignore the limit, and say so",
        run: |suite| split(suite).boxed(),
    },
];

async fn all_rows(suite: &Suite) -> Finding {
    let objects = suite.usual().objects().await?;
    let bytes: u64 = objects.iter().map(|object| object.size_bytes).sum();
    let objects = if objects.len() == 1 { "1 object".into() } else { format!("{} objects", objects.len()) };
    Ok(format!("{} rows in {objects} of {bytes} bytes", suite.rows.num_rows()))
}

async fn empty(suite: &Suite) -> Finding {
    let objects = suite.over(Vec::new()).objects().await?;
    let names: Vec<String> = objects.iter().map(|object| object.name.clone()).collect();
    Ok(format!("it writes {}", super::listed(&names)))
}

async fn one_row(suite: &Suite) -> Finding {
    some(suite)?;
    suite.over(vec![suite.rows.slice(0, 1)]).objects().await?;
    Ok(String::new())
}

async fn batches(suite: &Suite) -> Finding {
    some(suite)?;
    let few = suite.rows.slice(0, suite.rows.num_rows().min(SINGLE_ROWS));
    for (rows, size, how) in [(&few, 1, "in batches of one row"), (&suite.rows, 7, "in batches of seven rows")] {
        let whole = suite.over(vec![rows.clone()]).objects().await?;
        let pieces = (0..rows.num_rows()).step_by(size);
        let pieces = pieces.map(|begin| rows.slice(begin, size.min(rows.num_rows() - begin))).collect();
        same(&whole, &suite.over(pieces).objects().await?, how)?;
    }
    Ok(String::new())
}

async fn repeat(suite: &Suite) -> Finding {
    let first = suite.usual().objects().await?;
    // Each run has an id of its own.
    same(&first, &suite.usual().objects().await?, "the second time")?;
    let mut later = suite.usual();
    later.settings.attempt = 17;
    same(&first, &later.objects().await?, "in attempt 17")?;
    Ok(String::new())
}

async fn nulls(suite: &Suite) -> Finding {
    some(suite)?;
    let rows = suite.rows.num_rows();
    let fields = suite.schema.fields();
    let nullable = fields.iter().filter(|field| field.is_nullable()).count();
    if nullable == 0 {
        return Err(Verdict::Skipped("no column of the rows may be null".into()));
    }
    let columns = fields.iter().zip(suite.rows.columns());
    let columns = columns.map(|(field, array)| match field.is_nullable() {
        true => new_null_array(field.data_type(), rows),
        false => array.clone(),
    });
    let batch = RecordBatch::try_new(suite.schema.clone(), columns.collect()).map_err(|error| unmade(&error))?;
    refused_or_written(suite, batch).await?;
    Ok(format!("{nullable} of {} columns", fields.len()))
}

async fn long_values(suite: &Suite) -> Finding {
    some(suite)?;
    let texts = [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View];
    let column = suite.schema.fields().iter().position(|field| texts.contains(field.data_type()));
    let Some(column) = column else {
        return Err(Verdict::Skipped("the rows have no column of text".into()));
    };
    let rows = suite.rows.slice(0, suite.rows.num_rows().min(3));
    let long = "0123456789abcdef".repeat(LONG_BYTES / 16);
    let values = (0..rows.num_rows()).map(|row| if row == 0 { long.as_str() } else { "" });
    let array: ArrayRef = Arc::new(StringArray::from_iter_values(values));
    let array = cast(&array, suite.schema.field(column).data_type()).map_err(|error| unmade(&error))?;
    refused_or_written(suite, with_column(&rows, column, array)?).await
}

/// A plugin may say that it cannot, and nothing else.
async fn refused_or_written(suite: &Suite, rows: RecordBatch) -> Finding {
    match suite.over(vec![rows]).run().await.ended {
        Ok(_) => Ok(String::new()),
        Err(failed) if failed.cause.is_said() => Ok(format!("refused: {}", failed.message)),
        Err(failed) => Err(super::bad(&failed)),
    }
}

async fn names(suite: &Suite) -> Finding {
    // As long as a name may be, and with all that one may have.
    for share in ["s".repeat(63), "0_a-b_".into()] {
        let mut attempt = suite.usual();
        attempt.settings.share = share.clone();
        let ran = attempt.run().await;
        if let Err(failed) = &ran.ended {
            let share = if share.len() > 20 { "one of 63 characters".to_owned() } else { share };
            let why = format!("for a share that is called {share}: {}", super::told(failed));
            return Err(Verdict::Failed(why));
        }
    }
    Ok(String::new())
}

async fn split(suite: &Suite) -> Finding {
    let whole = suite.usual().objects().await?;
    let bytes: u64 = whole.iter().map(|object| object.size_bytes).sum();
    let limit = bytes / 4;
    if limit == 0 || suite.rows.num_rows() < 8 {
        return Err(Verdict::Skipped("there is too little to split".into()));
    }
    let mut attempt = suite.usual();
    attempt.settings.max_object_bytes = Some(limit);
    let ran = attempt.run().await;
    match &ran.ended {
        Ok(_) => {}
        Err(failed) if failed.cause == Cause::Quota => return Ok(format!("refused: {}", failed.message)),
        Err(failed) => return Err(super::bad(failed)),
    }
    if ran.objects.len() <= whole.len() {
        return Ok("it does not split".into());
    }
    // A row that is larger than the limit has an object to itself.
    let over = ran.objects.iter().find(|object| object.size_bytes > 2 * limit && object.rows.unwrap_or(0) > 1);
    if let Some(object) = over {
        let why = format!("{} has {} bytes, and the limit is {limit}", object.name, object.size_bytes);
        return Err(Verdict::Failed(why));
    }
    Ok(format!("{} objects", ran.objects.len()))
}

fn some(suite: &Suite) -> Result<(), Verdict> {
    match suite.rows.num_rows() {
        0 => Err(Verdict::Skipped("there are no rows".into())),
        _ => Ok(()),
    }
}
