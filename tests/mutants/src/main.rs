//! Compiles every mutant of some modules into one binary; see README.md.
//!
//! ```text
//! mutants generate CHECKOUT COPY LIST [LEFT_OUT]   writes the mutated modules into COPY, and all mutants into LIST
//! mutants blame COPY <cargo's JSON                 names the mutants that the compiler refused
//! ```

mod blame;
mod mutate;
mod values;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The modules: a file, and the folder of the same name.
const MODULES: [&str; 2] = ["host/delivery", "host/ledger"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["generate", from, to, list] => generate(from.as_ref(), to.as_ref(), list.as_ref(), &BTreeSet::new()),
        ["generate", from, to, list, left_out] => numbers(left_out.as_ref())
            .and_then(|left_out| generate(from.as_ref(), to.as_ref(), list.as_ref(), &left_out)),
        ["blame", copy] => blame(copy.as_ref()),
        _ => Err("usage: mutants generate CHECKOUT COPY LIST [LEFT_OUT] | mutants blame COPY <MESSAGES".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Numbers are given in the order of files and of their text, also to what is left out:
/// they are the same in every run.
fn generate(from: &Path, to: &Path, list: &Path, left_out: &BTreeSet<u32>) -> Result<(), Box<dyn Error>> {
    let mut next = 1;
    let mut lines = String::new();
    for file in files(from)? {
        let text = fs::read_to_string(from.join(&file))?;
        let mut syntax = syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        let mutants = mutate::mutate(&mut syntax, next, left_out);
        next += mutants.len() as u32;
        for mutant in &mutants {
            lines += &format!("{}\n", mutant.to_json(&file, left_out.contains(&mutant.number)));
        }
        write_if_changed(&to.join(&file), &prettyplease::unparse(&syntax))?;
    }
    fs::write(list, lines)?;
    println!("{} mutants, {} left out", next - 1, left_out.len());
    Ok(())
}

/// Those of the modules, relative to the checkout, in the order of their names.
fn files(checkout: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for module in MODULES {
        files.push(PathBuf::from(format!("{module}.rs")));
        let mut folders = vec![PathBuf::from(module)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(checkout.join(&folder))? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                match path.extension() {
                    _ if entry.file_type()?.is_dir() => folders.push(path),
                    Some(extension) if extension == "rs" => files.push(path),
                    _ => (),
                }
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What did not change is not compiled again.
fn write_if_changed(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    Ok(fs::write(path, text)?)
}

/// Lines of numbers; the rest of a line is of no interest.
fn numbers(path: &Path) -> Result<BTreeSet<u32>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let words = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(words.map(str::parse).collect::<Result<_, _>>()?)
}

fn blame(copy: &Path) -> Result<(), Box<dyn Error>> {
    let mut messages = String::new();
    std::io::stdin().read_to_string(&mut messages)?;
    let mut refused = BTreeSet::new();
    let mut stdout = std::io::stdout().lock();
    for error in blame::errors(&messages) {
        match blame::culprit(copy, &error)? {
            Some(number) if refused.insert(number) => writeln!(stdout, "{number} {}", error.message)?,
            Some(_) => (),
            None => eprintln!("no mutant is to blame for: {}", error.rendered),
        }
    }
    Ok(())
}
