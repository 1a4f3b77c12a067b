//! A progress bar, when a person is watching.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::domain::{CustomerName, ShareName};

/// Counts deliveries on stderr; silent when stderr is no terminal.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    pub fn start(wanted: bool, share: &ShareName, deliveries: usize) -> Self {
        if !wanted || !super::output::on_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(deliveries as u64).with_prefix(share.to_string());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{bar:24}] {pos}/{len} {elapsed} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self(None)
    }

    pub fn skip(&self, deliveries: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(deliveries as u64);
        }
    }

    pub fn done(&self, customer: &CustomerName) {
        if let Some(bar) = &self.0 {
            bar.set_message(customer.to_string());
            bar.inc(1);
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
