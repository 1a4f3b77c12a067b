//! What a function may return instead of doing its work.

use syn::{Expr, GenericArgument, PathArguments, ReturnType, Type, parse_quote};

/// Kinds of types that no value can be made of without their parts.
const OPAQUE: [&str; 4] = ["BoxFuture", "ProvideCredentials", "MutexGuard", "Poll"];

/// Some of them will not compile, as not every type has a default.
pub fn of_return(output: &ReturnType) -> Vec<Expr> {
    match output {
        ReturnType::Default => vec![parse_quote!(())],
        ReturnType::Type(_, ty) => of_type(ty),
    }
}

fn of_type(ty: &Type) -> Vec<Expr> {
    match ty {
        Type::Tuple(tuple) if tuple.elems.is_empty() => vec![parse_quote!(())],
        // The first of each, and the last of each.
        Type::Tuple(tuple) => {
            let parts: Vec<Vec<Expr>> = tuple.elems.iter().map(of_type).collect();
            if parts.iter().any(Vec::is_empty) {
                return Vec::new();
            }
            let firsts = parts.iter().map(|part| &part[0]);
            let lasts = parts.iter().map(|part| &part[part.len() - 1]);
            if parts.iter().all(|part| part.len() == 1) {
                return vec![parse_quote!((#(#firsts),*))];
            }
            vec![parse_quote!((#(#firsts),*)), parse_quote!((#(#lasts),*))]
        }
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => vec![parse_quote!(""), parse_quote!("xyzzy")],
            Type::Slice(_) => vec![parse_quote!(Vec::leak(Vec::new()))],
            Type::TraitObject(_) => Vec::new(),
            _ => vec![parse_quote!(Box::leak(Box::new(Default::default())))],
        },
        Type::Path(path) => of_path(&path.path),
        Type::Array(_) => vec![parse_quote!(Default::default())],
        Type::Paren(inner) => of_type(&inner.elem),
        _ => Vec::new(),
    }
}

fn of_path(path: &syn::Path) -> Vec<Expr> {
    let Some(last) = path.segments.last() else { return Vec::new() };
    let argument = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        }),
        _ => None,
    };
    let inner = || argument.map(of_type).unwrap_or_default();
    match last.ident.to_string().as_str() {
        "bool" => vec![parse_quote!(true), parse_quote!(false)],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => vec![parse_quote!(0), parse_quote!(1)],
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => vec![parse_quote!(0), parse_quote!(1), parse_quote!(-1)],
        "f32" | "f64" => vec![parse_quote!(0.0), parse_quote!(1.0)],
        "String" => vec![parse_quote!(String::new()), parse_quote!("xyzzy".into())],
        "PathBuf" => vec![parse_quote!(Default::default())],
        "Option" => {
            let some = inner().into_iter().map(|value| parse_quote!(Some(#value)));
            std::iter::once(parse_quote!(None)).chain(some).collect()
        }
        "Result" => inner().into_iter().map(|value| parse_quote!(Ok(#value))).collect(),
        "Vec" => {
            let one = inner().into_iter().map(|value| parse_quote!(vec![#value]));
            std::iter::once(parse_quote!(Vec::new())).chain(one).collect()
        }
        name @ ("Arc" | "Box" | "Rc") => {
            let name = quote::format_ident!("{name}");
            inner().into_iter().map(|value| parse_quote!(#name::new(#value))).collect()
        }
        name if OPAQUE.contains(&name) => Vec::new(),
        _ => vec![parse_quote!(Default::default())],
    }
}
