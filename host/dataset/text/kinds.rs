//! What the values of a column can be: the types that hold every one of them
//! without a loss. What no type holds is text in CSV, and an error in JSON.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::exact::{self, Number, Scalar, Stamp};
use super::{Declared, malformed, shown};
use crate::dataset::error::DatasetError;

/// A set of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    const NONE: Self = Self(0);
    const ALL: Self = Self(u16::MAX);
    const BOOLEAN: Self = Self(1);
    const WHOLE: Self = Self(1 << 1);
    const FRACTION: Self = Self(1 << 2);
    const DATE: Self = Self(1 << 3);
    /// In seconds; the three finer units follow.
    const LOCAL: Self = Self(0b1111 << 4);
    const ZONED: Self = Self(0b1111 << 8);
    const TEXT: Self = Self(1 << 12);
    const LIST: Self = Self(1 << 13);
    const OBJECT: Self = Self(1 << 14);
    const NUMBER: Self = Self(Self::WHOLE.0 | Self::FRACTION.0);
    const TIMES: Self = Self(Self::DATE.0 | Self::LOCAL.0 | Self::ZONED.0);

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn any(self, of: Self) -> bool {
        self.and(of) != Self::NONE
    }

    /// The types in `among` that hold this text of a CSV file.
    fn of_text(text: &str, among: Self) -> Self {
        let mut kinds = Self::NONE;
        if among.any(Self::NUMBER)
            && let Some(number) = Number::of(text)
        {
            kinds = kinds.or(Self::of_number(&number));
        }
        if among.any(Self::TIMES) {
            if exact::date(text).is_some() {
                kinds = kinds.or(Self::DATE);
            } else if let Some(stamp) = Stamp::of(text) {
                kinds = kinds.or(Self::of_stamp(&stamp));
            }
        }
        if among.any(Self::BOOLEAN) && exact::boolean(text) {
            kinds = kinds.or(Self::BOOLEAN);
        }
        kinds.and(among)
    }

    /// A number that begins with a zero or a plus sign is a code: a postcode, an account, a telephone.
    fn of_number(number: &Number<'_>) -> Self {
        if number.is_code() {
            return Self::NONE;
        }
        let whole = if number.is_i64() { Self::WHOLE } else { Self::NONE };
        let fraction = if number.is_f64() { Self::FRACTION } else { Self::NONE };
        whole.or(fraction)
    }

    fn of_stamp(stamp: &Stamp) -> Self {
        let units = exact::UNITS.iter().enumerate().filter(|(_, unit)| stamp.fits(**unit));
        let units = units.fold(0, |bits, (at, _)| bits | 1 << at);
        Self(units << if stamp.zoned { Self::ZONED } else { Self::LOCAL }.0.trailing_zeros())
    }

    fn is_number(self) -> bool {
        self.any(Self::NUMBER) && self.and(Self::NUMBER) == self
    }
}

/// A column of a text file, or a part of a nested one, and what has been seen of it.
#[derive(Clone, Debug)]
pub(in crate::dataset) struct Column {
    pub name: String,
    /// For people: `a.b`, `a[]`.
    path: String,
    declared: Option<Declared>,
    kinds: Kinds,
    /// The value that last ruled a type out, and its line.
    last: (u64, String),
    /// What an object has, in the order of first appearance.
    fields: Vec<Column>,
    /// What a list has.
    item: Option<Box<Column>>,
}

/// The column of that name, which was at `at` last time; added if there is none.
pub(super) fn named<'a>(
    columns: &'a mut Vec<Column>,
    name: &str,
    at: usize,
    new: impl FnOnce() -> Column,
) -> &'a mut Column {
    let known = match columns.get(at) {
        Some(column) if column.name == name => Some(at),
        _ => columns.iter().position(|column| column.name == name),
    };
    let at = known.unwrap_or(columns.len());
    if known.is_none() {
        columns.push(new());
    }
    &mut columns[at]
}

impl Column {
    pub(super) fn new(name: &str, declared: &[Declared]) -> Self {
        let declared = declared.iter().find(|declared| declared.column == name).cloned();
        Self { declared, ..Self::inner(name, name.into()) }
    }

    fn inner(name: &str, path: String) -> Self {
        let (fields, item) = (Vec::new(), None);
        Self { name: name.into(), path, declared: None, kinds: Kinds::ALL, last: (0, String::new()), fields, item }
    }

    /// A field of CSV; an empty one is NULL.
    pub(super) fn field_of_csv(&mut self, text: &str, line: u64) -> Result<(), DatasetError> {
        match &self.declared {
            _ if text.is_empty() => Ok(()),
            Some(declared) if !exact::holds(&declared.data_type, Scalar::Field(text)) => Err(self.lost(text, line)),
            Some(_) => Ok(()),
            None if self.kinds == Kinds::NONE => Ok(()),
            None => {
                self.kinds = Kinds::of_text(text, self.kinds);
                Ok(())
            }
        }
    }

    /// A string, number, `true` or `false` of JSON.
    pub(super) fn scalar(&mut self, value: Scalar<'_>, line: u64) -> Result<(), DatasetError> {
        let text = value.written();
        if let Some(declared) = &self.declared {
            return if exact::holds(&declared.data_type, value) { Ok(()) } else { Err(self.lost(text, line)) };
        }
        match value {
            Scalar::Field(_) | Scalar::Text(_) => {
                self.narrow(Kinds::TEXT, line, || format!("the text {}", shown(text)))
            }
            Scalar::Boolean(_) => self.narrow(Kinds::BOOLEAN, line, || text.to_owned()),
            Scalar::Number(_) => match Number::of(text).map_or(Kinds::NONE, |number| Kinds::of_number(&number)) {
                Kinds::NONE => Err(self.lost(text, line)),
                kinds => self.narrow(kinds, line, || format!("the number {}", shown(text))),
            },
        }
    }

