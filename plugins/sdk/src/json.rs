//! Values as JSON (RFC 8259): every number exact, valid UTF-8.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::{Around, BinaryText, Block, Buffer, Plain, Scalar, Special};
use crate::views::{Bools, Bytes, Members, Ranges};
use crate::{Column, DataType, Error, Validity};

/// How values become JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JsonOptions {
    /// 64-bit integers as numbers (exact, but readers that know only doubles
    /// round beyond 2^53) or as strings.
    pub int64: Int64Text,
    /// Decimals as strings, or as numbers with all their digits, which most
    /// readers round to doubles.
    pub decimal: DecimalText,
    /// Whether a null is written or its key left out. Nulls in lists are always
    /// written.
    pub nulls: Nulls,
    /// What becomes of NaN and the infinities, which JSON does not have.
    pub non_finite: NonFinite,
    /// How binary data is written.
    pub binary: BinaryText,
}

/// 64-bit integers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Int64Text {
    /// `9007199254740993`.
    #[default]
    Number,
    /// `"9007199254740993"`.
    String,
}

/// Decimals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecimalText {
    /// `"12.50"`.
    #[default]
    String,
    /// `12.50`.
    Number,
}

/// Nulls of an object's members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Nulls {
    /// `"key":null`.
    #[default]
    Write,
    /// Nothing.
    Omit,
}

/// `NaN`, `Infinity` and `-Infinity`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// `null`.
    #[default]
    Null,
    /// `"NaN"`, `"Infinity"`, `"-Infinity"`.
    String,
    /// The delivery fails.
    Error,
}

/// The rows of a batch as JSON objects.
pub struct JsonObjects<'a> {
    members: MembersOf<'a>,
    /// What stands around the values of each member.
    arounds: Vec<Around>,
}

