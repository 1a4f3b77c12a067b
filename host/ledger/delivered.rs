//! What customers have got of a slot, object by object.

use super::completing::sealed_objects;
use super::db::{Db, Row, values};
use super::reader::Reader;
use super::row::{customer, maybe_json, run_id};
use super::{AttemptId, LedgerError};
use crate::clock::Instant;
use crate::domain::{CustomerName, Manifest, RunId, SealedObject, ShareName};

/// A delivery that is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    pub customer: CustomerName,
    pub run: RunId,
    /// In order of creation.
    pub objects: Vec<SealedObject>,
    /// The manifest, its objects aside.
    pub draft: Option<Manifest>,
}

impl Reader {
    /// Who has got this slot, by name, and what.
    pub async fn delivered(&self, share: &ShareName, at: Instant) -> Result<Vec<Delivered>, LedgerError> {
        let share = share.clone();
        self.read(move |ledger| delivered(ledger, &share, at)).await
    }
}

fn delivered(ledger: &Db, share: &ShareName, at: Instant) -> Result<Vec<Delivered>, LedgerError> {
    let select = "SELECT d.customer, r.id AS run_id, a.id, a.draft FROM slots s
             JOIN deliveries d ON d.slot = s.id JOIN runs r ON r.seq = d.run JOIN attempts a ON a.delivery = d.id
         WHERE s.share = ?1 AND s.at = ?2 AND a.state = 'committed' AND d.state = 'committed' ORDER BY d.customer";
    ledger.all(select, values![share.as_str(), at], |row: &Row<'_>| {
        let objects = sealed_objects(ledger, AttemptId(row.get("id")?))?;
        Ok(Delivered { customer: customer(row)?, run: run_id(row)?, objects, draft: maybe_json(row, "draft")? })
    })
}
