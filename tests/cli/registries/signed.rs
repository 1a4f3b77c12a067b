//! Plugins that somebody must have signed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::{cached, component, world};
use crate::cli::world::says;
use crate::support::needs::not_tested;
use crate::support::registry::{Registry, digest};

/// Keys and signatures of openssl, in the format that cosign documents.
pub struct Signer {
    dir: tempfile::TempDir,
}

impl Signer {
    pub fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"])
            .current_dir(dir.path())
            .output();
        if made.is_err() {
            not_tested("openssl is not installed (on Debian, apt-get install openssl)");
            return None;
        }
        let signer = Self { dir };
        signer.openssl(&["ec", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
        Some(signer)
    }

    pub fn openssl(&self, args: &[&str]) {
        let ran = Command::new("openssl").args(args).current_dir(self.dir.path()).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// A file that was made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn public_key(&self) -> String {
        self.file("key.pub").display().to_string()
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        fs::write(self.dir.path().join("payload"), text).unwrap();
        self.openssl(&["dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "payload"]);
        fs::read(self.dir.path().join("signature")).unwrap()
    }
}

fn payload(reference: &str, manifest: &str) -> String {
    json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": manifest },
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
}

#[test]
fn only_what_is_signed_is_pulled_and_loaded() {
    let Some(registry) = Registry::start() else { return };
    let (Some(ours), Some(theirs)) = (Signer::new(), Signer::new()) else { return };
    let reference = format!("{}/fmt:1", registry.host());
    let manifest = registry.push("fmt", "1", &component(1));
    let policy = format!("[signatures]\nkeys = [\"{}\"]\n", ours.public_key());
    let world = world(&reference, &policy);
    let text = payload(&reference, &manifest);
    let refused = |why: &str| {
        let told = world.run(&["plugin", "pull"]).ended(1);
        says(&told.stderr, &["plugin fmt (", &manifest, why, "help: "]);
        assert!(!world.path("consign.lock").exists());
    };
    refused(") is not signed");
    registry.push_signature("fmt", &manifest, &text, &theirs.sign(&text));
    refused(") has a signature that none of the keys in `signatures.keys` has made");
    registry.push_signature("fmt", &manifest, &text.replace("null", "{}"), &ours.sign(&text));
    refused(") has a signature that none of the keys");
    registry.push_signature("fmt", &manifest, &text, b"no signature");
    refused(") has a signature that none of the keys");
    let other = payload(&reference, &digest(b"other"));
    registry.push_signature("fmt", &manifest, &other, &ours.sign(&other));
    refused(") has a good signature, but for sha256:");
    let attestation = text.replace("cosign container image signature", "something else");
    registry.push_signature("fmt", &manifest, &attestation, &ours.sign(&attestation));
    refused("but for something else than a manifest");

    registry.push_signature("fmt", &manifest, &text, &ours.sign(&text));
    world.run(&["plugin", "pull"]).ended(0).out_says(&["signed by", &ours.public_key()]);
    world.run(&["check"]).ended(0);
    world.run(&["plugin", "verify"]).ended(0).out_says(&["as pinned, signed by ", &ours.public_key()]);

    // It is verified again whenever it is loaded, without the registry.
    drop(registry);
    let kept = cached(&world, &manifest, "signatures.json");
    let good = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, "[]").unwrap();
    world.run(&["check"]).ended(3).err_says(&["plugin fmt (", ") is not signed", "oci = "]);
    world.run(&["plugin", "verify"]).ended(1).out_says(&["FAILED", "is not signed"]);
    fs::write(&kept, good.replace("cosign container", "cosigned container")).unwrap();
    world.run(&["check"]).ended(3).err_says(&["that none of the keys in `signatures.keys` has made"]);
    fs::write(&kept, &good).unwrap();
    world.run(&["check"]).ended(0);
    // Nor does a signature outlive the trust in its key.
    world.write("consign.toml", world.text().replace(&ours.public_key(), &theirs.public_key()));
    world.run(&["check"]).ended(3).err_says(&["that none of the keys in `signatures.keys` has made"]);
    world.write("consign.toml", world.text() + "require = false\n");
    world.run(&["check"]).ended(0);
}

#[test]
fn a_key_that_is_none_is_told() {
    let Some(registry) = Registry::start() else { return };
    let Some(signer) = Signer::new() else { return };
    registry.push("fmt", "1", &component(1));
    signer.openssl(&["genrsa", "-out", "rsa.pem", "2048"]);
    signer.openssl(&["rsa", "-in", "rsa.pem", "-pubout", "-out", "rsa.pub"]);
    let rsa = signer.dir.path().join("rsa.pub").display().to_string();
    let private = signer.dir.path().join("key.pem").display().to_string();
    let cases = [
        ("gone.pub", "cannot read the public key"),
        (&*rsa, "of another kind than ECDSA P-256"),
        (&*private, "no public key in PEM"),
    ];
    for (key, why) in cases {
        let world = world(&format!("{}/fmt:1", registry.host()), &format!("[signatures]\nkeys = [\"{key}\"]\n"));
        world.run(&["plugin", "pull"]).ended(1).err_says(&[why, "correct `signatures.keys`"]);
    }
}
