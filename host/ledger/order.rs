//! The order of a share's slots, for one customer: where they take each other's
//! place, none comes after a later one.

use super::db::{Db, values};
use super::row::slot;
use super::{AttemptId, DeliveryId, Ledger, LedgerError, write};
use crate::clock::Instant;
use crate::domain::{Destination, ShareName, Slot};

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
        let now = self.clock.now();
        let find = move |ledger: &Db| {
            let (delivery, _) = write::of(ledger, attempt)?;
            Ok(later(ledger, now, DeliveryId(delivery), None)?.is_none())
        };
        self.own.read(find).await
    }
}

/// Whether an attempt may begin, as far as other slots of the share are concerned.
pub(super) fn allows(
    ledger: &Db,
    now: Instant,
    delivery: DeliveryId,
    destination: Option<&Destination>,
    order: Order,
) -> Result<(), LedgerError> {
    if order == Order::Any {
        return Ok(());
    }
    let of = "SELECT s.share, d.customer FROM deliveries d JOIN slots s ON s.id = d.slot WHERE d.id = ?1";
    let of = ledger.first(of, values![delivery.0], |row| Ok((super::row::share(row)?, super::row::customer(row)?)))?;
    let (share, customer) = of.ok_or_else(|| LedgerError::Unknown { record: format!("delivery {}", delivery.0) })?;
    // A customer may be called otherwise by now.
    let place = destination.filter(|_| order == Order::Forward);
    // Of two nodes the second sees what the first has begun.
    ledger.alone(&match place {
        Some(place) => format!("order {} {}", place.bucket, place.manifest_key),
        None => format!("order {share} {customer}"),
    })?;
    if let Some(other) = at_work(ledger, delivery, &share, place)? {
        return Err(LedgerError::NotYet { behind: Box::new(other) });
    }
    match later(ledger, now, delivery, place)?.filter(|_| order == Order::Forward) {
        Some(by) => Err(LedgerError::Overtaken { by: Box::new(by) }),
        None => Ok(()),
    }
}

/// The condition for a delivery `d` to go where `this` goes: to the same customer, or to the same place.
const SAME_PLACE: &str = "(d.customer = this.customer OR EXISTS
    (SELECT 1 FROM attempts a WHERE a.delivery = d.id AND a.manifest_key = ?2 AND a.bucket = ?3
         AND a.endpoint IS NOT DISTINCT FROM ?4))";

fn place_of(place: Option<&Destination>) -> (Option<&str>, Option<&str>, Option<&str>) {
    match place {
        Some(place) => (Some(&place.manifest_key), Some(place.bucket.as_str()), place.endpoint.as_deref()),
        None => (None, None, None),
    }
}

/// Another slot of the share that is on its way there.
fn at_work(
    ledger: &Db,
    delivery: DeliveryId,
    share: &ShareName,
    place: Option<&Destination>,
) -> Result<Option<Slot>, LedgerError> {
    let (key, bucket, endpoint) = place_of(place);
    let find = format!(
        "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM runs r JOIN deliveries d ON d.run = r.seq JOIN slots s ON s.id = d.slot
                 JOIN deliveries this ON this.id = ?1
             WHERE r.share = ?5 AND r.state = 'running' AND d.slot <> this.slot
               AND d.state IN ('working', 'sealed') AND {SAME_PLACE} LIMIT 1"
    );
    ledger.first(&find, values![delivery.0, key, bucket, endpoint, share.as_str()], slot)
}

/// The latest slot of the share that was delivered there, if it is later. One that is yet to
/// come was delivered while the clock was ahead.
fn later(
    ledger: &Db,
    now: Instant,
    delivery: DeliveryId,
    place: Option<&Destination>,
) -> Result<Option<Slot>, LedgerError> {
    let (key, bucket, endpoint) = place_of(place);
    let find = format!(
        "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM deliveries this JOIN slots own ON own.id = this.slot
                 JOIN slots s ON s.share = own.share AND s.at > own.at JOIN deliveries d ON d.slot = s.id
             WHERE this.id = ?1 AND s.at <= ?5 AND d.state = 'committed' AND {SAME_PLACE}
             ORDER BY s.at DESC LIMIT 1"
    );
    ledger.first(&find, values![delivery.0, key, bucket, endpoint, now], slot)
}

/// The condition for a slot `s` to be kept: an earlier one could take its place in the bucket.
pub(super) const KEPT: &str = "EXISTS
    (SELECT 1 FROM deliveries d JOIN attempts a ON a.delivery = d.id
     WHERE d.slot = s.id AND a.state = 'committed'
       AND (a.draft LIKE '%\"mode\":\"replace\"%' OR EXISTS
            (SELECT 1 FROM objects o WHERE o.attempt = a.id AND o.sealed LIKE '%\"role\":\"latest-pointer\"%'))
       AND NOT EXISTS (SELECT 1 FROM slots l JOIN deliveries ld ON ld.slot = l.id
                       WHERE l.share = s.share AND l.at > s.at AND ld.customer = d.customer AND ld.state = 'committed'))";
