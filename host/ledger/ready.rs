//! Customers whose own set-up refuses deliveries: since when, why, and what waits for them.
//! What is due to them is not begun until they were found to be ready.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::claim::release;
use super::db::{Db, Row, values};
use super::row::{at, batches, json, number, parsed, size, step, to_json};
use super::state::{AttemptEvent, AttemptState, DeliveryEvent, DeliveryState};
use super::{Attempt, AttemptId, DeliveryId, Formatter, Ledger, LedgerError, Order, Reader, write};
use crate::clock::Instant;
use crate::domain::{CustomerName, Destination, Failure, ProfileHash};

/// A customer to whom nothing is delivered for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unready {
    pub customer: CustomerName,
    pub since: Instant,
    /// What was found last, and when.
    pub failure: Failure,
    pub looked: Instant,
    /// How often somebody has looked in vain since then.
    pub looks: u32,
    /// Before that nobody looks again by itself.
    pub next: Instant,
}

/// A customer to whom deliveries go, and who should not have them so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    pub customer: CustomerName,
    /// What was found last, and when.
    pub failure: Failure,
    pub looked: Instant,
}

/// What came of an attempt that was to begin.
#[derive(Clone, Debug)]
pub enum Begun {
    Attempt(Attempt),
    /// The customer is not ready: the delivery waits.
    Held(Box<Unready>),
}

/// What became of a delivery that its customer's set-up has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// It waits for its customer to be ready.
    Held,
    /// It is tried again as any other: its customer was found to be ready, and refuses this one.
    Again,
    /// The same, and it was tried often enough.
    Failed,
}

impl Ledger {
    /// As [`Ledger::attempt_by`], unless its customer is not ready.
    pub async fn attempt_when_ready(
        &self,
        formatter: Option<Formatter>,
        order: Order,
        delivery: DeliveryId,
        destination: Option<Destination>,
    ) -> Result<Begun, LedgerError> {
        let now = self.clock.now();
        let begin = move |ledger: &Db| match hold(ledger, now, delivery)? {
            Some(unready) => Ok(Begun::Held(Box::new(unready))),
            None => {
                let by = (formatter.as_ref(), &order);
                write::attempt_started(ledger, now, delivery, destination.as_ref(), by).map(Begun::Attempt)
            }
        };
        self.writer.run(begin).await
    }

