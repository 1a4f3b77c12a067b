use crate::schema::{DataType, Field, Schema};
use crate::{Error, Validity};

/// Some consecutive rows of the dataset, lent for one call.
///
/// The three views of the data are made when asked for; ask once for the one
/// you need.
pub struct Batch<'a> {
    schema: &'a Schema,
    source: &'a dyn BatchSource,
}

/// Where a batch's data comes from: the host, or memory in a test.
pub trait BatchSource {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Every column, nested ones in preorder.
    fn columns(&self) -> Vec<RawColumn>;
    /// One self-contained Arrow IPC stream.
    fn arrow_ipc(&self) -> Vec<u8>;
    /// One JSON object a row, `\n` after each.
    fn json_lines(&self) -> Vec<u8>;
}

/// The buffers of one node of a batch, in Arrow's layout: little-endian,
/// aligned to one byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawColumn {
    /// Number of values.
    pub length: usize,
    /// Number of nulls.
    pub null_count: usize,
    /// One bit a value, least significant first, 1 = valid; absent when there
    /// are no nulls and for the null type and unions.
    pub validity: Option<Vec<u8>>,
    /// `length + 1` offsets (dense unions: `length` positions).
    pub offsets: Option<Vec<u8>>,
    /// The values' bytes; empty for null, lists, structs and maps.
    pub values: Vec<u8>,
}

/// One column of a batch, its buffers checked against its type. The typed views
/// ([`i64s`](Column::i64s), [`strs`](Column::strs), …) are in Arrow's terms: a
/// timestamp is read by `i64s`.
pub struct Column<'s> {
    pub(crate) field: &'s Field,
    pub(crate) raw: RawColumn,
    pub(crate) children: Vec<Column<'s>>,
}

impl<'a> Batch<'a> {
    /// A batch of `source`, whose columns are those of `schema`.
    pub fn new(schema: &'a Schema, source: &'a dyn BatchSource) -> Self {
        Batch { schema, source }
    }

    /// Number of rows, 1 to 65,536 when the host sends it.
    pub fn rows(&self) -> usize {
        self.source.rows()
    }

    /// The columns of the batch.
    pub fn schema(&self) -> &'a Schema {
        self.schema
    }

    /// Every column, in the schema's order: the fast view. Fails only when the
    /// buffers do not fit the schema, which would be the host's mistake.
    pub fn columns(&self) -> Result<Vec<Column<'a>>, Error> {
        let rows = self.rows();
        let mut raw = self.source.columns().into_iter();
        let mut columns = Vec::with_capacity(self.schema.fields.len());
        for field in &self.schema.fields {
            let column = build(field, &mut raw)?;
            if column.len() != rows {
                return Err(broken(field, "has not the batch's number of rows"));
            }
            columns.push(column);
        }
        match raw.next() {
            None => Ok(columns),
            Some(_) => Err(Error::Other("the host sent more columns than the schema has".into())),
        }
    }

    /// One self-contained Arrow IPC stream (schema, this batch, end), for
    /// formatters that link an Arrow library.
    pub fn arrow_ipc(&self) -> Vec<u8> {
        self.source.arrow_ipc()
    }

    /// One JSON object a row, `\n` after each: 64-bit integers are numbers,
    /// decimals strings, binary is base64, nulls are written.
    pub fn json_lines(&self) -> Vec<u8> {
        self.source.json_lines()
    }
}

impl<'s> Column<'s> {
    /// Name, type and nullability.
    pub fn field(&self) -> &'s Field {
        self.field
    }

    /// The column's name.
    pub fn name(&self) -> &'s str {
        &self.field.name
    }

    /// The column's type.
    pub fn data_type(&self) -> &'s DataType {
        &self.field.data_type
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.raw.length
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.raw.length == 0
    }

    /// Number of nulls; 0 for unions, whose nulls are their members'.
    pub fn null_count(&self) -> usize {
        match self.field.data_type {
            DataType::Null => self.raw.length,
            _ => self.raw.null_count,
        }
    }

    /// Whether the value at `row` is null. A union's is never: ask the member.
    pub fn is_null(&self, row: usize) -> bool {
        !self.validity().is_valid(row)
    }

    /// Which values are not null.
    pub fn validity(&self) -> Validity<'_> {
        match (&self.field.data_type, &self.raw.validity) {
            (DataType::Null, _) => Validity::all_null(),
            (_, None) => Validity::all_valid(),
            (_, Some(bits)) => Validity::from_bits(bits),
        }
    }

    /// The members of a nested column, as [`Field::children`] orders them.
    pub fn children(&self) -> &[Column<'s>] {
        &self.children
    }

    /// The buffers as they came.
    pub fn raw(&self) -> &RawColumn {
        &self.raw
    }

    /// Takes the buffers out, for a formatter that hands them on.
    pub fn into_raw(self) -> (RawColumn, Vec<Column<'s>>) {
        (self.raw, self.children)
    }
}

