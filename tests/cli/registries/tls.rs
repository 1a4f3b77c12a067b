//! A registry with a name and a certificate of its own company, behind a proxy.

use super::signed::Signer;
use super::{component, lock, world};
use crate::cli::world::{Ran, World, command};
use crate::support::registry::{Registry, digest};
use crate::support::tunnel::Tunnel;

const NAME: &str = "registry.example";

fn pull(world: &World, environment: &[(&str, &str)]) -> Ran {
    let mut command = command(world.dir(), &["--config", "consign.toml", "plugin", "pull"]);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
fn a_registry_over_tls_is_reached_through_a_proxy_and_known_by_its_certificate() {
    let Some(registry) = Registry::start() else { return };
    let Some(maker) = Signer::new() else { return };
    maker.openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "key.pem",
        "-subj",
        "/CN=Acme's root",
        "-days",
        "2",
        "-out",
        "root.pem",
    ]);
    maker.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "server.key"]);
    maker.openssl(&["req", "-new", "-key", "server.key", "-subj", "/CN=registry", "-out", "server.csr"]);
    std::fs::write(maker.file("names"), format!("subjectAltName = DNS:{NAME}\n")).unwrap();
    maker.openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "key.pem",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ]);
    let over_tls = registry.over_tls(&maker.file("server.pem"), &maker.file("server.key"));
    let manifest = registry.push("team/fmt", "1", &component(1));
    let proxy = Tunnel::to(over_tls.port);
    let world = world(&format!("{NAME}/team/fmt:1"), "");
    let root = maker.file("root.pem").display().to_string();

    // The proxy is the only way to the name.
    pull(&world, &[("SSL_CERT_FILE", &root)]).ended(1).err_says(&["plugin fmt", NAME, "help: "]);
    let untrusted = pull(&world, &[("HTTPS_PROXY", &proxy.url)]).ended(1);
    untrusted.err_says(&["plugin fmt", NAME, "certificate", "help: "]);
    assert!(!world.path("consign.lock").exists());

    pull(&world, &[("HTTPS_PROXY", &proxy.url), ("SSL_CERT_FILE", &root)]).ended(0);
    let pinned = &lock(&world)["plugins"]["fmt"];
    assert_eq!(pinned["manifest"].as_str(), Some(&*manifest));
    assert_eq!(pinned["component"].as_str(), Some(&*digest(&component(1))));
    let asked: Vec<String> = proxy.asked();
    assert!(asked.iter().all(|first| first.starts_with(&format!("CONNECT {NAME}:443 "))), "{asked:?}");

    // Nor is one believed that has the certificate of another name.
    let other = self::world("other.example/team/fmt:1", "");
    pull(&other, &[("HTTPS_PROXY", &proxy.url), ("SSL_CERT_FILE", &root)])
        .ended(1)
        .err_says(&["certificate", "help: "]);
}