    /// Has a delivery wait that is sealed, if its customer is not ready: it stays sealed.
    pub async fn hold(&self, delivery: DeliveryId) -> Result<Option<Unready>, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| hold(ledger, now, delivery)).await
    }

    /// An attempt was refused because of its customer's set-up. The first time that this happens
    /// to a delivery it waits, and its customer is not ready from then on. Another time,
    /// although its customer was found to be, it is tried `again`, if that is said. What is
    /// sealed stays so, unless it has failed.
    pub async fn refused(
        &self,
        attempt: AttemptId,
        profile: ProfileHash,
        failure: Failure,
        again: Option<Instant>,
    ) -> Result<Setback, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| refused(ledger, now, attempt, &profile, &failure, again)).await
    }

    /// Nothing more is delivered to this customer, by this profile.
    pub async fn not_ready(
        &self,
        customer: CustomerName,
        profile: ProfileHash,
        failure: Failure,
    ) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| not_ready(ledger, now, &customer, &profile, &failure)).await
    }

    /// Deliveries to this customer may begin, by this profile. Whether they might not before.
    pub async fn ready(&self, customer: CustomerName, profile: ProfileHash) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| ready(ledger, now, &customer, &profile, None)).await
    }

    /// The same of one to whom they go although somebody else may get at its bucket, because of this.
    pub async fn exposed_by(
        &self,
        customer: CustomerName,
        profile: ProfileHash,
        failure: Failure,
    ) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| ready(ledger, now, &customer, &profile, Some(&failure))).await
    }

    /// The same of one who was found not to be ready; of any other nothing is written down. Whether it was one.
    pub async fn let_go(&self, customer: CustomerName) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| let_go(ledger, now, &customer)).await
    }

    /// Somebody is about to look at a customer who is not ready, and nobody else is to until `next`.
    /// False if somebody has, or if the customer is ready by now.
    pub async fn look_begins(&self, customer: CustomerName, next: Instant, at_once: bool) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        self.writer.run(move |ledger| look_begins(ledger, now, &customer, next, at_once)).await
    }

    /// All customers who are not ready, by name.
    pub async fn unready(&self) -> Result<Vec<Unready>, LedgerError> {
        self.own.read(all).await
    }

    /// All customers to whom deliveries go and should not go so, by name.
    pub async fn exposed(&self) -> Result<Vec<Exposed>, LedgerError> {
        self.own.read(all_exposed).await
    }

    /// Whether this customer was ever found to be ready by this profile, or not to be. Of whom that was not
    /// written down, as by earlier versions, it is taken to have been this one.
    pub async fn has_seen(&self, customer: CustomerName, profile: ProfileHash) -> Result<bool, LedgerError> {
        let name = customer.clone();
        let seen = move |ledger: &Db| {
            let by = "SELECT profile FROM customers WHERE name = ?1";
            ledger.first(by, values![name.as_str()], |row| row.get::<Option<String>>("profile"))
        };
        match self.own.read(seen).await? {
            None => Ok(false),
            Some(Some(by)) => Ok(by == profile.as_str()),
            Some(None) => {
                let take = "UPDATE customers SET profile = ?2 WHERE name = ?1 AND profile IS NULL";
                let take = move |ledger: &Db| ledger.execute(take, values![customer.as_str(), profile.as_str()]);
                self.writer.run(take).await.map(|_| true)
            }
        }
    }

    /// Forgets what was found of all others than these, who are all there are.
    pub async fn keep_customers(&self, all: BTreeSet<CustomerName>) -> Result<(), LedgerError> {
        self.writer.run(move |ledger| keep(ledger, &all)).await
    }
}

impl Reader {
    /// All customers who are not ready, by name, with how many deliveries wait for each.
    pub async fn unready(&self) -> Result<Vec<(Unready, u64)>, LedgerError> {
        self.read(with_waiting).await
    }

    /// All customers to whom deliveries go and should not go so, by name.
    pub async fn exposed(&self) -> Result<Vec<Exposed>, LedgerError> {
        self.read(all_exposed).await
    }
}

const UNREADY: &str = "SELECT * FROM customers WHERE unready_since IS NOT NULL";

fn all(ledger: &Db) -> Result<Vec<Unready>, LedgerError> {
    ledger.all(&format!("{UNREADY} ORDER BY name"), &[], unready)
}

fn all_exposed(ledger: &Db) -> Result<Vec<Exposed>, LedgerError> {
    let exposed = "SELECT * FROM customers WHERE unready_since IS NULL AND failure IS NOT NULL ORDER BY name";
    ledger.all(exposed, &[], |row| {
        Ok(Exposed {
            customer: parsed(row, "name", CustomerName::parse)?,
            failure: json(row.get("failure")?)?,
            looked: at(row, "looked_at")?,
        })
    })
}

fn unready(row: &Row<'_>) -> Result<Unready, LedgerError> {
    Ok(Unready {
        customer: parsed(row, "name", CustomerName::parse)?,
        since: at(row, "unready_since")?,
        failure: json(row.get("failure")?)?,
        looked: at(row, "looked_at")?,
        looks: number(row, "looks")?,
        next: at(row, "next_at")?,
    })
}

