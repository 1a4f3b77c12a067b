//! Places for parts on their way, which bound the memory that they take.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::domain::{Failure, Layer, Retry};

/// A number of places, each as large as a part usually is.
pub(super) struct Places {
    free: Arc<Semaphore>,
    count: u32,
    part_bytes: u64,
}

impl Places {
    pub(super) fn new(count: usize, part_bytes: u64) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(count as usize)), count, part_bytes: part_bytes.max(1) }
    }

    /// Waits until there is room for a part of that size. One that needs more
    /// places than there are waits until it can have them all, and goes alone.
    pub(super) async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Failure> {
        let places = bytes.div_ceil(self.part_bytes).clamp(1, u64::from(self.count));
        self.free.clone().acquire_many_owned(u32::try_from(places).unwrap_or(self.count)).await.map_err(closed)
    }
}

/// What waited has nothing to wait for any more.
pub(super) fn closed(_: AcquireError) -> Failure {
    Failure::new(Layer::Local, Retry::Later, "the delivery is closed", "")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::delivery::parts::PART_BYTES_MAX;

    const MIB: u64 = 1 << 20;

    #[test]
    fn parts_take_as_many_places_as_they_are_large() {
        let places = Places::new(32, 8 * MIB);
        let mut held: Vec<_> = (0..31).map(|_| places.take(8 * MIB).now_or_never().unwrap().unwrap()).collect();
        assert!(places.take(8 * MIB + 1).now_or_never().is_none(), "that is two places, and one is free");
        held.push(places.take(1).now_or_never().unwrap().unwrap());
        assert!(places.take(1).now_or_never().is_none());
        held.truncate(19);
        assert!(places.take(100 * MIB).now_or_never().is_some(), "13 places");
        assert!(places.take(105 * MIB).now_or_never().is_none(), "14 places");
    }

    #[test]
    fn a_part_larger_than_all_places_goes_alone() {
        let places = Places::new(32, 8 * MIB);
        let small = places.take(1).now_or_never().unwrap().unwrap();
        assert!(places.take(PART_BYTES_MAX).now_or_never().is_none(), "not beside another");
        drop(small);
        let giant = places.take(PART_BYTES_MAX).now_or_never().unwrap().unwrap();
        assert!(places.take(1).now_or_never().is_none(), "nor another beside it");
        drop(giant);
        assert!(places.take(1).now_or_never().is_some());
    }
}