/// The values of one column as JSON.
pub struct JsonValues<'a> {
    validity: Validity<'a>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Null,
    Bool(Bools<'a>),
    Number(Scalar<'a>),
    Float(Scalar<'a>, NonFinite),
    Quoted(Scalar<'a>),
    Text(Bytes<'a>),
    Binary(Bytes<'a>, BinaryText),
    List(Ranges<'a>, Box<JsonValues<'a>>),
    /// Keys are text: an object.
    Map(Ranges<'a>, Bytes<'a>, Box<JsonValues<'a>>),
    /// Other keys: a list of `[key, value]`.
    Pairs(Ranges<'a>, Box<[JsonValues<'a>; 2]>),
    Struct(MembersOf<'a>),
    Union(Members<'a>, Vec<JsonValues<'a>>),
}

/// The members of an object, each with its `,"key":`; the first one's comma is not
/// written.
struct MembersOf<'a> {
    members: Vec<(Vec<u8>, JsonValues<'a>)>,
    nulls: Nulls,
}

const ESCAPED: Special = Special::new(b'"', b'\\', true);
const PLAIN: Plain = Plain { special: ESCAPED, but_of_length: None };

impl<'a> JsonObjects<'a> {
    /// The objects whose members are `columns`.
    pub fn of(columns: &'a [Column<'_>], options: &JsonOptions) -> Result<Self, Error> {
        let members = MembersOf::of(columns, options)?;
        let arounds = members.members.iter().map(|(key, values)| {
            let null = match options.nulls {
                Nulls::Write => &[key, &b"null"[..]].concat()[..],
                Nulls::Omit => &[],
            };
            values.around(key, null)
        });
        Ok(JsonObjects { arounds: arounds.collect(), members })
    }

    /// Appends the object of `row`.
    pub fn write(&self, row: usize, out: &mut Buffer) {
        self.members.write(row, out);
    }

    /// Appends an object and a line feed to each row of `block`.
    pub fn write_lines(&self, block: &mut Block) {
        let MembersOf { members, nulls } = &self.members;
        for ((key, values), around) in members.iter().zip(&self.arounds) {
            values.write_column(key, *nulls, around, block);
        }
        block.open_with(b'{');
        block.literal(b"}\n");
    }
}

impl<'a> JsonValues<'a> {
    /// The values of `column`. Fails when there is one that the options say
    /// must not be.
    pub fn of(column: &'a Column<'_>, options: &JsonOptions) -> Result<Self, Error> {
        Ok(JsonValues { validity: column.validity(), kind: Kind::of(column, options)? })
    }

    /// Appends the value at `row`.
    #[inline(always)]
    pub fn write(&self, row: usize, out: &mut Buffer) {
        if !self.validity.is_valid(row) {
            return out.extend(b"null");
        }
        match &self.kind {
            Kind::Number(scalar) => scalar.write(row, out),
            Kind::Float(scalar, non_finite) => {
                if scalar.is_finite(row) {
                    scalar.write(row, out);
                } else if *non_finite == NonFinite::String {
                    quoted(out, |out| scalar.write(row, out));
                } else {
                    out.extend(b"null");
                }
            }
            Kind::Quoted(scalar) => quoted(out, |out| scalar.write(row, out)),
            Kind::Text(texts) => write_string(texts.value(row), out),
            Kind::Bool(bools) => out.extend(if bools.value(row) { b"true" } else { b"false" }),
            other => other.write_rare(row, out),
        }
    }

    fn around(&self, key: &[u8], null: &[u8]) -> Around {
        match self.kind {
            Kind::Quoted(_) | Kind::Text(_) => Around::new(&[key, b"\""].concat(), Some(b'"'), null),
            _ => Around::new(key, None, null),
        }
    }

    /// Appends the members of `key` to each row of `block`.
    fn write_column(&self, key: &[u8], nulls: Nulls, around: &Around, block: &mut Block) {
        match &self.kind {
            Kind::Number(scalar) | Kind::Quoted(scalar) => block.scalars(scalar, self.validity, around),
            Kind::Text(texts) => block.texts(texts, self.validity, around, &PLAIN, write_escaped),
            Kind::Bool(bools) => block.bools(bools, self.validity, around, [b"true", b"false"]),
            _ => block.cells(|row, out| {
                if nulls == Nulls::Write || !self.is_null(row) {
                    out.extend(key);
                    self.write(row, out);
                }
            }),
        }
    }

    /// Whether the value at `row` is null; a union's is when its member's is.
    pub fn is_null(&self, row: usize) -> bool {
        match &self.kind {
            Kind::Union(members, children) => {
                members.get(row).and_then(|(child, row)| Some(children.get(child)?.is_null(row))).unwrap_or(true)
            }
            _ => !self.validity.is_valid(row),
        }
    }
}

impl<'a> Kind<'a> {
    fn of(column: &'a Column<'_>, options: &JsonOptions) -> Result<Self, Error> {
        if let Some(scalar) = Scalar::of(column)? {
            return Kind::of_scalar(column, scalar, options);
        }
        let value = |column| Ok(Box::new(JsonValues::of(column, options)?));
        let children = column.children();
        Ok(match (column.data_type(), children) {
            (DataType::Boolean, _) => Kind::Bool(column.bools()?),
            (DataType::Utf8 | DataType::LargeUtf8, _) => Kind::Text(column.bytes()?),
            (DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_), _) => {
                Kind::Binary(column.bytes()?, options.binary)
            }
            (DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList { .. }, [item]) => {
                Kind::List(column.ranges()?, value(item)?)
            }
            (DataType::Map { .. }, [entries]) => match entries.children() {
                [keys, values] if matches!(keys.data_type(), DataType::Utf8 | DataType::LargeUtf8) => {
                    Kind::Map(column.ranges()?, keys.bytes()?, value(values)?)
                }
                [keys, values] => {
                    let pair = [JsonValues::of(keys, options)?, JsonValues::of(values, options)?];
                    Kind::Pairs(column.ranges()?, Box::new(pair))
                }
                _ => Kind::Null,
            },
            (DataType::Struct(_), _) => Kind::Struct(MembersOf::of(children, options)?),
            (DataType::SparseUnion { .. } | DataType::DenseUnion { .. }, _) => {
                let members = children.iter().map(|child| JsonValues::of(child, options));
                Kind::Union(column.members()?, members.collect::<Result<_, _>>()?)
            }
            _ => Kind::Null,
        })
    }

    fn of_scalar(column: &Column<'_>, scalar: Scalar<'a>, options: &JsonOptions) -> Result<Self, Error> {
        let as_string = |yes: bool| if yes { Kind::Quoted(scalar) } else { Kind::Number(scalar) };
        Ok(match scalar {
            Scalar::I64(_) | Scalar::U64(_) => as_string(options.int64 == Int64Text::String),
            Scalar::I8(_) | Scalar::I16(_) | Scalar::I32(_) | Scalar::U8(_) | Scalar::U16(_) | Scalar::U32(_) => {
                Kind::Number(scalar)
            }
            Scalar::Decimal32(..) | Scalar::Decimal64(..) | Scalar::Decimal128(..) | Scalar::Decimal256(..) => {
                as_string(options.decimal == DecimalText::String)
            }
            Scalar::F16(_) | Scalar::F32(_) | Scalar::F64(_) => {
                let Some(row) = scalar.first_non_finite() else {
                    return Ok(Kind::Number(scalar));
                };
                if options.non_finite == NonFinite::Error {
                    let mut value = Buffer::new();
                    scalar.write(row, &mut value);
                    return Err(Error::Unsupported(format!(
                        "column `{}` holds {} (value {row} of a batch), which JSON cannot say: \
                         set options.non_finite to \"null\" or \"string\", or filter it in the query",
                        column.name(),
                        String::from_utf8_lossy(value.as_bytes()),
                    )));
                }
                Kind::Float(scalar, options.non_finite)
            }
            _ => Kind::Quoted(scalar),
        })
    }

    #[inline(never)]
    fn write_rare(&self, row: usize, out: &mut Buffer) {
        match self {
            Kind::Binary(values, text) => quoted(out, |out| out.binary(values.value(row), *text)),
            Kind::List(ranges, items) => {
                list(out, ranges, row, [b'[', b']'], |out, item| items.write(item, out));
            }
            Kind::Map(ranges, keys, values) => list(out, ranges, row, [b'{', b'}'], |out, item| {
                write_string(keys.value(item), out);
                out.push(b':');
                values.write(item, out);
            }),
            Kind::Pairs(ranges, pair) => list(out, ranges, row, [b'[', b']'], |out, item| {
                let [keys, values] = &**pair;
                out.push(b'[');
                keys.write(item, out);
                out.push(b',');
                values.write(item, out);
                out.push(b']');
            }),
            Kind::Struct(members) => members.write(row, out),
            Kind::Union(members, children) => {
                match members.get(row).and_then(|(child, row)| Some((children.get(child)?, row))) {
                    Some((child, row)) => child.write(row, out),
                    None => out.extend(b"null"),
                }
            }
            _ => out.extend(b"null"),
        }
    }
}

impl<'a> MembersOf<'a> {
    fn of(columns: &'a [Column<'_>], options: &JsonOptions) -> Result<Self, Error> {
        let member = |column: &'a Column<'_>| {
            let mut key = Buffer::new();
            key.push(b',');
            write_string(column.name().as_bytes(), &mut key);
            key.push(b':');
            Ok((key.as_bytes().to_vec(), JsonValues::of(column, options)?))
        };
        let members = columns.iter().map(member).collect::<Result<_, Error>>()?;
        Ok(MembersOf { members, nulls: options.nulls })
    }

    fn write(&self, row: usize, out: &mut Buffer) {
        let mut comma = 1;
        out.push(b'{');
        for (key, value) in &self.members {
            if self.nulls == Nulls::Write || !value.is_null(row) {
                out.extend(key.get(comma..).unwrap_or_default());
                value.write(row, out);
                comma = 0;
            }
        }
        out.push(b'}');
    }
}

/// Appends a text as a JSON string.
pub fn write_string(text: &[u8], out: &mut Buffer) {
    out.push(b'"');
    if ESCAPED.is_in(text) {
        write_escaped(text, out);
    } else {
        out.extend(text);
    }
    out.push(b'"');
}

fn write_escaped(text: &[u8], out: &mut Buffer) {
    let mut start = 0;
    for (at, byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => 0,
            _ => continue,
        };
        out.extend(text.get(start..at).unwrap_or_default());
        start = at + 1;
        if short > 0 {
            out.extend(&[b'\\', short]);
        } else {
            out.extend(b"\\u00");
            out.binary(&[*byte], BinaryText::Hex);
        }
    }
    out.extend(text.get(start..).unwrap_or_default());
}

#[inline(always)]
fn quoted(out: &mut Buffer, write: impl FnOnce(&mut Buffer)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn list(out: &mut Buffer, ranges: &Ranges<'_>, row: usize, [open, close]: [u8; 2], write: impl Fn(&mut Buffer, usize)) {
    out.push(open);
    for (position, item) in ranges.get(row).unwrap_or_default().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(close);
}