fn with_waiting(ledger: &Db) -> Result<Vec<(Unready, u64)>, LedgerError> {
    let waiting = format!(
        "SELECT d.customer AS name, count(*) AS deliveries FROM runs r JOIN deliveries d ON d.run = r.seq
         WHERE r.state = 'running'
           AND (d.state IN ('pending', 'waiting') OR (d.state = 'sealed' AND d.due_at IS NOT NULL)) AND d.customer IN (SELECT value ->> 0 FROM {}) GROUP BY d.customer",
        ledger.given()
    );
    let unready = all(ledger)?;
    let mut found = Vec::new();
    for names in batches(unready.iter().map(|unready| [&unready.customer])) {
        let names = names?;
        let read = |row: &Row<'_>| Ok((parsed(row, "name", CustomerName::parse)?, size(row, "deliveries")?));
        found.extend(ledger.all(&waiting, values![&names], read)?);
    }
    let of = |customer: &CustomerName| found.iter().find(|(name, _)| name == customer).map_or(0, |(_, count)| *count);
    Ok(unready.into_iter().map(|unready| (unready.clone(), of(&unready.customer))).collect())
}

/// Has a delivery wait whose customer is not ready. What is to be ended is not held.
fn hold(ledger: &Db, now: Instant, delivery: DeliveryId) -> Result<Option<Unready>, LedgerError> {
    let of = format!("{UNREADY} AND name = (SELECT customer FROM deliveries WHERE id = ?1 AND cancel IS NULL)");
    let Some(found) = ledger.first(&of, values![delivery.0], unready)? else { return Ok(None) };
    let why = to_json(&found.failure)?;
    let sealed = "UPDATE deliveries SET due_at = coalesce(due_at, ?2), failure = coalesce(failure, ?3)
                  WHERE id = ?1 AND state = 'sealed'";
    // It is due, and so in no other slot's way.
    if ledger.execute(sealed, values![delivery.0, now, &why])? == 0 {
        step::<DeliveryState>(ledger, delivery.0, DeliveryEvent::Hold, "due_at = NULL, failure = ?3", values![&why])?;
    }
    release(ledger, delivery.0)?;
    Ok(Some(found))
}

fn refused(
    ledger: &Db,
    now: Instant,
    attempt: AttemptId,
    profile: &ProfileHash,
    failure: &Failure,
    again: Option<Instant>,
) -> Result<Setback, LedgerError> {
    let (delivery, _) = write::of(ledger, attempt)?;
    let of = "SELECT d.customer, EXISTS (SELECT 1 FROM customers WHERE name = d.customer AND unready_since IS NOT NULL)
              AS unready FROM deliveries d WHERE d.id = ?1";
    let read = |row: &Row<'_>| Ok((parsed(row, "customer", CustomerName::parse)?, row.get::<bool>("unready")?));
    let found = ledger.first(of, values![delivery], read)?;
    let (customer, is_unready) =
        found.ok_or_else(|| LedgerError::Unknown { record: format!("delivery {delivery}") })?;
    if !is_unready && has_been_refused(ledger, delivery)? {
        write::failed(ledger, now, attempt, failure, again)?;
        return Ok(if again.is_some() { Setback::Again } else { Setback::Failed });
    }
    let why = to_json(failure)?;
    let sealed = "UPDATE deliveries SET due_at = ?2, failure = ?3 WHERE id = ?1 AND state = 'sealed'";
    if ledger.execute(sealed, values![delivery, now, &why])? == 0 {
        step::<AttemptState>(ledger, attempt.0, AttemptEvent::Fail, "ended_at = ?3, failure = ?4", values![now, &why])?;
        step::<DeliveryState>(ledger, delivery, DeliveryEvent::Wait, "due_at = NULL, failure = ?3", values![&why])?;
    }
    not_ready(ledger, now, &customer, profile, failure)?;
    release(ledger, delivery)?;
    Ok(Setback::Held)
}

/// By its customer's set-up: an earlier attempt, or the completion of one that is sealed.
fn has_been_refused(ledger: &Db, delivery: i64) -> Result<bool, LedgerError> {
    let failed = "SELECT failure FROM attempts WHERE delivery = ?1 AND state = 'failed'
                  UNION ALL SELECT failure FROM deliveries
                  WHERE id = ?1 AND state = 'sealed' AND due_at IS NOT NULL AND failure IS NOT NULL";
    let failures = ledger.all(failed, values![delivery], |row| json::<Failure>(row.get("failure")?))?;
    Ok(failures.iter().any(Failure::is_of_setup))
}

