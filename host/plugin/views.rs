//! The views of a batch that are made by a library: an Arrow IPC stream and
//! lines of JSON. Both take plain batches (see [`super::plain`]).

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{LineDelimited, NullableEncoder, WriterBuilder, make_encoder};
use arrow::json::{Encoder, EncoderFactory, EncoderOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A stream of schema, this batch, and end.
pub fn arrow_ipc(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::with_capacity(batch.get_array_memory_size()), &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
}

/// One object a row, each ending in `\n`, nulls written.
pub fn json_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let contract = Arc::new(Contract::default());
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(contract.clone());
    let mut writer = builder.build::<_, LineDelimited>(Vec::with_capacity(batch.get_array_memory_size()));
    writer.write(batch)?;
    writer.finish()?;
    match contract.unsaid.get() {
        None => Ok(writer.into_inner()),
        Some(why) => Err(ArrowError::JsonError(why.clone())),
    }
}

/// Where the contract says something else than the library does, or says
/// something where the library gives up.
#[derive(Debug, Default)]
struct Contract {
    /// The first value that has no text, such as an instant after the year 262142. The
    /// library would write an error's text in its place.
    unsaid: Arc<OnceLock<String>>,
}

impl EncoderFactory for Contract {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => binary(|row| array.as_binary::<i32>().value(row)),
            DataType::LargeBinary => binary(|row| array.as_binary::<i64>().value(row)),
            DataType::FixedSizeBinary(_) => binary(|row| array.as_fixed_size_binary().value(row)),
            kind if kind.is_decimal() || kind.is_temporal() => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::new())?;
                let (name, unsaid) = (field.name(), self.unsaid.clone());
                Box::new(Rows(move |row, out: &mut Vec<u8>| match formatter.value(row).try_to_string() {
                    Ok(text) => {
                        out.push(b'"');
                        out.extend_from_slice(text.as_bytes());
                        out.push(b'"');
                    }
                    Err(error) => {
                        unsaid.get_or_init(|| format!("a value of `{name}` cannot be said in JSON lines: {error}"));
                        out.extend_from_slice(b"null");
                    }
                }))
            }
            DataType::Union(members, _) => {
                let union = array.as_union();
                let mut children = Vec::with_capacity(members.len());
                for (id, member) in members.iter() {
                    children.push((id, make_encoder(member, union.child(id).as_ref(), options)?));
                }
                Box::new(UnionRows { ids: union.type_ids(), offsets: union.offsets(), children })
            }
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let DataType::Struct(members) = entries.data_type() else { return Ok(None) };
                if matches!(map.key_type(), DataType::Utf8 | DataType::LargeUtf8) {
                    return Ok(None);
                }
                Box::new(MapRows {
                    offsets: map.value_offsets(),
                    keys: make_encoder(&members[0], map.keys().as_ref(), options)?,
                    values: make_encoder(&members[1], map.values().as_ref(), options)?,
                })
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

fn binary<'a>(value: impl Fn(usize) -> &'a [u8] + 'a) -> Box<dyn Encoder + 'a> {
    Box::new(Rows(move |row, out: &mut Vec<u8>| {
        let mut text = String::new();
        BASE64.encode_string(value(row), &mut text);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }))
}

struct Rows<F>(F);

impl<F: FnMut(usize, &mut Vec<u8>)> Encoder for Rows<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        (self.0)(row, out);
    }
}

/// The value itself, without its type id.
struct UnionRows<'a> {
    ids: &'a ScalarBuffer<i8>,
    offsets: Option<&'a ScalarBuffer<i32>>,
    children: Vec<(i8, NullableEncoder<'a>)>,
}

impl Encoder for UnionRows<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let id = self.ids[row];
        let position = self.offsets.map_or(row, |offsets| offsets[row].unsigned_abs() as usize);
        match self.children.iter_mut().find(|(child, _)| *child == id) {
            Some((_, child)) => value(child, position, out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

/// A map whose keys are not text: an object with the keys' JSON as text.
struct MapRows<'a> {
    offsets: &'a [i32],
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
}

impl Encoder for MapRows<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut key = Vec::new();
        let (begin, end) = (self.offsets[row].unsigned_abs() as usize, self.offsets[row + 1].unsigned_abs() as usize);
        for entry in begin..end {
            if entry > begin {
                out.push(b',');
            }
            key.clear();
            value(&mut self.keys, entry, &mut key);
            if key.starts_with(b"\"") {
                out.extend_from_slice(&key);
            } else {
                let text = serde_json::Value::String(String::from_utf8_lossy(&key).into_owned());
                out.extend_from_slice(text.to_string().as_bytes());
            }
            out.push(b':');
            value(&mut self.values, entry, out);
        }
        out.push(b'}');
    }
}

fn value(encoder: &mut NullableEncoder<'_>, row: usize, out: &mut Vec<u8>) {
    if encoder.is_null(row) {
        out.extend_from_slice(b"null");
    } else {
        encoder.encode(row, out);
    }
}
