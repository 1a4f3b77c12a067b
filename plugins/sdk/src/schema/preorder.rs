//! The tree of a schema from the contract's list in preorder.

use super::{DataType, Field, MAX_DEPTH, Schema};
use crate::Error;

/// A field as the contract writes it: in preorder, the children left out of
/// the type.
#[derive(Debug, Clone)]
pub(crate) struct FlatField {
    pub name: String,
    pub data_type: FlatType,
    pub nullable: bool,
    pub children: u32,
}

#[derive(Debug, Clone)]
#[cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "made from the contract's types, in a component"))]
pub(crate) enum FlatType {
    Plain(DataType),
    List,
    LargeList,
    FixedSizeList(u32),
    Struct,
    Map(bool),
    SparseUnion(Vec<i8>),
    DenseUnion(Vec<i8>),
}

impl Schema {
    /// The tree of a list in preorder. Fails when the list is not one, or is
    /// deeper than [`MAX_DEPTH`].
    pub(crate) fn from_preorder(fields: Vec<FlatField>) -> Result<Self, Error> {
        let mut rest = fields.into_iter();
        let mut columns = Vec::new();
        while let Some(next) = rest.next() {
            columns.push(build(next, &mut rest, 0)?);
        }
        Ok(Schema { fields: columns })
    }
}

fn build(flat: FlatField, rest: &mut impl Iterator<Item = FlatField>, depth: usize) -> Result<Field, Error> {
    if depth >= MAX_DEPTH {
        return Err(Error::Unsupported(format!(
            "column `{}` is nested more than {MAX_DEPTH} deep: flatten it in the query",
            flat.name
        )));
    }
    let mut children = Vec::new();
    for _ in 0..flat.children {
        let child = rest.next().ok_or_else(|| malformed(&flat.name, "has too few children"))?;
        children.push(build(child, rest, depth + 1)?);
    }
    let members = |ids: &[i8], children: &[Field]| {
        if ids.len() == children.len() {
            Ok(())
        } else {
            Err(malformed(&flat.name, "has a type id too few or too many"))
        }
    };
    let data_type = match flat.data_type {
        FlatType::Plain(_) if !children.is_empty() => {
            return Err(malformed(&flat.name, "has children its type cannot have"));
        }
        FlatType::Plain(data_type) => data_type,
        FlatType::Struct => DataType::Struct(children),
        FlatType::SparseUnion(ids) => {
            members(&ids, &children)?;
            DataType::SparseUnion { ids, members: children }
        }
        FlatType::DenseUnion(ids) => {
            members(&ids, &children)?;
            DataType::DenseUnion { ids, members: children }
        }
        FlatType::List => DataType::List(only(&flat.name, children)?),
        FlatType::LargeList => DataType::LargeList(only(&flat.name, children)?),
        FlatType::FixedSizeList(size) => DataType::FixedSizeList { item: only(&flat.name, children)?, size },
        FlatType::Map(sorted) => {
            let entries = only(&flat.name, children)?;
            if !matches!(&entries.data_type, DataType::Struct(members) if members.len() == 2) {
                return Err(malformed(&flat.name, "is a map whose child is not (key, value)"));
            }
            DataType::Map { entries, sorted }
        }
    };
    Ok(Field { name: flat.name, data_type, nullable: flat.nullable })
}

fn only(name: &str, children: Vec<Field>) -> Result<Box<Field>, Error> {
    let mut children = children.into_iter();
    match (children.next(), children.next()) {
        (Some(child), None) => Ok(Box::new(child)),
        _ => Err(malformed(name, "must have exactly one child")),
    }
}

fn malformed(name: &str, what: &str) -> Error {
    Error::Other(format!("the host sent a malformed schema: column `{name}` {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(name: &str, data_type: FlatType, children: u32) -> FlatField {
        FlatField { name: name.into(), data_type, nullable: true, children }
    }

    #[test]
    fn a_tree_is_built() {
        let plain = |name| flat(name, FlatType::Plain(DataType::Utf8), 0);
        let fields = vec![
            flat("m", FlatType::Map(false), 1),
            flat("entries", FlatType::Struct, 2),
            plain("k"),
            flat("v", FlatType::List, 1),
            plain("item"),
            plain("last"),
        ];
        let schema = Schema::from_preorder(fields).unwrap();
        let list = DataType::List(Box::new(Field::new("item", DataType::Utf8)));
        let pair = DataType::Struct(vec![Field::new("k", DataType::Utf8), Field::new("v", list)]);
        let map = DataType::Map { entries: Box::new(Field::new("entries", pair)), sorted: false };
        assert_eq!(schema.fields, [Field::new("m", map), Field::new("last", DataType::Utf8)]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let broken = [
            vec![flat("a", FlatType::List, 1)],
            vec![flat("a", FlatType::List, 0)],
            vec![flat("a", FlatType::Plain(DataType::Null), 1), flat("b", FlatType::Struct, 0)],
            vec![flat("a", FlatType::Map(true), 1), flat("b", FlatType::Plain(DataType::Null), 0)],
            vec![flat("a", FlatType::SparseUnion(vec![1]), 0)],
            (0..MAX_DEPTH + 1).map(|_| flat("deep", FlatType::List, 1)).collect(),
        ];
        for fields in broken {
            assert!(Schema::from_preorder(fields).is_err());
        }
    }
}
