//! `[registries.HOST]` and `[signatures]`: where plugins are pulled from, and
//! who must have signed them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::credentials::{Reference, reference};
use super::environment::Environment;
use super::model::{Registry, RegistryLogin, Signatures};
use super::report::Problems;
use super::section::Section;
use super::shape::{Kind, Names, Shape, TEXT, default, optional, required};
use super::tree::Table;
use crate::domain::{Invalid, Secret, is_registry};

pub(crate) static REGISTRIES: Names =
    Names { noun: "registry host", rule: host, pattern: r"^[A-Za-z0-9.:\[\]-]+$", value: Kind::Table(&REGISTRY) };

static REGISTRY: Shape = Shape {
    noun: "registry",
    doc: "How one OCI registry is talked to. None is needed for one that anybody may read, or that `docker login` knows.",
    keys: &[
        optional("username", TEXT, r#""robot""#, "Who to log in as, together with `password`."),
        default(
            "password",
            Kind::Secret,
            "what `docker login` left in `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, otherwise nothing",
            r#"{ credential = "registry-password" }"#,
            "Password or access token. A reference, as for `secret_access_key`.",
        ),
        default(
            "insecure",
            Kind::Bool,
            "false, but true for `localhost` and loopback addresses",
            "true",
            "Plain HTTP. What is pulled is held against its digest all the same; a password is seen by everybody on the way.",
        ),
    ],
    synonyms: &[("user", "username"), ("token", "password"), ("plain_http", "insecure")],
};

pub(crate) static SIGNATURES: Shape = Shape {
    noun: "signatures",
    doc: "Who must have signed what is pulled from registries.",
    keys: &[
        required(
            "keys",
            Kind::List(&TEXT),
            r#"["/etc/consign/cosign.pub"]"#,
            "Files with public keys (PEM, ECDSA P-256, as `cosign generate-key-pair` writes them), relative to this file. \
             One of them is enough.",
        ),
        default(
            "require",
            Kind::Bool,
            "true",
            "true",
            "Whether a plugin from a registry is refused that none of the keys has signed. A plugin's own file is not \
             looked at: pin its `sha256`.",
        ),
    ],
    synonyms: &[("key", "keys"), ("require_signature", "require"), ("required", "require")],
};

pub(crate) fn read(
    registries: Option<&Table>,
    environment: &Environment,
    problems: &mut Problems,
) -> BTreeMap<String, Registry> {
    let mut read = BTreeMap::new();
    for section in Section::each(registries, &REGISTRY) {
        let (username, password) = (section.text("username"), reference(&section, "password"));
        for (key, other) in [("username", "password"), ("password", "username")] {
            if section.has(key) && !section.has(other) {
                let message = format!("`{key}` is given without `{other}`");
                problems.error(section.key_span(key), message, format!("add `{other}`, or remove it"));
            }
        }
        let login = username.zip(password).map(|(username, password)| RegistryLogin {
            username: username.to_owned(),
            password,
            environment: environment.clone(),
        });
        read.insert(section.name.to_owned(), Registry { login, insecure: section.bool("insecure") });
    }
    read
}

pub(crate) fn signatures(
    section: Option<Section<'_>>,
    base: impl Fn(usize) -> PathBuf,
    problems: &mut Problems,
) -> Option<Signatures> {
    let section = section?;
    let keys = section.texts("keys").into_iter().map(|(path, span)| base(span.file()).join(path)).collect::<Vec<_>>();
    if keys.is_empty() && section.has("keys") {
        problems.error(
            section.span("keys"),
            "`keys` is empty",
            "name the file of a public key, or remove `[signatures]`",
        );
    }
    Some(Signatures { keys, is_required: section.bool("require").unwrap_or(true) })
}

fn host(text: &str) -> Result<(), Invalid> {
    if is_registry(text) {
        return Ok(());
    }
    Err(Invalid::new("is not one; write host and port as references have them, such as \"registry.example.com\""))
}

impl RegistryLogin {
    /// The password as it is now.
    pub fn password(&self) -> Result<Secret, Invalid> {
        self.password.value(&self.environment)
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.password
    }
}

impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryLogin(..)")
    }
}
