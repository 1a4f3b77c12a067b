//! Whether a delivery would be made again, byte for byte.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Gauge, NoJournal, Parts, Stop, Turn, Work, deliver};
use crate::delivery::Target;
use crate::domain::{Failure, Manifest, ManifestObject, Role, SealedObject};
use crate::ledger::Delivered;

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// An object's key, or what else of the delivery it is.
    pub of: String,
    /// None where there was or is nothing.
    pub delivered: Option<String>,
    pub now: Option<String>,
}

/// Makes a delivery again, to nowhere, and compares it with what is on record: no
/// request to AWS, nothing written down.
///
/// # Errors
/// It cannot be made: the dataset or the plugin fails.
pub async fn verify(parts: &Parts, work: &Work, delivered: &Delivered) -> Result<Vec<Difference>, Failure> {
    let target = Target::nowhere(&parts.vendor, &work.customer);
    let (journal, stop, gauge) = (Arc::new(NoJournal), Stop::never(), Gauge::default());
    let again = deliver(parts, work, Turn::ALONE, target, journal, (&stop, &gauge)).await?;
    Ok(differences(delivered, &again.manifest))
}

fn differences(delivered: &Delivered, now: &Manifest) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |of: &str, delivered: Option<String>, now: Option<String>| {
        if delivered != now {
            found.push(Difference { of: of.to_owned(), delivered, now });
        }
    };
    if let Some(draft) = &delivered.draft {
        let plugin = |manifest: &Manifest| {
            let plugin = manifest.plugin.as_ref()?;
            Some(format!("{} {} {}", plugin.name, plugin.version, plugin.digest))
        };
        compare("plugin", plugin(draft), plugin(now));
        compare("rows", Some(draft.rows.to_string()), Some(now.rows.to_string()));
        let columns = |manifest: &Manifest| {
            let each = manifest.schema.iter().map(|field| format!("{} {}", field.name, field.data_type));
            Some(each.collect::<Vec<_>>().join(", "))
        };
        compare("columns", columns(draft), columns(now));
    }
    // What comes after the manifest says nothing of the data.
    let data = || delivered.objects.iter().filter(|object| object.role == Role::Data);
    let was = |key: &str| data().find(|object| object.key == key);
    let is = |key: &str| now.objects.iter().find(|object| object.key == key);
    for object in data() {
        compare(&object.key, Some(sealed(object)), is(&object.key).map(stored));
    }
    for object in now.objects.iter().filter(|object| was(&object.key).is_none()) {
        compare(&object.key, None, Some(stored(object)));
    }
    found
}

fn sealed(object: &SealedObject) -> String {
    told(object.bytes, object.rows, &object.checksum_crc64nvme)
}

fn stored(object: &ManifestObject) -> String {
    told(object.bytes, object.rows, &object.checksum_crc64nvme)
}

fn told(bytes: u64, rows: u64, checksum: &str) -> String {
    format!("{bytes} bytes, {rows} rows, crc64nvme {checksum}")
}