fn build<'s>(field: &'s Field, raw: &mut impl Iterator<Item = RawColumn>) -> Result<Column<'s>, Error> {
    let own = raw.next().ok_or_else(|| broken(field, "is missing"))?;
    let children = field.children().iter().map(|child| build(child, raw)).collect::<Result<Vec<_>, _>>()?;
    let column = Column { field, raw: own, children };
    verify(&column)?;
    Ok(column)
}

/// Everything that the views rely on, so that no row of a checked column can
/// reach outside its buffers.
fn verify(column: &Column<'_>) -> Result<(), Error> {
    let Column { field, raw, children } = column;
    let length = raw.length;
    if raw.validity.as_ref().is_some_and(|bits| bits.len() < length.div_ceil(8)) {
        return Err(broken(field, "has too short a validity bitmap"));
    }
    let item_count = children.first().map_or(0, Column::len);
    let same_length = children.iter().all(|child| child.len() >= length);
    let sound = match &field.data_type {
        DataType::Null => true,
        DataType::Boolean => raw.values.len() >= length.div_ceil(8),
        DataType::Utf8 | DataType::Binary => offsets_within::<4>(raw, raw.values.len()),
        DataType::LargeUtf8 | DataType::LargeBinary => offsets_within::<8>(raw, raw.values.len()),
        DataType::List(_) | DataType::Map { .. } => offsets_within::<4>(raw, item_count),
        DataType::LargeList(_) => offsets_within::<8>(raw, item_count),
        DataType::FixedSizeList { size, .. } => {
            length.checked_mul(*size as usize).is_some_and(|items| items <= item_count)
        }
        DataType::Struct(_) => same_length,
        DataType::SparseUnion { .. } => same_length && raw.values.len() >= length,
        DataType::DenseUnion { .. } => {
            let positions = raw.offsets.as_deref().unwrap_or_default().len();
            raw.values.len() >= length && positions / 4 >= length
        }
        plain => {
            let width = width(plain);
            length.checked_mul(width).is_some_and(|bytes| bytes <= raw.values.len())
        }
    };
    if sound { Ok(()) } else { Err(broken(field, "has buffers that do not fit its type")) }
}

fn offsets_within<const N: usize>(raw: &RawColumn, limit: usize) -> bool {
    let offsets = raw.offsets.as_deref().unwrap_or_default().as_chunks::<N>().0;
    let Some(offsets) = offsets.get(..raw.length + 1) else {
        return false;
    };
    let number = |bytes: &[u8; N]| {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(bytes);
        u64::from_le_bytes(wide)
    };
    // A negative offset reads as one beyond any limit.
    let rising = offsets.array_windows().fold(true, |so_far, [a, b]| so_far & (number(a) <= number(b)));
    rising && offsets.last().is_some_and(|last| number(last) <= limit as u64)
}

/// Bytes of one value of a plain type with neither offsets nor bits.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Int8 | DataType::UInt8 => 1,
        DataType::Int16 | DataType::UInt16 | DataType::Float16 => 2,
        DataType::Int64
        | DataType::UInt64
        | DataType::Float64
        | DataType::Decimal64 { .. }
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp { .. }
        | DataType::Duration(_)
        | DataType::Interval(crate::IntervalUnit::DayTime) => 8,
        DataType::Decimal128 { .. } | DataType::Interval(crate::IntervalUnit::MonthDayNano) => 16,
        DataType::Decimal256 { .. } => 32,
        DataType::FixedSizeBinary(size) => *size as usize,
        _ => 4,
    }
}

fn broken(field: &Field, what: &str) -> Error {
    Error::Other(format!("the host sent a broken batch: column `{}` {what}", field.name))
}
