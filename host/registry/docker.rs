//! What `docker login`, `podman login` and `oras login` have left: `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;

use crate::domain::Secret;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    /// Base64 of `username:password`.
    #[serde(default)]
    auth: Option<String>,
}

/// What it says of one registry.
pub(super) enum Found {
    Login {
        username: String,
        password: Secret,
    },
    /// Why there is none that can be used, if that is worth telling.
    Nothing(Option<String>),
}

/// The login for a registry.
pub(super) fn login(dir: Option<&Path>, registry: &str) -> Found {
    let Some(path) = dir.map(|dir| dir.join("config.json")) else { return Found::Nothing(None) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Nothing(None),
        Err(error) => return Found::Nothing(Some(format!("{} cannot be read: {error}", path.display()))),
    };
    let Ok(config) = serde_json::from_slice::<DockerConfig>(&text) else {
        return Found::Nothing(Some(format!("{} is not a configuration of docker", path.display())));
    };
    let is_it = |key: &str| {
        let host = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default();
        host == registry || (registry == "docker.io" && host == "index.docker.io")
    };
    let auth = config.auths.iter().find(|(key, auth)| is_it(key) && auth.auth.is_some());
    if let Some(auth) = auth.and_then(|(_, auth)| auth.auth.as_deref()) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok();
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        return match pair.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((username, password)) => {
                Found::Login { username: username.to_owned(), password: Secret::new(password.trim_end_matches('\0')) }
            }
            None => Found::Nothing(Some(format!("the login for {registry} in {} cannot be read", path.display()))),
        };
    }
    let helper = config.cred_helpers.iter().find(|(key, _)| is_it(key)).map(|(_, helper)| helper);
    let helper = helper.or(config.creds_store.as_ref()).map(|helper| {
        format!(
            "{} leaves logins to the program docker-credential-{helper}, which consign does not run",
            path.display()
        )
    });
    Found::Nothing(helper)
}
