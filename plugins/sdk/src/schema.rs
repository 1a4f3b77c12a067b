use std::fmt;
use std::slice;

#[cfg(any(target_arch = "wasm32", test))]
pub(crate) mod preorder;

/// Deepest nesting of types that a schema may have, so that code that walks
/// it by recursion cannot exhaust the stack.
pub const MAX_DEPTH: usize = 64;

/// The columns of the dataset, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// The top-level columns.
    pub fields: Vec<Field>,
}

/// One column, or one member of a nested column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; may be empty and need not be unique.
    pub name: String,
    /// Its type, which holds the children of a nested one.
    pub data_type: DataType,
    /// Whether the dataset says that nulls can occur.
    pub nullable: bool,
}

/// Unit of a time, timestamp or duration value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeUnit {
    /// 1 s.
    Second,
    /// 10⁻³ s.
    Millisecond,
    /// 10⁻⁶ s.
    Microsecond,
    /// 10⁻⁹ s.
    Nanosecond,
}

/// Layout of an interval value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalUnit {
    /// Months, as [`Column::i32s`](crate::Column::i32s).
    YearMonth,
    /// Days and milliseconds, as [`Column::day_times`](crate::Column::day_times).
    DayTime,
    /// Months, days and nanoseconds, as
    /// [`Column::month_day_nanos`](crate::Column::month_day_nanos).
    MonthDayNano,
}

/// The type of a column: Arrow's logical types, without its encodings (the
/// host decodes dictionaries, runs and views).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Arrow's and say it all")]
pub enum DataType {
    /// Every value is null.
    Null,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float16,
    Float32,
    Float64,
    /// value = stored integer / 10^scale; a negative scale multiplies.
    Decimal32 {
        precision: u8,
        scale: i8,
    },
    Decimal64 {
        precision: u8,
        scale: i8,
    },
    Decimal128 {
        precision: u8,
        scale: i8,
    },
    Decimal256 {
        precision: u8,
        scale: i8,
    },
    /// i32 days since 1970-01-01.
    Date32,
    /// i64 milliseconds since 1970-01-01.
    Date64,
    /// i32 since midnight.
    Time32(TimeUnit),
    /// i64 since midnight.
    Time64(TimeUnit),
    /// i64 since 1970-01-01T00:00:00. With a zone it is an instant (UTC) meant
    /// to be shown in that zone; without one, a local date and time.
    Timestamp {
        unit: TimeUnit,
        timezone: Option<String>,
    },
    /// i64.
    Duration(TimeUnit),
    Interval(IntervalUnit),
    Binary,
    LargeBinary,
    /// This many bytes a value.
    FixedSizeBinary(u32),
    Utf8,
    LargeUtf8,
    List(Box<Field>),
    LargeList(Box<Field>),
    /// This many items a value.
    FixedSizeList {
        item: Box<Field>,
        size: u32,
    },
    Struct(Vec<Field>),
    /// `entries` is a struct of (key, value).
    Map {
        entries: Box<Field>,
        sorted: bool,
    },
    /// `ids` names each member, in order.
    SparseUnion {
        ids: Vec<i8>,
        members: Vec<Field>,
    },
    DenseUnion {
        ids: Vec<i8>,
        members: Vec<Field>,
    },
}

impl Field {
    /// A field that may hold nulls.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Field { name: name.into(), data_type, nullable: true }
    }

    /// The members of a nested type, in order; none for a plain one.
    pub fn children(&self) -> &[Field] {
        match &self.data_type {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList { item, .. }
            | DataType::Map { entries: item, .. } => slice::from_ref(item),
            DataType::Struct(members)
            | DataType::SparseUnion { members, .. }
            | DataType::DenseUnion { members, .. } => members,
            _ => &[],
        }
    }
}

impl TimeUnit {
    /// How many of it make a second.
    pub const fn per_second(self) -> i64 {
        match self {
            TimeUnit::Second => 1,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond => 1_000_000,
            TimeUnit::Nanosecond => 1_000_000_000,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: &TimeUnit| match unit {
            TimeUnit::Second => "s",
            TimeUnit::Millisecond => "ms",
            TimeUnit::Microsecond => "us",
            TimeUnit::Nanosecond => "ns",
        };
        match self {
            DataType::Decimal32 { precision, scale }
            | DataType::Decimal64 { precision, scale }
            | DataType::Decimal128 { precision, scale }
            | DataType::Decimal256 { precision, scale } => {
                write!(f, "decimal({precision}, {scale})")
            }
            DataType::Time32(u) | DataType::Time64(u) => write!(f, "time({})", unit(u)),
            DataType::Duration(u) => write!(f, "duration({})", unit(u)),
            DataType::Timestamp { unit: u, timezone: None } => write!(f, "timestamp({})", unit(u)),
            DataType::Timestamp { unit: u, timezone: Some(zone) } => {
                write!(f, "timestamp({}, {zone})", unit(u))
            }
            DataType::FixedSizeBinary(size) => write!(f, "binary({size})"),
            DataType::List(item) | DataType::LargeList(item) => {
                write!(f, "list<{}>", item.data_type)
            }
            DataType::FixedSizeList { item, size } => write!(f, "list<{}, {size}>", item.data_type),
            DataType::Struct(members) => {
                f.write_str("struct<")?;
                for (i, member) in members.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", member.name, member.data_type)?;
                }
                f.write_str(">")
            }
            DataType::Map { entries, .. } => write!(f, "map<{}>", entries.data_type),
            DataType::SparseUnion { .. } | DataType::DenseUnion { .. } => f.write_str("union"),
            DataType::Interval(_) => f.write_str("interval"),
            DataType::Binary | DataType::LargeBinary => f.write_str("binary"),
            DataType::Utf8 | DataType::LargeUtf8 => f.write_str("text"),
            plain => f.write_str(&format!("{plain:?}").to_lowercase()),
        }
    }
}
