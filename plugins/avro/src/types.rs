//! The dataset's types as Avro's, value by value the same.

use std::collections::BTreeSet;

use consign_sdk::{DataType, Diagnostic, Error, Field, Schema, TimeUnit};

use crate::options::{Nanoseconds, Options};

/// An Avro type, and how values become it.
#[derive(Debug)]
pub(crate) struct Type {
    /// A union with null, which comes first.
    pub optional: bool,
    pub kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Boolean,
    /// An int or a long, whose value is the dataset's.
    Integer(Integer),
    /// An int or a long that is said in another unit.
    Converted(Integer, Conversion),
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Bytes,
    Fixed {
        name: Name,
        size: u32,
    },
    String,
    Array(Box<Type>),
    /// Keys are text.
    Map(Box<Type>),
    Record {
        name: Name,
        members: Vec<(String, Type)>,
    },
}

/// A type's name, and whether this is where it is defined.
#[derive(Debug)]
pub(crate) struct Name {
    text: String,
    defined_here: bool,
}

/// What the schema says of a whole number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integer {
    long: bool,
    logical: Option<&'static str>,
}

/// How another whole number is made of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// It only must not exceed a long.
    OfU64,
    /// Of milliseconds, the whole days.
    Days,
    /// Of seconds, milliseconds.
    TimesThousand,
    /// Of nanoseconds, the whole microseconds.
    ByThousand,
}

impl Integer {
    const fn int(logical: Option<&'static str>) -> Self {
        Integer { long: false, logical }
    }

    const fn long(logical: Option<&'static str>) -> Self {
        Integer { long: true, logical }
    }
}

/// The letters that Avro's names may have.
pub(crate) fn is_name(text: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.bytes().all(part) && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// The type of each column, or everything in the schema that Avro cannot say.
pub(crate) fn columns(schema: &Schema, options: &Options) -> Result<Vec<Type>, Error> {
    let mut build = Build { options, names: BTreeSet::from([options.name.clone()]), problems: Vec::new() };
    if schema.fields.is_empty() {
        build.problems.push("the dataset has no columns: select at least one in the query".into());
    }
    build.distinct("", &schema.fields);
    let columns = schema.fields.iter().map(|field| build.field(field, &field.name, &field.name)).collect();
    if build.problems.is_empty() { Ok(columns) } else { Err(Error::Unsupported(build.problems.join("; "))) }
}

/// What is written, though with less meaning than the dataset has.
pub(crate) fn warnings(schema: &Schema) -> Vec<Diagnostic> {
    fn visit(field: &Field, top: &str, warnings: &mut Vec<Diagnostic>) {
        if let DataType::Duration(unit) = &field.data_type {
            let unit = match unit {
                TimeUnit::Second => "seconds",
                TimeUnit::Millisecond => "milliseconds",
                TimeUnit::Microsecond => "microseconds",
                TimeUnit::Nanosecond => "nanoseconds",
            };
            let message = format!("column `{top}`: Avro has no signed durations, readers see a long of {unit}");
            warnings.push(Diagnostic::warning("", message));
        }
        field.children().iter().for_each(|child| visit(child, top, warnings));
    }
    let mut warnings = Vec::new();
    schema.fields.iter().for_each(|field| visit(field, &field.name, &mut warnings));
    warnings
}

struct Build<'a> {
    options: &'a Options,
    /// Of the types that are defined so far.
    names: BTreeSet<String>,
    problems: Vec<String>,
}

