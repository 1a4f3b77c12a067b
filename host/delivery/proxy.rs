//! How STS and S3 are reached: through the proxy that the environment names, if it names one.

use aws_sdk_s3::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use url::{Host, Url};

/// As curl knows them. `NO_PROXY` says which hosts are asked without.
const VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// The SDK heeds no proxy unless it is told to.
pub(super) fn client() -> SharedHttpClient {
    let direct = Builder::new().tls_provider(TLS).build_https();
    if !VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return direct;
    }
    let by_proxy = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(TLS).build()
    });
    SharedHttpClient::new(Ways { by_proxy, direct })
}

#[derive(Debug)]
struct Ways<T> {
    by_proxy: T,
    direct: T,
}

impl HttpClient for Ways<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let by_proxy = self.by_proxy.http_connector(settings, components);
        SharedHttpConnector::new(Ways { by_proxy, direct: self.direct.http_connector(settings, components) })
    }
}

impl HttpConnector for Ways<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match is_near(request.uri()) {
            true => self.direct.call(request),
            false => self.by_proxy.call(request),
        }
    }
}

/// This machine, and what a machine or a container in AWS asks for its role: no proxy leads there.
fn is_near(uri: &str) -> bool {
    match Url::parse(uri).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        // EC2 User Guide, "Access instance metadata": fd00:ec2::254; EKS has fd00:ec2::23.
        Some(Host::Ipv6(address)) => address.is_loopback() || address.segments()[..2] == [0xfd00, 0x0ec2],
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_asked_without_a_proxy() {
        for near in [
            "http://127.0.0.1:9000/bucket?uploads",
            "http://[::1]:9000/",
            "https://bucket.localhost/",
            "http://169.254.169.254/latest/api/token",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/latest/meta-data/",
        ] {
            assert!(is_near(near), "{near}");
        }
        for far in ["https://sts.eu-west-1.amazonaws.com/", "https://10.0.0.7/", "https://notlocalhost/", "/bucket"] {
            assert!(!is_near(far), "{far}");
        }
    }
}
