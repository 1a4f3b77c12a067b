//! STS and S3 by the ways that the environment names.

use super::world::{self, Ran, World, command};
use crate::support::tunnel::Tunnel;

const HOST: &str = "http://aws.example";

fn world() -> World {
    let share = "schedule = \"0 6 * * *\"\nto = { customers = [\"acme\"] }";
    World::new(&world::flights(&world::customer("acme", 1, "eu-west-1", "\"AS\""), "daily", share))
}

fn preflight(world: &World, environment: &[(&str, &str)]) -> Ran {
    let mut command = command(world.dir(), &["--config", "consign.toml", "preflight", "acme"]);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn port(endpoint: &str) -> u16 {
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn sts_and_s3_are_reached_through_a_proxy() {
    let world = world();
    let _sandbox = world.sandbox();
    let endpoint = world.endpoint();
    let proxy = Tunnel::to(port(&endpoint));
    // The sandbox is on this machine, where no proxy leads.
    preflight(&world, &[("HTTP_PROXY", "http://127.0.0.1:1")]).ended(0);

    // The proxy is the only way to the name.
    world.configure(HOST, "", "");
    preflight(&world, &[]).ended(1).out_says(&["NOT READY", "network"]);
    preflight(&world, &[("HTTP_PROXY", &proxy.url), ("NO_PROXY", ".example")]).ended(1);
    assert_eq!(proxy.asked(), [] as [&str; 0]);
    preflight(&world, &[("HTTP_PROXY", &proxy.url)]).ended(0).out_says(&["acme: ready"]);
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|first| first.contains(&format!(" {HOST}/"))), "{asked:?}");
}

/// What is asked for is seen where it is refused: there is no AWS in a test.
#[test]
fn the_environment_says_which_of_awss_endpoints_are_asked() {
    let world = world();
    let _sandbox = world.sandbox();
    let (fips, dual) = (("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true"));
    // A sandbox is none of them, and is asked all the same.
    preflight(&world, &[fips, dual]).ended(0);
    let sandbox = world.text();
    let endpoint = format!("endpoint_url = \"{}\"\n", world.endpoint());
    let hosts = |config: &str, more: &[(&str, &str)]| {
        let proxy = Tunnel::shut();
        world.write("consign.toml", config);
        preflight(&world, &[&[("HTTPS_PROXY", &*proxy.url)], more].concat()).ended(1).out_says(&["network"]);
        let mut hosts: Vec<String> = proxy.asked().iter().map(|first| first.replace("CONNECT ", "")).collect();
        hosts.sort();
        hosts.dedup();
        hosts.iter().map(|first| first.replace(":443 HTTP/1.1", "")).collect::<Vec<_>>()
    };
    let aws = sandbox.replace(&endpoint, "");
    assert_ne!(aws, sandbox);
    assert_eq!(hosts(&aws, &[fips]), ["sts-fips.eu-west-1.amazonaws.com", "sts-fips.us-east-1.amazonaws.com"]);
    assert_eq!(hosts(&aws, &[dual]), ["sts.eu-west-1.api.aws", "sts.us-east-1.api.aws"]);
    let s3 = sandbox.replace(&endpoint, &format!("sts_{endpoint}"));
    assert_eq!(hosts(&s3, &[]), ["acme-data.s3.eu-west-1.amazonaws.com"]);
    assert_eq!(hosts(&s3, &[fips]), ["acme-data.s3-fips.eu-west-1.amazonaws.com"]);
    assert_eq!(hosts(&s3, &[fips, dual]), ["acme-data.s3-fips.dualstack.eu-west-1.amazonaws.com"]);
}
