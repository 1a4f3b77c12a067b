//! How a run that somebody asked for is shown, whoever made it.

use super::output::{Exit, bytes, count, line, rows, thousands};
use crate::clock::exact;
use crate::domain::{MANIFEST_NAME, Manifest, ManifestObject};
use crate::run::{Difference, Fared, Fate, Report};

/// Objects that are listed for each customer.
const SHOWN: usize = 6;

pub fn print(report: &Report) {
    let Report { slot, run, outcomes } = report;
    let run = run.map(|run| format!(", run {run}")).unwrap_or_default();
    let (start, end) = (exact(slot.interval.start), exact(slot.interval.end));
    line(&format!("{}: slot {}{run}", slot.share, exact(slot.at)));
    line(&format!("  data from {start} to {end}"));
    outcomes.iter().for_each(fared);
}

/// Of a run that has only begun: who is not in it, and why.
pub fn left_alone(report: &Report) {
    report.outcomes.iter().for_each(fared);
}

/// Failed when any customer did not get the slot.
pub fn exit(report: &Report) -> Exit {
    if report.is_whole() { Exit::Done } else { Exit::Failed }
}

fn fared(fared: &Fared) {
    let Fared { customer, state, .. } = fared;
    let earlier = fared.earlier.map(|run| run.to_string()).unwrap_or_default();
    match state {
        Fate::Committed | Fate::Written => {
            let what = match &fared.manifest {
                Some(manifest) if is_of_files(manifest) => count(manifest.objects.len(), "file"),
                manifest => format!("{} rows", thousands(manifest.as_ref().map_or(0, |manifest| manifest.rows))),
            };
            let word = if *state == Fate::Committed { "delivered" } else { "written" };
            line(&format!("  {customer:<14} {word}  {what}"));
            objects(fared);
        }
        Fate::AlreadyCommitted => line(&format!("  {customer:<14} was delivered before, by run {earlier}")),
        Fate::Same => line(&format!("  {customer:<14} the same as run {earlier} delivered")),
        Fate::Different => {
            line(&format!("  {customer:<14} DIFFERS from what run {earlier} delivered"));
            fared.differences.iter().take(SHOWN).for_each(difference);
            if fared.differences.len() > SHOWN {
                line(&format!("    … and {} more; --json shows all", fared.differences.len() - SHOWN));
            }
        }
        Fate::Busy => line(&format!(
            "  {customer:<14} waits in run {earlier}; the consign that has it goes on, or `consign run` takes it up"
        )),
        Fate::Failed | Fate::Sealed | Fate::Waiting => {
            let word = match state {
                Fate::Waiting => "waits:",
                Fate::Sealed => "is stored, but not known to be complete there; send it again to go on from there:",
                _ => "FAILED",
            };
            if let Some(failure) = &fared.failure {
                line(&format!("  {customer:<14} {word}  {failure}"));
                if !failure.remedy.is_empty() {
                    line(&format!("    help: {}", failure.remedy.replace('\n', "\n    ")));
                }
            }
        }
    }
}

fn difference(difference: &Difference) {
    let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
    line(&format!("    {}", difference.of));
    line(&format!("      delivered  {}", told(&difference.delivered)));
    line(&format!("      now        {}", told(&difference.now)));
}

/// In which nobody has counted rows.
fn is_of_files(manifest: &Manifest) -> bool {
    manifest.plugin.is_none() && !manifest.objects.is_empty()
}

fn objects(fared: &Fared) {
    let (Some(manifest), Some(place)) = (&fared.manifest, &fared.place) else { return };
    let base = place.strip_suffix(&format!("/{MANIFEST_NAME}")).unwrap_or(place);
    line(&format!("    {base}/"));
    let row = |object: &ManifestObject| {
        let name = object.key.rsplit('/').next().unwrap_or(&object.key).to_owned();
        let rows = (!is_of_files(manifest)).then(|| format!("{} rows", thousands(object.rows)));
        let sum = format!("crc64nvme {}", object.checksum_crc64nvme);
        [Some(format!("      {name}")), Some(bytes(object.bytes)), rows, Some(sum)].into_iter().flatten().collect()
    };
    rows(&manifest.objects.iter().take(SHOWN).map(row).collect::<Vec<_>>());
    if manifest.objects.len() > SHOWN {
        line(&format!("      … and {} more, all in the manifest", manifest.objects.len() - SHOWN));
    }
    line(&format!("      {MANIFEST_NAME}"));
}
