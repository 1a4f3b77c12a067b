//! A registry that is none: it sends for tokens, leads elsewhere, and lies.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::json;

use super::world;
use crate::support::registry::digest;

/// Answers each request by its path, until the test ends; the paths with what
/// they are to be answered, and the requests that came with their `Authorization`.
struct Liar {
    host: String,
    seen: mpsc::Receiver<(String, String)>,
}

type Answers = BTreeMap<String, String>;

impl Liar {
    fn new(answers: impl FnOnce(&str) -> Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let answers = answers(&host);
        let (sender, seen) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let (path, authorization) = request(&stream);
                let known = answers.get(&format!("{path} {authorization}")).or_else(|| answers.get(&path));
                let answer = known.map_or("404 Not Found\r\n\r\n", String::as_str);
                let _ = (&stream).write_all(
                    format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)).as_bytes(),
                );
                if sender.send((path, authorization)).is_err() {
                    return;
                }
            }
        });
        Self { host, seen }
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.seen.try_iter().collect()
    }
}

/// The path, and what it is authorized by. All of the request is read, or closing
/// the connection would take the answer back.
fn request(stream: &TcpStream) -> (String, String) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let lines: Vec<String> = lines.collect();
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let authorization =
        lines.iter().find_map(|line| Some(line.to_ascii_lowercase().strip_prefix("authorization: ")?.to_owned()));
    (path, authorization.unwrap_or_default())
}

fn ok(body: &str) -> String {
    format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn wasm_manifest(component: &[u8], size: usize) -> String {
    json!({
        "schemaVersion": 2,
        "layers": [{ "mediaType": "application/wasm", "digest": digest(component), "size": size }],
    })
    .to_string()
}

/// The token protocol, and blobs behind another address, which is told no password.
#[test]
fn a_registry_may_send_for_a_token_and_elsewhere_for_content() {
    let content = "not a component";
    let elsewhere = Liar::new(|_| BTreeMap::from([("/content".to_owned(), ok(content))]));
    let (other, blob) = (elsewhere.host.replace("127.0.0.1", "localhost"), digest(content.as_bytes()));
    let registry = Liar::new(|host| {
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"repository:fmt:pull\"");
        let login = format!("401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n");
        let leads = format!("307 Temporary Redirect\r\nLocation: http://{other}/content\r\nContent-Length: 0\r\n\r\n");
        BTreeMap::from([
            ("/v2/fmt/manifests/1".to_owned(), login.clone()),
            ("/v2/fmt/manifests/1 bearer t0ken".to_owned(), ok(&wasm_manifest(content.as_bytes(), content.len()))),
            ("/token?service=test&scope=repository%3Afmt%3Apull".to_owned(), ok("{\"token\":\"t0ken\"}")),
            (format!("/v2/fmt/blobs/{blob}"), login),
            (format!("/v2/fmt/blobs/{blob} bearer t0ken"), leads),
        ])
    });
    let login = format!(
        "[registries.\"{}\"]\nusername = \"robot\"\npassword = {{ env = \"CONSIGN_DEMO_SECRET_ACCESS_KEY\" }}\n",
        registry.host
    );
    let world = world(&format!("{}/fmt:1", registry.host), &login);
    // All of it was followed: what came is no component, which is found out at the end.
    world.run(&["plugin", "pull"]).ended(1).err_says(&["plugin fmt is not a WebAssembly component"]);
    let seen = registry.seen();
    let token = seen.iter().find(|(path, _)| path.starts_with("/token")).unwrap();
    assert!(token.1.starts_with("basic "), "{seen:?}");
    assert_eq!(elsewhere.seen(), [("/content".to_owned(), String::new())]);
}

#[test]
fn a_registry_that_gives_more_or_leads_astray_is_refused() {
    let content = "x".repeat(100);
    let blob = format!("/v2/fmt/blobs/{}", digest(content.as_bytes()));
    let manifest = ok(&wasm_manifest(content.as_bytes(), 10));
    let huge = ok(&wasm_manifest(content.as_bytes(), 1 << 40));
    let more = |manifest: &str| {
        BTreeMap::from([("/v2/fmt/manifests/1".to_owned(), manifest.to_owned()), (blob.clone(), ok(&content))])
    };
    let only = |answer: &str| BTreeMap::from([("/v2/fmt/manifests/1".to_owned(), answer.to_owned())]);
    let round = "307 Temporary Redirect\r\nLocation: /v2/fmt/manifests/1\r\nContent-Length: 0\r\n\r\n";
    let said = "{\"errors\":[{\"message\":\"on\\nfire\"}]}";
    let cases: Vec<(Answers, &str)> = vec![
        (more(&manifest), "gave more than 10 bytes for the blob sha256:"),
        (more(&huge), "a plugin has at most 268435456"),
        (only(&ok("{")), "has a manifest that cannot be read"),
        (only(round), "leads from one address to the next"),
        (only("500 Oh\r\nContent-Length: 0\r\n\r\n"), "answered 500"),
        (only(&format!("503 Oh\r\nContent-Length: {}\r\n\r\n{said}", said.len())), "on\\nfire"),
        (
            only("401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"),
            "does not follow: Negotiate",
        ),
    ];
    for (answers, why) in cases {
        let registry = Liar::new(|_| answers);
        let world = world(&format!("{}/fmt:1", registry.host), "");
        world.run(&["plugin", "pull"]).ended(1).err_says(&["plugin fmt: ", why]);
        assert!(!world.path("cache/components").exists());
    }
}
