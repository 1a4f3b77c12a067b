//! Every state there is, and every step from one to another. Nothing else in
//! the ledger changes a state, and what is not listed here is an error.
//!
//! ```text
//! slot      pending ─start→ running ─finish→ done      skip: pending → skipped
//!           pending ─hold→ held ─release→ pending      (another slot of its share is at work)
//!           done, skipped ─start→ running (by hand)    plan: running, done, skipped → pending
//! run       running ─succeed→ succeeded, ─fail→ failed; succeeded ─lose→ failed
//! delivery  pending ─work→ working ─seal→ sealed ─commit→ committed
//!           working ─wait→ waiting ─work→ working             (a failure that may pass; what is sealed stays so)
//!           sealed ─wait→ waiting                             (somebody else has ended an upload of it)
//!           pending ─wait→ waiting                            (its bucket does not answer)
//!           pending, waiting ─hold→ waiting                   (its customer is not ready; what is sealed stays so)
//!           pending, working, sealed, waiting ─fail→ failed
//!           committed ─lose→ failed                           (a person says that it is there no more)
//!           working, sealed ─interrupt→ pending               (the process died)
//! attempt   working ─seal→ sealed ─commit→ committed
//!           working, sealed ─fail→ failed, ─interrupt→ interrupted
//! upload    created ─complete→ completed, ─abort→ aborted, ─abandon→ abandoned
//! ```

use serde::{Deserialize, Serialize};

/// A state of one kind of record, kept in column `state` of `TABLE`.
pub(super) trait State: Copy + PartialEq + Sized + 'static {
    const TABLE: &'static str;
    /// Column that names a record.
    const ID: &'static str;
    const ALL: &'static [Self];
    type Event: Copy + std::fmt::Debug;
    #[cfg(test)]
    const EVENTS: &'static [Self::Event];

    fn as_str(self) -> &'static str;

    /// The state after `event`, if it may happen now.
    fn after(self, event: Self::Event) -> Option<Self>;

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == text)
    }
}

macro_rules! states {
    (
        $(#[$doc:meta])* $state:ident in $table:literal by $id:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }
        $event:ident { $($happens:ident,)+ }
        $($(| $from:ident)+ , $on:ident => $to:ident;)+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $state { $($(#[$variant_doc])* $variant,)+ }

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $event { $($happens,)+ }

        impl State for $state {
            const TABLE: &'static str = $table;
            const ID: &'static str = $id;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            type Event = $event;
            #[cfg(test)]
            const EVENTS: &'static [$event] = &[$($event::$happens,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            fn after(self, event: $event) -> Option<Self> {
                match (self, event) {
                    $(($(Self::$from)|+, $event::$on) => Some(Self::$to),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(State::as_str(*self))
            }
        }
    };
}

states! {
    /// A slot's scheduled work.
    SlotState in "slots" by "id" {
        /// Nothing of it was begun, or something is left to begin.
        Pending = "pending",
        /// What is left to begin waits for another slot of the share.
        Held = "held",
        Running = "running",
        Done = "done",
        Skipped = "skipped",
    }
    SlotEvent { Start, Finish, Skip, Hold, Release, Plan, }
    | Pending | Running | Done | Skipped, Start => Running;
    | Running, Finish => Done;
    | Pending, Skip => Skipped;
    | Pending, Hold => Held;
    | Held, Release => Pending;
    | Running | Done | Skipped, Plan => Pending;
}

states! {
    RunState in "runs" by "seq" {
        Running = "running",
        /// Every delivery of the run committed.
        Succeeded = "succeeded",
        /// At least one did not.
        Failed = "failed",
    }
    RunEvent { Succeed, Fail, Lose, }
    | Running, Succeed => Succeeded;
    | Running, Fail => Failed;
    | Succeeded, Lose => Failed;
}

states! {
    DeliveryState in "deliveries" by "id" {
        Pending = "pending",
        Working = "working",
        /// Every byte is stored, and not known to be complete there: rolls forward.
        Sealed = "sealed",
        /// Failed in a way that may pass, or its customer is not ready; another attempt is to come.
        Waiting = "waiting",
        Committed = "committed",
        Failed = "failed",
    }
    DeliveryEvent { Work, Seal, Commit, Wait, Hold, Fail, Lose, Interrupt, }
    | Pending | Waiting, Work => Working;
    | Working, Seal => Sealed;
    | Sealed, Commit => Committed;
    | Pending | Working | Sealed, Wait => Waiting;
    | Pending | Waiting, Hold => Waiting;
    | Pending | Working | Sealed | Waiting, Fail => Failed;
    | Committed, Lose => Failed;
    | Working | Sealed, Interrupt => Pending;
}

impl DeliveryState {
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Committed | Self::Failed)
    }
}

states! {
    AttemptState in "attempts" by "id" {
        Working = "working",
        Sealed = "sealed",
        Committed = "committed",
        Failed = "failed",
        /// The process died, or was told to stop.
        Interrupted = "interrupted",
    }
    AttemptEvent { Seal, Commit, Fail, Interrupt, }
    | Working, Seal => Sealed;
    | Sealed, Commit => Committed;
    | Working | Sealed, Fail => Failed;
    | Working | Sealed, Interrupt => Interrupted;
}

states! {
    UploadState in "uploads" by "id" {
        /// May hold parts that the customer pays for.
        Created = "created",
        Completed = "completed",
        Aborted = "aborted",
        /// Given up: nothing leads to it any more but its bucket's lifecycle rule.
        Abandoned = "abandoned",
    }
    UploadEvent { Complete, Abort, Abandon, }
    | Created, Complete => Completed;
    | Created, Abort => Aborted;
    | Created, Abandon => Abandoned;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{AttemptState, DeliveryState, RunState, SlotState, State, UploadState};

    /// Every step of one kind, as `docs/ARCHITECTURE.md` draws it.
    fn steps<S: State>(letter: char) -> BTreeSet<String> {
        let name = |state: S| format!("{letter}_{}", state.as_str());
        let after = |from: S| {
            let after = S::EVENTS.iter().filter_map(move |event| from.after(*event));
            after.map(move |to| format!("{} --> {}", name(from), name(to)))
        };
        S::ALL.iter().copied().flat_map(after).collect()
    }

    #[test]
    fn the_drawing_has_every_step_and_no_other() {
        let document = include_str!("../../docs/ARCHITECTURE.md");
        let (_, drawing) = document.split_once("```mermaid").unwrap();
        let (drawing, _) = drawing.split_once("```").unwrap();
        let drawn = drawing.lines().filter(|line| line.contains("-->") && !line.contains("[*]"));
        let drawn: Vec<String> = drawn.map(|line| line.split(" : ").next().unwrap().trim().to_owned()).collect();
        let all = [
            steps::<SlotState>('s'),
            steps::<RunState>('r'),
            steps::<DeliveryState>('d'),
            steps::<AttemptState>('a'),
            steps::<UploadState>('u'),
        ];
        let all: BTreeSet<String> = all.into_iter().flatten().collect();
        assert_eq!(drawn.iter().cloned().collect::<BTreeSet<_>>(), all);
        assert_eq!(drawn.len(), all.len(), "a step is drawn twice");
    }
}