impl Build<'_> {
    /// `path` is for messages, `name` what a record here is called.
    fn field(&mut self, field: &Field, path: &str, name: &str) -> Type {
        let kind = self.kind(&field.data_type, path, name);
        Type { optional: field.nullable && !matches!(kind, Kind::Null), kind }
    }

    fn kind(&mut self, of: &DataType, path: &str, name: &str) -> Kind {
        if let Some((what, instead)) = beyond_avro(of) {
            self.problems.push(format!("column `{path}`: Avro cannot hold {what}: {instead}"));
            return Kind::Null;
        }
        match of {
            DataType::FixedSizeBinary(size) => {
                let text = format!("{}_fixed_{size}", self.options.name);
                let defined_here = self.names.insert(text.clone());
                Kind::Fixed { name: Name { text, defined_here }, size: *size }
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList { item, .. } => {
                Kind::Array(Box::new(self.field(item, &format!("{path}.{}", item.name), name)))
            }
            DataType::Struct(members) => self.record(members, path, name),
            DataType::Map { entries, .. } => match entries.children() {
                [key, value] if matches!(key.data_type, DataType::Utf8 | DataType::LargeUtf8) => {
                    Kind::Map(Box::new(self.field(value, &format!("{path}.value"), name)))
                }
                [key, value] => {
                    let key = Field { name: "key".into(), nullable: false, ..key.clone() };
                    let value = Field { name: "value".into(), ..value.clone() };
                    let kind = self.record(&[key, value], path, name);
                    Kind::Array(Box::new(Type { optional: false, kind }))
                }
                _ => Kind::Null,
            },
            plain => plain_kind(plain, self.options.nanoseconds),
        }
    }

    fn record(&mut self, members: &[Field], path: &str, name: &str) -> Kind {
        let own = self.unused(&format!("{}_{name}", self.options.name));
        self.distinct(&format!("{path}."), members);
        let members = members.iter().map(|member| {
            let (path, name) = (format!("{path}.{}", member.name), format!("{name}_{}", member.name));
            (member.name.clone(), self.field(member, &path, &name))
        });
        Kind::Record { members: members.collect(), name: Name { text: own, defined_here: true } }
    }

    /// `a_b` of `c` and `a` of `b_c` would be called the same.
    fn unused(&mut self, name: &str) -> String {
        let mut unused = name.to_owned();
        let mut number = 1;
        while !self.names.insert(unused.clone()) {
            number += 1;
            unused = format!("{name}_{number}");
        }
        unused
    }

    /// Names that Avro does not allow, or not twice.
    fn distinct(&mut self, path: &str, fields: &[Field]) {
        let mut names = BTreeSet::new();
        for Field { name, .. } in fields {
            if !is_name(name) {
                self.problems.push(format!(
                    "column `{path}{name}`: Avro's names have only letters of ASCII, digits and `_`, and do not begin \
                     with a digit: rename it in the query (`as`)"
                ));
            } else if !names.insert(name) {
                self.problems.push(format!("two columns are named `{path}{name}`: rename one in the query (`as`)"));
            }
        }
    }
}

/// What of this type, its members aside, Avro cannot hold, and what to do.
fn beyond_avro(of: &DataType) -> Option<(String, &'static str)> {
    match of {
        DataType::SparseUnion { .. } | DataType::DenseUnion { .. } => {
            Some(("a union of columns".into(), "select one of its members in the query"))
        }
        DataType::Interval(_) => Some((
            "an interval, because its durations have no sign".into(),
            "cast it to text in the query, or select a number of days or seconds",
        )),
        DataType::Decimal32 { precision, scale }
        | DataType::Decimal64 { precision, scale }
        | DataType::Decimal128 { precision, scale }
        | DataType::Decimal256 { precision, scale } => {
            let sound = *precision > 0 && (0..=i16::from(*precision)).contains(&i16::from(*scale));
            (!sound).then(|| (of.to_string(), "cast it to a decimal with a scale from 0 to its precision"))
        }
        DataType::FixedSizeBinary(0) => Some(("binary values of 0 bytes".into(), "leave it out")),
        _ => None,
    }
}

