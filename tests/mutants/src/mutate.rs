//! Rewrites a file so that each of its mutants is behind a number.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned as _;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, BinOp, Block, Expr, ExprBinary, File, ReturnType, Signature, Stmt, UnOp, parse_quote};

use crate::values;

pub struct Mutant {
    pub number: u32,
    line: usize,
    column: usize,
    function: String,
    kind: &'static str,
    original: String,
    replacement: String,
}

impl Mutant {
    pub fn to_json(&self, file: &Path, left_out: bool) -> serde_json::Value {
        serde_json::json!({
            "number": self.number, "file": file, "line": self.line, "column": self.column, "function": self.function,
            "kind": self.kind, "original": self.original, "replacement": self.replacement, "left_out": left_out,
        })
    }
}

pub fn mutate(file: &mut File, first: u32, left_out: &BTreeSet<u32>) -> Vec<Mutant> {
    let mut mutator = Mutator { first, left_out, mutants: Vec::new(), scope: Vec::new() };
    mutator.visit_file_mut(file);
    mutator.mutants
}

struct Mutator<'a> {
    first: u32,
    left_out: &'a BTreeSet<u32>,
    mutants: Vec<Mutant>,
    /// Modules, types and functions around what is visited.
    scope: Vec<String>,
}

impl Mutator<'_> {
    /// A number for a new mutant. None: it is one of those that are left out.
    fn number(&mut self, at: Span, kind: &'static str, original: String, replacement: String) -> Option<u32> {
        let number = self.first + self.mutants.len() as u32;
        let (start, function) = (at.start(), self.scope.join("::"));
        let (line, column) = (start.line, start.column + 1);
        self.mutants.push(Mutant { number, line, column, function, kind, original, replacement });
        (!self.left_out.contains(&number)).then_some(number)
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }

    fn function(&mut self, signature: &Signature, block: &mut Block) {
        let mut early: Vec<Stmt> = Vec::new();
        let at = signature.ident.span();
        let original = text(&*block);
        for value in values::of_return(&signature.output) {
            let replacement = text(&value);
            // It does that already.
            if original == format!("{{ {replacement} }}") || original == "{ }" || original == "{}" {
                continue;
            }
            if let Some(n) = self.number(at, "body", shape(signature), replacement) {
                early.push(parse_quote!(if crate::mutant::on(#n) { return #value; }));
            }
        }
        self.visit_block_mut(block);
        block.stmts.splice(0..0, early);
    }

    /// Each of `others` behind its number, else the expression itself. The others are
    /// of the original text, so that the file does not grow with the depth of nesting.
    fn either(&mut self, expr: &mut Expr, at: Span, kind: &'static str, original: &str, others: Vec<(String, Expr)>) {
        let numbered: Vec<(u32, Expr)> = others
            .into_iter()
            .filter_map(|(replacement, other)| Some((self.number(at, kind, original.into(), replacement)?, other)))
            .collect();
        visit_mut::visit_expr_mut(self, expr);
        if numbered.is_empty() {
            return;
        }
        let mut chosen: Expr = parse_quote!({ #expr });
        for (n, other) in numbered.into_iter().rev() {
            chosen = parse_quote!(if crate::mutant::on(#n) { #other } else #chosen);
        }
        *expr = parse_quote!((#chosen));
    }
}

impl VisitMut for Mutator<'_> {
    fn visit_item_mut(&mut self, item: &mut syn::Item) {
        match item {
            syn::Item::Const(_) | syn::Item::Static(_) | syn::Item::Macro(_) => (),
            syn::Item::Fn(function) if is_left_out(&function.attrs) || function.sig.constness.is_some() => (),
            syn::Item::Fn(function) => {
                let name = function.sig.ident.to_string();
                self.within(name, |this| this.function(&function.sig, &mut function.block));
            }
            syn::Item::Mod(module) if is_left_out(&module.attrs) => (),
            syn::Item::Mod(module) => {
                self.within(module.ident.to_string(), |this| visit_mut::visit_item_mod_mut(this, module));
            }
            syn::Item::Impl(of) if is_left_out(&of.attrs) || only_tells(of) => (),
            syn::Item::Impl(of) => {
                let name = match &of.trait_ {
                    Some((_, of_trait, _)) => format!("<{} as {}>", text(&of.self_ty), text(of_trait)),
                    None => text(&of.self_ty),
                };
                self.within(name, |this| visit_mut::visit_item_impl_mut(this, of));
            }
            syn::Item::Trait(of) => {
                self.within(of.ident.to_string(), |this| visit_mut::visit_item_trait_mut(this, of));
            }
            // Nothing is done in what is left.
            _ => (),
        }
    }

    fn visit_impl_item_mut(&mut self, item: &mut syn::ImplItem) {
        if let syn::ImplItem::Fn(function) = item
            && !is_left_out(&function.attrs)
            && function.sig.constness.is_none()
        {
            let name = function.sig.ident.to_string();
            self.within(name, |this| this.function(&function.sig, &mut function.block));
        }
    }

    fn visit_trait_item_mut(&mut self, item: &mut syn::TraitItem) {
        if let syn::TraitItem::Fn(function) = item
            && let Some(block) = &mut function.default
        {
            let name = function.sig.ident.to_string();
            self.within(name, |this| this.function(&function.sig, block));
        }
    }

    // No expressions that are run.
    fn visit_type_mut(&mut self, _: &mut syn::Type) {}
    fn visit_pat_mut(&mut self, _: &mut syn::Pat) {}
    fn visit_attribute_mut(&mut self, _: &mut Attribute) {}
    fn visit_macro_mut(&mut self, _: &mut syn::Macro) {}
    fn visit_expr_const_mut(&mut self, _: &mut syn::ExprConst) {}
    fn visit_generic_argument_mut(&mut self, _: &mut syn::GenericArgument) {}
    fn visit_expr_repeat_mut(&mut self, repeat: &mut syn::ExprRepeat) {
        self.visit_expr_mut(&mut repeat.expr);
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Binary(binary) if !has_let(binary) => {
                let (at, original) = (binary.op.span(), text(&binary.op));
                let others = binary_others(&binary.op).into_iter().map(|op| {
                    let (left, right) = (&binary.left, &binary.right);
                    (text(&op), parse_quote!(#left #op #right))
                });
                let others = others.collect();
                self.either(expr, at, "operator", &original, others);
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_) | UnOp::Neg(_)) => {
                let (at, original, inner) = (unary.op.span(), text(&unary.op), (*unary.expr).clone());
                self.either(expr, at, "unary", &original, vec![(String::new(), inner)]);
            }
            Expr::Match(of) => {
                self.visit_expr_mut(&mut of.expr);
                let rest = of.arms.iter().position(|arm| matches!(arm.pat, syn::Pat::Wild(_)) && arm.guard.is_none());
                for (i, arm) in of.arms.iter_mut().enumerate() {
                    let gone = match rest {
                        Some(rest) if i < rest => {
                            self.number(arm.pat.span(), "arm", text(&arm.pat), String::from("deleted"))
                        }
                        _ => None,
                    };
                    if let Some((_, guard)) = &mut arm.guard {
                        let (at, original) = (guard.span(), text(&*guard));
                        let others = [true, false].map(|value| (value.to_string(), parse_quote!(#value)));
                        self.either(guard, at, "guard", &original, others.into());
                    }
                    if let Some(n) = gone {
                        let guard = arm.guard.take().map(|(_, guard)| guard);
                        let guard: Expr = match guard {
                            Some(guard) => parse_quote!(!crate::mutant::on(#n) && #guard),
                            None => parse_quote!(!crate::mutant::on(#n)),
                        };
                        arm.guard = Some((Default::default(), Box::new(guard)));
                    }
                    self.visit_expr_mut(&mut arm.body);
                }
            }
            _ => visit_mut::visit_expr_mut(self, expr),
        }
    }
}

fn binary_others(op: &BinOp) -> Vec<BinOp> {
    match op {
        BinOp::Eq(_) => vec![parse_quote!(!=)],
        BinOp::Ne(_) => vec![parse_quote!(==)],
        BinOp::Lt(_) => vec![parse_quote!(<=), parse_quote!(==)],
        BinOp::Gt(_) => vec![parse_quote!(>=), parse_quote!(==)],
        BinOp::Le(_) => vec![parse_quote!(<)],
        BinOp::Ge(_) => vec![parse_quote!(>)],
        BinOp::And(_) => vec![parse_quote!(||)],
        BinOp::Or(_) => vec![parse_quote!(&&)],
        BinOp::Add(_) => vec![parse_quote!(-)],
        BinOp::Sub(_) => vec![parse_quote!(+)],
        BinOp::Mul(_) => vec![parse_quote!(+)],
        BinOp::Div(_) => vec![parse_quote!(*)],
        BinOp::Rem(_) => vec![parse_quote!(/)],
        BinOp::BitAnd(_) => vec![parse_quote!(|)],
        BinOp::BitOr(_) => vec![parse_quote!(&)],
        BinOp::AddAssign(_) => vec![parse_quote!(-=)],
        BinOp::SubAssign(_) => vec![parse_quote!(+=)],
        BinOp::MulAssign(_) => vec![parse_quote!(+=)],
        _ => Vec::new(),
    }
}

/// `let` in a chain stands only where it stands; what is beside it is mutated by itself.
fn has_let(binary: &ExprBinary) -> bool {
    let has = |expr: &Expr| match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(binary),
        _ => false,
    };
    matches!(binary.op, BinOp::And(_)) && (has(&binary.left) || has(&binary.right))
}

/// Tests, and what they alone have.
fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("test")
    })
}

/// Texts for humans.
fn only_tells(of: &syn::ItemImpl) -> bool {
    let name = of.trait_.as_ref().and_then(|(_, path, _)| path.segments.last()).map(|last| last.ident.to_string());
    matches!(name.as_deref(), Some("Display" | "Debug"))
}

fn text(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}

fn shape(signature: &Signature) -> String {
    match &signature.output {
        ReturnType::Default => String::from("-> ()"),
        output => text(output),
    }
}
