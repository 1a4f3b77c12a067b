//! A record of 94 characters, put together field by field.

use consign_sdk::Error;

/// Characters of each record.
pub(crate) const RECORD_CHARACTERS: usize = 94;

/// A record that is being made. The first field that does not fit is what
/// [`finish`](Record::finish) tells.
pub(crate) struct Record {
    text: String,
    problem: Option<String>,
    entry: Option<u64>,
}

impl Record {
    /// A record of this type.
    pub fn new(kind: char) -> Self {
        let mut text = String::with_capacity(RECORD_CHARACTERS);
        text.push(kind);
        Record { text, problem: None, entry: None }
    }

    /// A text at the left of its field.
    pub fn text(mut self, name: &str, value: &str, width: usize) -> Self {
        self.check(name, value, width);
        self.text.push_str(&format!("{value:width$}"));
        self
    }

    /// A text at the right of its field.
    pub fn right(mut self, name: &str, value: &str, width: usize) -> Self {
        self.check(name, value, width);
        self.text.push_str(&format!("{value:>width$}"));
        self
    }

    /// A number with leading zeros.
    pub fn number(mut self, name: &str, value: u64, width: usize) -> Self {
        let digits = format!("{value:0width$}");
        if digits.len() > width && self.problem.is_none() {
            self.problem = Some(format!("`{name}` is {value}, and its field has {width} digits: deliver fewer rows"));
        }
        self.text.push_str(&digits);
        self
    }

    /// Whose entry this is, for the message.
    pub fn of_entry(mut self, number: u64) -> Self {
        self.entry = Some(number);
        self
    }

    /// The 94 characters.
    pub fn finish(self) -> Result<String, Error> {
        match (self.problem, self.entry) {
            (Some(problem), Some(entry)) => Err(Error::Unsupported(format!("entry {entry}: {problem}"))),
            (Some(problem), None) => Err(Error::Unsupported(problem)),
            (None, _) if self.text.len() != RECORD_CHARACTERS => {
                Err(Error::Other(format!("a record of {} characters was made: {}", self.text.len(), self.text)))
            }
            (None, _) => Ok(self.text),
        }
    }

    fn check(&mut self, name: &str, value: &str, width: usize) {
        let fits = value.len() <= width && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !fits && self.problem.is_none() {
            self.problem = Some(format!(
                "`{name}` is `{value}`, which does not fit into {width} characters of ASCII: shorten it in the query"
            ));
        }
    }
}