/// A type without members.
fn plain_kind(of: &DataType, nanoseconds: Nanoseconds) -> Kind {
    match of {
        DataType::Boolean => Kind::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            Kind::Integer(Integer::int(None))
        }
        DataType::Int64 | DataType::UInt32 | DataType::Duration(_) => Kind::Integer(Integer::long(None)),
        DataType::UInt64 => Kind::Converted(Integer::long(None), Conversion::OfU64),
        DataType::Float16 | DataType::Float32 => Kind::Float,
        DataType::Float64 => Kind::Double,
        DataType::Decimal32 { precision, scale }
        | DataType::Decimal64 { precision, scale }
        | DataType::Decimal128 { precision, scale }
        | DataType::Decimal256 { precision, scale } => Kind::Decimal { precision: *precision, scale: *scale },
        DataType::Date32 => Kind::Integer(Integer::int(Some("date"))),
        DataType::Date64 => Kind::Converted(Integer::int(Some("date")), Conversion::Days),
        DataType::Time32(TimeUnit::Second) => {
            Kind::Converted(Integer::int(Some("time-millis")), Conversion::TimesThousand)
        }
        DataType::Time32(_) => Kind::Integer(Integer::int(Some("time-millis"))),
        DataType::Time64(TimeUnit::Nanosecond) => {
            Kind::Converted(Integer::long(Some("time-micros")), Conversion::ByThousand)
        }
        DataType::Time64(_) => Kind::Integer(Integer::long(Some("time-micros"))),
        DataType::Timestamp { unit, timezone } => timestamp(*unit, timezone.is_some(), nanoseconds),
        DataType::Binary | DataType::LargeBinary => Kind::Bytes,
        DataType::Utf8 | DataType::LargeUtf8 => Kind::String,
        // The null type; nested ones do not come here.
        _ => Kind::Null,
    }
}

fn timestamp(unit: TimeUnit, instant: bool, nanoseconds: Nanoseconds) -> Kind {
    let long = |at: &'static str, local: &'static str| Integer::long(Some(if instant { at } else { local }));
    let millis = long("timestamp-millis", "local-timestamp-millis");
    let micros = long("timestamp-micros", "local-timestamp-micros");
    match (unit, nanoseconds) {
        (TimeUnit::Second, _) => Kind::Converted(millis, Conversion::TimesThousand),
        (TimeUnit::Millisecond, _) => Kind::Integer(millis),
        (TimeUnit::Microsecond, _) => Kind::Integer(micros),
        (TimeUnit::Nanosecond, Nanoseconds::Micros) => Kind::Converted(micros, Conversion::ByThousand),
        (TimeUnit::Nanosecond, Nanoseconds::Nanos) => Kind::Integer(long("timestamp-nanos", "local-timestamp-nanos")),
    }
}

/// The schema as the file has it. Every name was found to need no escaping.
pub(crate) fn schema_json(name: &str, schema: &Schema, columns: &[Type]) -> String {
    let fields = schema.fields.iter().zip(columns).map(|(field, column)| field_json(&field.name, column));
    record_json(name, fields)
}

fn record_json(name: &str, fields: impl Iterator<Item = String>) -> String {
    let fields: Vec<String> = fields.collect();
    format!(r#"{{"type":"record","name":"{name}","fields":[{}]}}"#, fields.join(","))
}

fn field_json(name: &str, of: &Type) -> String {
    let default = if of.optional { r#","default":null"# } else { "" };
    format!(r#"{{"name":"{name}","type":{}{default}}}"#, type_json(of))
}

fn type_json(of: &Type) -> String {
    let json = match &of.kind {
        Kind::Null => r#""null""#.into(),
        Kind::Boolean => r#""boolean""#.into(),
        Kind::Integer(integer) | Kind::Converted(integer, _) => {
            let plain = if integer.long { "long" } else { "int" };
            match integer.logical {
                None => format!(r#""{plain}""#),
                Some(logical) => format!(r#"{{"type":"{plain}","logicalType":"{logical}"}}"#),
            }
        }
        Kind::Float => r#""float""#.into(),
        Kind::Double => r#""double""#.into(),
        Kind::Decimal { precision, scale } => {
            format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
        }
        Kind::Bytes => r#""bytes""#.into(),
        Kind::String => r#""string""#.into(),
        Kind::Fixed { name: Name { text, defined_here: true }, size } => {
            format!(r#"{{"type":"fixed","name":"{text}","size":{size}}}"#)
        }
        Kind::Fixed { name, .. } => format!(r#""{}""#, name.text),
        Kind::Array(items) => format!(r#"{{"type":"array","items":{}}}"#, type_json(items)),
        Kind::Map(values) => format!(r#"{{"type":"map","values":{}}}"#, type_json(values)),
        Kind::Record { name, members } => {
            record_json(&name.text, members.iter().map(|(name, member)| field_json(name, member)))
        }
    };
    if of.optional { format!(r#"["null",{json}]"#) } else { json }
}
