//! The vendor's own keys: written as references, and read when they are needed,
//! so that looking at a configuration needs no secret.

use super::environment::Environment;
use super::model::Config;
use super::report::{ConfigErrors, quote};
use super::section::Section;
use super::shape::in_two;
use crate::domain::{Invalid, Secret};

/// Access keys as they are used.
#[derive(Clone)]
pub struct StaticCredentials {
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticCredentials(..)")
    }
}

/// Where the vendor's own keys are.
#[derive(Clone)]
pub struct Credentials(Place);

#[derive(Clone)]
enum Place {
    Here(StaticCredentials),
    Referred { id: Reference, secret: Reference, token: Option<Reference>, environment: Environment },
}

/// `{ env = "NAME" }` or `{ credential = "NAME" }`.
#[derive(Clone, PartialEq)]
pub(super) struct Reference {
    table: &'static str,
    key: &'static str,
    word: Word,
    name: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Word {
    Env,
    Credential,
}

impl Credentials {
    /// None: not all of them are written, or one is not a reference.
    pub(super) fn read(section: &Section<'_>, environment: &Environment) -> Option<Self> {
        let (id, secret) = (reference(section, "access_key_id")?, reference(section, "secret_access_key")?);
        let token = reference(section, "session_token");
        Some(Self(Place::Referred { id, secret, token, environment: environment.clone() }))
    }

    /// The keys as they are now: a file in the credentials directory may change.
    pub fn resolve(&self) -> Result<StaticCredentials, Invalid> {
        match &self.0 {
            Place::Here(keys) => Ok(keys.clone()),
            Place::Referred { id, secret, token, environment } => {
                let value = |reference: &Reference| {
                    let told = |why: Invalid| {
                        Invalid::new(format!("[aws] `{}`: {} {why}", reference.key, quote(&reference.name)))
                    };
                    reference.value(environment).map_err(told)
                };
                let session_token = token.as_ref().map(value).transpose()?;
                Ok(StaticCredentials { access_key_id: value(id)?, secret_access_key: value(secret)?, session_token })
            }
        }
    }

    fn references(&self) -> Vec<(&Reference, &Environment)> {
        match &self.0 {
            Place::Here(_) => Vec::new(),
            Place::Referred { id, secret, token, environment } => {
                [Some(id), Some(secret), token.as_ref()].into_iter().flatten().map(|r| (r, environment)).collect()
            }
        }
    }
}

impl From<StaticCredentials> for Credentials {
    fn from(keys: StaticCredentials) -> Self {
        Self(Place::Here(keys))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Reference {
    pub(super) fn value(&self, environment: &Environment) -> Result<Secret, Invalid> {
        match self.word {
            Word::Env => environment.secret_variable(&self.name),
            Word::Credential => environment.credential(&self.name),
        }
    }
}

impl Config {
    /// Errors for the references to secrets that cannot be followed, each at its place.
    pub fn check_secrets(&self) -> ConfigErrors {
        let mut errors = ConfigErrors::new();
        let mut wrong = |above: &[&str], reference: &Reference, why: Invalid| {
            let word = match reference.word {
                Word::Env => "env",
                Word::Credential => "credential",
            };
            let (why, help) = in_two(&why);
            let mut path = above.to_vec();
            path.extend([reference.key, word]);
            let place = self.locate(&path);
            errors.at(place, format!("{} {} {why}", reference.key, quote(&reference.name)), help);
        };
        for (reference, environment) in self.aws.credentials.iter().flat_map(Credentials::references) {
            if let Err(why) = reference.value(environment) {
                wrong(&[reference.table], reference, why);
            }
        }
        for (host, login) in
            self.registries.iter().filter_map(|(host, registry)| Some((host, registry.login.as_ref()?)))
        {
            if let Err(why) = login.password() {
                wrong(&["registries", host], login.reference(), why);
            }
        }
        if let Some(database) = &self.ledger.database
            && let (Some(reference), Err(why)) = (database.reference(), database.resolve())
        {
            wrong(&[reference.table], reference, why);
        }
        errors
    }
}

pub(super) fn reference(section: &Section<'_>, key: &'static str) -> Option<Reference> {
    let (word, entry) = section.node(key)?.table().filter(|table| table.len() == 1)?.iter().next()?;
    let word = match word {
        "env" => Word::Env,
        "credential" => Word::Credential,
        _ => return None,
    };
    Some(Reference { table: section.shape.noun, key, word, name: entry.node.text()?.to_owned() })
}
