//! The order of a share's slots, for one customer: where they take each other's
//! place, none comes after a later one.

use super::db::{Db, values};
use super::row::slot;
use super::shared::share_lock;
use super::{AttemptId, DeliveryId, Ledger, LedgerError, write};
use crate::domain::{ShareName, Slot};

/// How a share's slots are to each other, for one customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Side by side, if it comes to that.
    #[default]
    Any,
    /// One at a time.
    OneByOne,
    /// One at a time, and none after a later one: they have the same keys.
    Forward,
}

impl Ledger {
    /// Whether the customer has got no later slot of the share than this attempt's.
    pub async fn is_newest(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let find = move |ledger: &Db| {
            let (delivery, _) = write::of(ledger, attempt)?;
            Ok(later(ledger, DeliveryId(delivery))?.is_none())
        };
        self.own.read(find).await
    }
}

/// Whether an attempt may begin, as far as other slots of the share are concerned.
pub(super) fn allows(ledger: &Db, delivery: DeliveryId, order: Order) -> Result<(), LedgerError> {
    if order == Order::Any {
        return Ok(());
    }
    let share = "SELECT s.share FROM deliveries d JOIN slots s ON s.id = d.slot WHERE d.id = ?1";
    let share = ledger.first(share, values![delivery.0], super::row::share)?;
    let share: ShareName =
        share.ok_or_else(|| LedgerError::Unknown { record: format!("delivery {}", delivery.0) })?;
    // Of two nodes the second sees what the first has begun.
    ledger.alone(&share_lock(&share))?;
    if let Some(other) = at_work(ledger, delivery, &share)? {
        return Err(LedgerError::NotYet { behind: Box::new(other) });
    }
    match later(ledger, delivery)?.filter(|_| order == Order::Forward) {
        Some(by) => Err(LedgerError::Overtaken { by: Box::new(by) }),
        None => Ok(()),
    }
}

/// Another slot of the share that is on its way to the same customer.
fn at_work(ledger: &Db, delivery: DeliveryId, share: &ShareName) -> Result<Option<Slot>, LedgerError> {
    ledger.first(
        "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM runs r JOIN deliveries d ON d.run = r.seq JOIN slots s ON s.id = d.slot
                 JOIN deliveries this ON this.id = ?1
             WHERE r.share = ?2 AND r.state = 'running' AND d.customer = this.customer AND d.slot <> this.slot
               AND d.state IN ('working', 'sealed') LIMIT 1",
        values![delivery.0, share.as_str()],
        slot,
    )
}

/// The latest slot of the share that the same customer has got, if it is later.
fn later(ledger: &Db, delivery: DeliveryId) -> Result<Option<Slot>, LedgerError> {
    ledger.first(
        "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM deliveries this JOIN slots own ON own.id = this.slot
                 JOIN slots s ON s.share = own.share AND s.at > own.at JOIN deliveries d ON d.slot = s.id
             WHERE this.id = ?1 AND d.customer = this.customer AND d.state = 'committed'
             ORDER BY s.at DESC LIMIT 1",
        values![delivery.0],
        slot,
    )
}
