//! Which mutants the compiler refused: the innermost whose text an error points at.

use std::fs;
use std::path::Path;

use proc_macro2::LineColumn;
use serde_json::Value;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Arm, Expr, ExprIf, Lit, UnOp};

pub struct CompileError {
    pub message: String,
    pub rendered: String,
    /// Those at the fault itself first.
    spans: Vec<Place>,
}

struct Place {
    file: String,
    start: LineColumn,
    end: LineColumn,
}

/// Of cargo's `--message-format=json`.
pub fn errors(messages: &str) -> Vec<CompileError> {
    let mut errors = Vec::new();
    for line in messages.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let message = &line["message"];
        if message["level"] != "error" {
            continue;
        }
        let Some(spans) = message["spans"].as_array().filter(|spans| !spans.is_empty()) else { continue };
        let (first, second): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span["is_primary"] == true);
        let spans = first.into_iter().chain(second).filter_map(place).collect();
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        errors.push(CompileError { message: text("message"), rendered: text("rendered"), spans });
    }
    errors
}

/// In the file, also for what a macro made of it.
fn place(span: &Value) -> Option<Place> {
    let file = span["file_name"].as_str()?;
    if !file.starts_with("host/") {
        return place(span["expansion"].get("span")?);
    }
    let number = |name: &str| span[name].as_u64().map(|number| number as usize);
    let at = |line: &str, column: &str| Some(LineColumn { line: number(line)?, column: number(column)? - 1 });
    let (start, end) = (at("line_start", "column_start")?, at("line_end", "column_end")?);
    Some(Place { file: file.to_owned(), start, end })
}

pub fn culprit(copy: &Path, error: &CompileError) -> Result<Option<u32>, Box<dyn std::error::Error>> {
    for place in &error.spans {
        let mut regions = Regions { start: place.start, end: place.end, found: None, arm: None };
        regions.visit_file(&syn::parse_file(&fs::read_to_string(copy.join(&place.file))?)?);
        if let Some(number) = regions.found.or(regions.arm) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Visited from the outside in: the last one found is the innermost.
struct Regions {
    start: LineColumn,
    end: LineColumn,
    found: Option<u32>,
    arm: Option<u32>,
}

impl Regions {
    fn contains(&self, of: proc_macro2::Span) -> bool {
        of.start() <= self.start && self.end <= of.end()
    }
}

impl<'a> Visit<'a> for Regions {
    fn visit_expr_if(&mut self, expr: &'a ExprIf) {
        if let Some(number) = switched(&expr.cond)
            && self.contains(expr.then_branch.span())
        {
            self.found = Some(number);
        }
        visit::visit_expr_if(self, expr);
    }

    fn visit_arm(&mut self, arm: &'a Arm) {
        if let Some((_, guard)) = &arm.guard
            && let Some(number) = deleted(guard)
            && self.contains(arm.span())
        {
            self.arm = Some(number);
        }
        visit::visit_arm(self, arm);
    }
}

/// Of `crate::mutant::on(N)`.
fn switched(expr: &Expr) -> Option<u32> {
    let Expr::Call(call) = expr else { return None };
    let Expr::Path(path) = &*call.func else { return None };
    let is_switch = path.path.segments.iter().map(|segment| segment.ident.to_string()).eq(["crate", "mutant", "on"]);
    let Some(Expr::Lit(literal)) = call.args.first().filter(|_| is_switch) else { return None };
    let Lit::Int(number) = &literal.lit else { return None };
    number.base10_parse().ok()
}

/// Of `!crate::mutant::on(N)`, and what may come after it.
fn deleted(guard: &Expr) -> Option<u32> {
    match guard {
        Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) => switched(&unary.expr),
        Expr::Binary(binary) => deleted(&binary.left),
        _ => None,
    }
}
