//! What the deliveries of a process share to be made in pieces.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What the memory is counted in, because permits are counted in 32 bits.
const UNIT_BYTES: usize = 1 << 10;

/// Instances at work, and memory for rows that are read ahead. Clones are the same.
#[derive(Clone, Debug)]
pub struct Crew {
    instances: usize,
    at_work: watch::Sender<usize>,
    ahead_bytes: usize,
    ahead: Arc<Semaphore>,
}

/// An instance is at work until this is dropped.
#[derive(Debug)]
pub struct Place(watch::Sender<usize>);

impl Crew {
    /// No piece begins before its turn while there are so many `instances` of all
    /// deliveries, or none of the `ahead_bytes` of all of them left.
    pub fn new(instances: usize, ahead_bytes: usize) -> Self {
        let ahead = Arc::new(Semaphore::new(ahead_bytes / UNIT_BYTES));
        Self { instances, at_work: watch::Sender::new(0), ahead_bytes, ahead }
    }

    /// The same as `earlier`, whose deliveries may still be at work, if it is as large.
    pub fn beside(earlier: Option<&Self>, instances: usize, ahead_bytes: usize) -> Self {
        match earlier {
            Some(earlier) if (earlier.instances, earlier.ahead_bytes) == (instances, ahead_bytes) => earlier.clone(),
            _ => Self::new(instances, ahead_bytes),
        }
    }

    /// A place for what every delivery may have: one instance, however many there are.
    pub fn own(&self) -> Place {
        self.at_work.send_modify(|at_work| *at_work += 1);
        Place(self.at_work.clone())
    }

    /// A place that others leave.
    pub(super) async fn spare(&self) -> Place {
        let mut changes = self.at_work.subscribe();
        loop {
            let taken = self.at_work.send_if_modified(|at_work| {
                let free = *at_work < self.instances;
                *at_work += usize::from(free);
                free
            });
            if taken {
                return Place(self.at_work.clone());
            }
            // The sender is here, so that it does not end.
            let _ = changes.wait_for(|at_work| *at_work < self.instances).await;
        }
    }

    /// Memory for so many bytes, or all that there is.
    pub(super) async fn ahead(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.ahead_bytes / UNIT_BYTES).max(1);
        self.ahead.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|at_work| *at_work -= 1);
    }
}
