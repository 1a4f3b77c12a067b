//! `consign plugin push`: a component into a registry.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, line};
use crate::config::{Config, Environment};
use crate::domain::{ContentDigest, Failure, OciReference, PluginName};
use crate::limits::{Isolation, Limits};
use crate::plugin::PluginHost;
use crate::registry::{About, Registries};

#[derive(Args)]
pub struct PushArgs {
    /// The component's file.
    file: PathBuf,

    /// Where to, such as `registry.example.com/team/fmt:1.4`.
    #[arg(value_parser = reference)]
    reference: OciReference,
}

#[derive(Serialize)]
struct Pushed {
    oci: String,
    manifest: String,
    component: String,
    version: String,
}

fn reference(text: &str) -> Result<OciReference, String> {
    let found = OciReference::parse(text).map_err(|why| why.to_string())?;
    match found.digest() {
        Some(_) => Err("has a digest, which the registry gives; write a tag".into()),
        None => Ok(found),
    }
}

pub async fn push(global: &Global, args: &PushArgs) -> Result<Exit, CliError> {
    let component = std::fs::read(&args.file)
        .map_err(|error| CliError::internal(&format!("cannot read {}", args.file.display()), &error))?;
    // Whoever writes plugins need not have a configuration.
    let environment = Environment::of_process();
    let registries = match global.config.exists() {
        true => Registries::new(&Config::survey(&global.config, &environment)?.0),
        false => Registries::without_config(&environment),
    };
    let registries = registries.map_err(|error| CliError::failed(error.into()))?;
    let cache = tempfile::tempdir().map_err(|error| CliError::internal("cannot make a temporary directory", &error))?;
    // What is no plugin is not pushed as one.
    let loaded = tokio::task::block_in_place(|| {
        let name = PluginName::parse("component").map_err(|why| CliError::new(Exit::Internal, why.to_string(), ""))?;
        let host = PluginHost::new(cache.path());
        let loaded = host.and_then(|host| host.load_in(Isolation::Process, &name, &component, &Limits::default()));
        loaded
            .map_err(|error| CliError::new(Exit::Failed, Failure::chain(&error), "`consign plugin inspect` tells more"))
    })?;
    let said = loaded.description();
    let about = About { name: &said.name, version: &said.version };
    let pushed = registries.push(&args.reference, &component, about).await;
    let manifest = pushed.map_err(|error| CliError::failed(error.into()))?;
    let pushed = Pushed {
        oci: args.reference.to_string(),
        manifest: manifest.to_string(),
        component: ContentDigest::of(&component).to_string(),
        version: said.version.clone(),
    };
    if global.json {
        output::json(&pushed);
    } else {
        line(&format!("{} {} is {}", said.name, pushed.version, args.reference.pinned_to(&manifest)));
    }
    Ok(Exit::Done)
}