    /// The column of a list's items.
    pub(super) fn list(&mut self, line: u64) -> Result<&mut Column, DatasetError> {
        self.nested(Kinds::LIST, line, "a list")?;
        let path = &self.path;
        Ok(self.item.get_or_insert_with(|| Box::new(Column::inner("item", format!("{path}[]")))))
    }

    /// An object's key; `at` is where it was last time.
    pub(super) fn key(&mut self, key: &str, at: usize) -> &mut Column {
        let path = &self.path;
        named(&mut self.fields, key, at, || Column::inner(key, format!("{path}.{key}")))
    }

    pub(super) fn object(&mut self, line: u64) -> Result<(), DatasetError> {
        self.nested(Kinds::OBJECT, line, "an object")
    }

    fn nested(&mut self, kinds: Kinds, line: u64, what: &str) -> Result<(), DatasetError> {
        match &self.declared {
            Some(_) => Err(self.lost(what, line)),
            None => self.narrow(kinds, line, || what.to_owned()),
        }
    }

    fn narrow(&mut self, kinds: Kinds, line: u64, value: impl Fn() -> String) -> Result<(), DatasetError> {
        let both = self.kinds.and(kinds);
        if both == self.kinds {
            return Ok(());
        }
        if both == Kinds::NONE {
            let (before, other) = &self.last;
            let what = format!("line {line}: the column '{}' has {}, but {other} on line {before}", self.path, value());
            return Err(malformed(what, self.remedy(self.kinds.is_number() && kinds.is_number())));
        }
        self.last = (line, value());
        self.kinds = both;
        Ok(())
    }

    fn lost(&self, value: &str, line: u64) -> DatasetError {
        let (path, value_shown) = (&self.path, shown(value));
        let Some(declared) = &self.declared else {
            let what =
                format!("line {line}: the column '{path}' has {value_shown}, which no number of 64 bits holds exactly");
            return malformed(what, self.remedy(true));
        };
        let what = format!(
            "line {line}: the column '{path}' has {value_shown}, which its type {} does not hold exactly",
            declared.sql
        );
        let remedy = match (&declared.data_type, Stamp::of(value)) {
            (DataType::Timestamp(_, None), Some(stamp)) if stamp.zoned => {
                "write \"timestamp with time zone\" as the column's type in the table's `columns`"
            }
            _ => "correct the value, or the column's type in the table's `columns`: \"varchar\" holds what is written",
        };
        malformed(what, remedy)
    }

    fn remedy(&self, numbers: bool) -> &'static str {
        match (numbers, self.path == self.name) {
            (true, true) => {
                "name the column's type in the table's `columns`: a decimal such as \"decimal(38, 0)\" holds it \
                 exactly, \"varchar\" as it is written"
            }
            (true, false) => "write such numbers as text",
            (false, true) => {
                "write values of one type, or name \"varchar\" as the column's type in the table's `columns`"
            }
            (false, false) => "write values of one type",
        }
    }

    /// Adds what was seen in another file. What no type holds is text in CSV; in JSON it is an
    /// error, and this gives the column and its two types.
    pub fn join(&mut self, other: &Self, csv: bool) -> Result<(), (String, DataType, DataType)> {
        let both = self.kinds.and(other.kinds);
        if both == Kinds::NONE && !csv {
            return Err((self.path.clone(), self.data_type(), other.data_type()));
        }
        self.kinds = both;
        for field in &other.fields {
            match self.fields.iter_mut().find(|known| known.name == field.name) {
                Some(known) => known.join(field, csv)?,
                None => self.fields.push(field.clone()),
            }
        }
        match (&mut self.item, &other.item) {
            (Some(item), Some(other)) => item.join(other, csv)?,
            (None, Some(other)) => self.item = Some(other.clone()),
            (_, None) => {}
        }
        Ok(())
    }

    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type(), true)
    }

    /// The declared type, or else the first that holds every value. Text where nothing was seen.
    fn data_type(&self) -> DataType {
        let unit = |among: Kinds| {
            let at = (self.kinds.and(among).0 >> among.0.trailing_zeros()).trailing_zeros();
            exact::UNITS.get(at as usize).copied().unwrap_or(TimeUnit::Nanosecond)
        };
        if let Some(declared) = &self.declared {
            return declared.data_type.clone();
        }
        match self.kinds {
            Kinds::ALL => DataType::Utf8,
            kinds if kinds.any(Kinds::BOOLEAN) => DataType::Boolean,
            kinds if kinds.any(Kinds::WHOLE) => DataType::Int64,
            kinds if kinds.any(Kinds::FRACTION) => DataType::Float64,
            kinds if kinds.any(Kinds::DATE) => DataType::Date32,
            kinds if kinds.any(Kinds::LOCAL) => DataType::Timestamp(unit(Kinds::LOCAL), None),
            kinds if kinds.any(Kinds::ZONED) => DataType::Timestamp(unit(Kinds::ZONED), Some("UTC".into())),
            kinds if kinds.any(Kinds::LIST) => {
                let item = self.item.as_ref().map_or(DataType::Utf8, |item| item.data_type());
                DataType::List(Arc::new(Field::new_list_field(item, true)))
            }
            kinds if kinds.any(Kinds::OBJECT) => {
                DataType::Struct(self.fields.iter().map(Column::field).collect::<Fields>())
            }
            _ => DataType::Utf8,
        }
    }
}
