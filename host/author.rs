//! What the author of a plugin runs it with: the daemon's own engine and limits,
//! without a share, a ledger or a bucket.
//!
//! A [`Subject`] is a component and where it is from. A [`Rig`] runs it over rows
//! that a dataset reads, and keeps its objects. Upon it stand the tests of a
//! project's cases ([`trial`]).

mod bench;
mod bless;
mod build;
mod case;
mod component;
pub mod conformance;
mod diff;
mod project;
mod rig;
mod sample;
mod subject;
mod template;
mod trial;

pub use bench::{Data, Round, Side, bench};
pub use bless::{Change, Done, bless};
pub use build::{BuildError, Tools, build};
pub use case::{Broken, Case, Expected, cases};
pub use diff::Difference;
pub use project::{Project, ProjectError};
pub use rig::{Figures, Keep, Object, Ran, Rig};
pub use sample::lineitem;
pub use subject::{Subject, SubjectError};
pub use template::{Language, TemplateError, create};
pub use trial::{Fault, Outcome, Refusal, Trial, judge, trial};