fn not_ready(
    ledger: &Db,
    now: Instant,
    customer: &CustomerName,
    profile: &ProfileHash,
    failure: &Failure,
) -> Result<(), LedgerError> {
    let put = "INSERT INTO customers (name, looked_at, unready_since, failure, looks, next_at, profile)
               VALUES (?1, ?2, ?2, ?3, 0, ?2, ?4)
               ON CONFLICT (name) DO UPDATE SET
                   looked_at = excluded.looked_at, failure = excluded.failure, profile = excluded.profile,
                   looks = CASE WHEN customers.unready_since IS NULL THEN 0 ELSE customers.looks END,
                   next_at = CASE WHEN customers.unready_since IS NULL THEN excluded.next_at ELSE customers.next_at END,
                   unready_since = coalesce(customers.unready_since, excluded.unready_since)";
    ledger.execute(put, values![customer.as_str(), now, &to_json(failure)?, profile.as_str()]).map(drop)
}

fn ready(
    ledger: &Db,
    now: Instant,
    customer: &CustomerName,
    profile: &ProfileHash,
    but: Option<&Failure>,
) -> Result<bool, LedgerError> {
    let was: bool = ledger.only(&format!("SELECT EXISTS ({UNREADY} AND name = ?1)"), values![customer.as_str()])?;
    let put = "INSERT INTO customers (name, looked_at, failure, looks, next_at, profile) VALUES (?1, ?2, ?3, 0, 0, ?4)
               ON CONFLICT (name) DO UPDATE SET
                   looked_at = excluded.looked_at, unready_since = NULL, failure = excluded.failure, looks = 0, next_at = 0,
                   profile = excluded.profile";
    let but = but.map(to_json).transpose()?;
    ledger.execute(put, values![customer.as_str(), now, but.as_deref(), profile.as_str()])?;
    Ok(was)
}

fn keep(ledger: &Db, all: &BTreeSet<CustomerName>) -> Result<(), LedgerError> {
    let known = ledger.all("SELECT name FROM customers", &[], |row| parsed(row, "name", CustomerName::parse))?;
    let gone = format!("DELETE FROM customers WHERE name IN (SELECT value ->> 0 FROM {})", ledger.given());
    for names in batches(known.iter().filter(|name| !all.contains(*name)).map(|name| [name])) {
        let names = names?;
        ledger.execute(&gone, values![&names])?;
    }
    Ok(())
}

fn let_go(ledger: &Db, now: Instant, customer: &CustomerName) -> Result<bool, LedgerError> {
    let let_go = format!("{LET_GO} AND name = ?1");
    Ok(ledger.execute(&let_go, values![customer.as_str(), now])? > 0)
}

const LET_GO: &str = "UPDATE customers SET looked_at = ?2, unready_since = NULL, failure = NULL, looks = 0, next_at = 0
                      WHERE unready_since IS NOT NULL";

/// Something was delivered: whoever it was to is ready, whatever was found before.
pub(super) fn has_delivered(ledger: &Db, now: Instant, delivery: i64) -> Result<(), LedgerError> {
    let let_go = format!("{LET_GO} AND name = (SELECT customer FROM deliveries WHERE id = ?1)");
    ledger.execute(&let_go, values![delivery, now]).map(drop)
}

fn look_begins(
    ledger: &Db,
    now: Instant,
    customer: &CustomerName,
    next: Instant,
    at_once: bool,
) -> Result<bool, LedgerError> {
    let begin = "UPDATE customers SET looks = looks + 1, next_at = ?2
                 WHERE name = ?1 AND unready_since IS NOT NULL AND (next_at <= ?3 OR CAST(?4 AS BIGINT) = 1)";
    Ok(ledger.execute(begin, values![customer.as_str(), next, now, i64::from(at_once)])? > 0)
}
