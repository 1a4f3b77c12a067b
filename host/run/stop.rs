//! Why a delivery at work is to end before it has ended by itself.

use std::sync::Arc;

use tokio::sync::watch;

use crate::clock::{Instant, exact};
use crate::domain::{Failure, Layer, Retry, Slot};

/// Tells one delivery to end, from outside of it. Dropped, it forsakes the delivery.
#[derive(Debug, Default)]
pub struct Stopper(watch::Sender<Option<Told>>);

/// What a delivery is told.
#[derive(Clone, Debug)]
enum Told {
    /// It is over, and has failed. What is sealed is completed all the same.
    End(Failure),
    /// It has waited too long, which ends what is sealed too, after one more try.
    InVain(Failure),
    /// Later, by another process: only its uploads end now.
    Interrupt,
}

/// What a delivery listens to while nothing of it is sealed: what is sealed is only completed.
#[derive(Clone, Debug)]
pub struct Stop {
    told: watch::Receiver<Option<Told>>,
    /// The other end, where nobody else has it.
    _own: Option<Arc<Stopper>>,
    /// What is not committed then has failed.
    deadline: Option<Instant>,
}

impl Stopper {
    pub fn stop(&self, why: Failure) {
        self.tell(Told::End(why));
    }

    pub fn in_vain(&self, why: Failure) {
        self.tell(Told::InVain(why));
    }

    /// Leaves the delivery to the next process, without uploads that nobody would abort until then.
    pub fn interrupt(&self) {
        self.tell(Told::Interrupt);
    }

    /// What it was told first counts.
    fn tell(&self, what: Told) {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(what);
            }
            first
        });
    }

    pub fn is_told(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub fn listen(&self, deadline: Option<Instant>) -> Stop {
        Stop { told: self.0.subscribe(), _own: None, deadline }
    }
}

impl Stop {
    /// Nobody tells it, and nothing limits it.
    pub fn never() -> Self {
        let own = Arc::new(Stopper::default());
        Self { _own: Some(own.clone()), ..own.listen(None) }
    }

    /// Ready when it is told to stop.
    pub async fn told(&self) -> Failure {
        let mut told = self.told.clone();
        loop {
            if let Some(told) = told.borrow_and_update().clone() {
                return told.into();
            }
            if told.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Why it has waited long enough, if it was told so.
    pub fn in_vain(&self) -> Option<Failure> {
        match &*self.told.borrow() {
            Some(Told::InVain(why)) => Some(why.clone()),
            Some(Told::End(_) | Told::Interrupt) | None => None,
        }
    }

    /// Why nothing may begin any more.
    pub fn reason(&self, slot: &Slot, now: Instant) -> Option<Failure> {
        let told = self.told.borrow().clone().map(Failure::from);
        told.or_else(|| self.deadline.filter(|deadline| *deadline <= now).map(|deadline| passed(slot, deadline)))
    }

    /// It is left to the next process: how it ends here says nothing about the delivery.
    pub fn is_interrupted(&self) -> bool {
        matches!(*self.told.borrow(), Some(Told::Interrupt))
    }

    /// Nobody attends to it any more: the process is ending, and takes away what the
    /// delivery works with. What fails from now on says nothing about the delivery.
    pub fn is_forsaken(&self) -> bool {
        self.told.has_changed().is_err()
    }

    /// A try at `due` would come too late.
    pub fn too_late(&self, due: Instant) -> Option<Instant> {
        self.deadline.filter(|deadline| *deadline <= due)
    }
}

impl From<Told> for Failure {
    fn from(told: Told) -> Self {
        match told {
            Told::End(why) | Told::InVain(why) => why,
            Told::Interrupt => {
                Self::new(Layer::Local, Retry::Later, "consign is stopping", "the next start resumes it")
            }
        }
    }
}

/// The deadline has passed.
pub fn passed(slot: &Slot, deadline: Instant) -> Failure {
    let message = format!("not delivered by {}, which is the deadline of slot {slot}", exact(deadline));
    let remedy = format!(
        "`consign send {} --at {}` delivers it all the same; if this comes often, give the share a longer `deadline`",
        slot.share,
        exact(slot.at)
    );
    Failure::new(Layer::Schedule, Retry::Never, message, remedy)
}
