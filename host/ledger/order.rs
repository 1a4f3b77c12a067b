//! The order of a share's slots, for one customer: where they take each other's
//! place, none comes after a later one.

use super::db::{Db, Row, values};
use super::row::slot;
use super::{AttemptId, DeliveryId, Ledger, LedgerError, write};
use crate::clock::Instant;
use crate::domain::{Destination, ShareName, SkipReason, Slot};

/// How a share's slots are to each other, for one customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Side by side, if it comes to that.
    #[default]
    Any,
    /// One at a time: they have an object in common, with this key. It is in the folder of all of them.
    OneByOne { pointer: String },
    /// One at a time, and none after a later one: they have the same keys.
    Forward,
}

impl Ledger {
    /// Whether the customer has got no later slot of the share than this attempt's.
    pub async fn is_newest(&self, attempt: AttemptId) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        let find = move |ledger: &Db| {
            let (delivery, _) = write::of(ledger, attempt)?;
            let pointer = "SELECT a.endpoint, a.bucket, o.key FROM attempts a JOIN objects o ON o.attempt = a.id
                           WHERE a.id = ?1 AND a.bucket IS NOT NULL AND o.sealed LIKE '%\"role\":\"latest-pointer\"%'";
            let read = |row: &Row<'_>| {
                let within = folder(&row.get::<String>("key")?).to_owned();
                Ok(Place { endpoint: row.get("endpoint")?, bucket: row.get("bucket")?, within })
            };
            let place = ledger.first(pointer, values![attempt.0], read)?;
            Ok(later(ledger, now, DeliveryId(delivery), place.as_ref(), DELIVERED)?.is_none())
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
    order: &Order,
) -> Result<(), LedgerError> {
    let within = match order {
        Order::Any => return Ok(()),
        Order::OneByOne { pointer } => Some(folder(pointer)),
        Order::Forward => None,
    };
    let of = "SELECT s.share, d.customer FROM deliveries d JOIN slots s ON s.id = d.slot WHERE d.id = ?1";
    let of = ledger.first(of, values![delivery.0], |row| Ok((super::row::share(row)?, super::row::customer(row)?)))?;
    let (share, customer) = of.ok_or_else(|| LedgerError::Unknown { record: format!("delivery {}", delivery.0) })?;
    // A customer may be called otherwise by now.
    let place = destination.map(|to| {
        let within = within.unwrap_or(&to.manifest_key).to_owned();
        Place { endpoint: to.endpoint.clone(), bucket: to.bucket.to_string(), within }
    });
    // Of two nodes the second sees what the first has begun.
    ledger.alone(&match &place {
        Some(place) => format!("order {} {}", place.bucket, place.within),
        None => format!("order {share} {customer}"),
    })?;
    if let Some(other) = at_work(ledger, delivery, &share, place.as_ref())? {
        return Err(LedgerError::NotYet { behind: Box::new(other) });
    }
    if *order != Order::Forward {
        return Ok(());
    }
    match later(ledger, now, delivery, place.as_ref(), SEEN)? {
        Some(by) => Err(LedgerError::Overtaken { by: Box::new(by) }),
        None => Ok(()),
    }
}

/// Where slots have something in common: one manifest, or a folder.
struct Place {
    endpoint: Option<String>,
    bucket: String,
    /// What the keys of their manifests begin with.
    within: String,
}

/// That a key is in, with its `/`.
fn folder(key: &str) -> &str {
    key.rfind('/').map_or("", |end| &key[..=end])
}

/// The condition for a delivery `d` to go where `this` goes: to the same customer, or to the same place.
const SAME_PLACE: &str = "(d.customer = this.customer OR EXISTS
    (SELECT 1 FROM attempts a WHERE a.delivery = d.id AND a.bucket = ?3 AND a.endpoint IS NOT DISTINCT FROM ?4
         AND substr(a.manifest_key, 1, length(CAST(?2 AS TEXT))) = ?2))";

/// The condition for a delivery `d` to be in the bucket whole.
const DELIVERED: &str = "d.state = 'committed'";

/// The condition for objects of a delivery `d` to have been seen there, whatever became of it then.
const SEEN: &str = "(d.state = 'committed' OR EXISTS
    (SELECT 1 FROM attempts a JOIN objects o ON o.attempt = a.id WHERE a.delivery = d.id))";

fn place_of(place: Option<&Place>) -> (Option<&str>, Option<&str>, Option<&str>) {
    match place {
        Some(Place { endpoint, bucket, within }) => (Some(within), Some(bucket), endpoint.as_deref()),
        None => (None, None, None),
    }
}

/// Another slot of the share that is on its way there.
fn at_work(
    ledger: &Db,
    delivery: DeliveryId,
    share: &ShareName,
    place: Option<&Place>,
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

/// The latest later slot of the share at this place that satisfies `far`, or that is unknown since a restore. Slots
/// beyond `now` are ignored.
fn later(
    ledger: &Db,
    now: Instant,
    delivery: DeliveryId,
    place: Option<&Place>,
    far: &str,
) -> Result<Option<Slot>, LedgerError> {
    let (key, bucket, endpoint) = place_of(place);
    let find = format!(
        "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM deliveries this JOIN slots own ON own.id = this.slot
                 JOIN slots s ON s.share = own.share AND s.at > own.at JOIN deliveries d ON d.slot = s.id
             WHERE this.id = ?1 AND s.at <= ?5 AND ({far} OR d.reason = '{}') AND {SAME_PLACE}
             ORDER BY s.at DESC LIMIT 1",
        SkipReason::Restored.as_str()
    );
    let known = ledger.first(&find, values![delivery.0, key, bucket, endpoint, now], slot)?;
    let unknown = "SELECT s.share, s.at, s.interval_start, s.interval_end
             FROM deliveries this JOIN slots own ON own.id = this.slot
                 JOIN slots s ON s.share = own.share AND s.at > own.at
             WHERE this.id = ?1 AND s.at <= ?2 AND s.state = 'skipped' AND s.reason = ?3 ORDER BY s.at DESC LIMIT 1";
    match known {
        Some(known) => Ok(Some(known)),
        None => ledger.first(unknown, values![delivery.0, now, SkipReason::Restored.as_str()], slot),
    }
}

/// The condition for a slot `s` to be kept: an earlier one could take its place in the bucket.
pub(super) const KEPT: &str = "EXISTS
    (SELECT 1 FROM deliveries d JOIN attempts a ON a.delivery = d.id
     WHERE d.slot = s.id
       AND CASE WHEN a.draft LIKE '%\"mode\":\"replace\"%'
           THEN a.state = 'committed' OR EXISTS (SELECT 1 FROM objects o WHERE o.attempt = a.id)
           ELSE a.state = 'committed' AND EXISTS
               (SELECT 1 FROM objects o WHERE o.attempt = a.id AND o.sealed LIKE '%\"role\":\"latest-pointer\"%') END
       AND NOT EXISTS (SELECT 1 FROM slots l JOIN deliveries ld ON ld.slot = l.id
                       WHERE l.share = s.share AND l.at > s.at AND ld.customer = d.customer AND ld.state = 'committed'))";
