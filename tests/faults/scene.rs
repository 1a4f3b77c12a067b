//! A vendor with three customers behind a faulting proxy, at either server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use serde_json::json;

use crate::cli::world::{Running, SOON, World, until};
use crate::support::ministack::{ACCOUNT, Ministack};
use crate::support::postgres::Postgres;
use crate::support::promises::{Ledger, Profile, Recorded, Story};
use crate::support::proxy::{Proxy, canary};

pub const CUSTOMERS: [&str; 3] = ["acme", "beta", "gamma"];
/// Of each customer, in several objects.
const ROWS: u64 = 48;
const MIB: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Server {
    Sandbox,
    Ministack,
}

pub struct Scene {
    pub world: World,
    pub proxy: Proxy,
    server: Server,
    sandbox: Option<Running>,
    profiles: Vec<Profile>,
    keys: Vec<(&'static str, String)>,
    /// The ledger's schema, if it is in PostgreSQL.
    schema: Option<(String, String)>,
}

/// What is configured besides what all scenes have.
#[derive(Clone, Copy)]
pub struct Plan {
    pub server: Server,
    /// The keys of each share, `to` among them.
    pub rows: &'static str,
    pub files: &'static str,
    /// How long a request may take.
    pub patience: &'static str,
    /// Whether a file has two parts.
    pub large: bool,
    pub postgres: Option<&'static Postgres>,
}

impl Scene {
    pub fn new(plan: &Plan) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (profiles, keys) = match plan.server {
            Server::Sandbox => (CUSTOMERS.iter().zip(1..).map(in_sandbox).collect(), Vec::new()),
            Server::Ministack => in_ministack(number),
        };
        let schema = plan.postgres.map(|server| (server.url(), format!("faults{number}")));
        // Of `[daemon]`. Killed while it only tries, consign leaves an upload that nobody knows of.
        let mut text = "preflight = \"never\"\n".to_owned();
        if let Some((url, schema)) = &schema {
            text.push_str(&format!("[ledger]\nurl = \"{url}\"\nschema = \"{schema}\"\nlease = \"2s\"\n"));
        }
        let patience = plan.patience;
        text.push_str(&format!(
            "@AWS@attempt_timeout = \"{patience}\"\noperation_timeout = \"8s\"\npart_size = \"5 MiB\"\n"
        ));
        text.push_str(&profiles.iter().map(customer).collect::<String>());
        text.push_str("[datasets.rows]\ntables.rows = \"rows.csv\"\ntenant_column = \"tenant\"\n");
        text.push_str("[datasets.files]\nfiles = \"files/{customer}/*\"\n");
        text.push_str(&format!(
            "[shares.rows]\ndataset = \"rows\"\nplugin = \"jsonl\"\nmax_object_size = \"1 KiB\"\n{}\n",
            plan.rows
        ));
        text.push_str(&format!("[shares.files]\ndataset = \"files\"\n{}\n", plan.files));
        let world = World::new(&text);
        write_data(&world, plan.large);
        let (sandbox, behind) = match plan.server {
            Server::Sandbox => {
                let sandbox = world.sandbox();
                (Some(sandbox), world.endpoint())
            }
            Server::Ministack => (None, Ministack::shared().url()),
        };
        let proxy = Proxy::start(&behind);
        world.configure(&proxy.endpoint, "", "");
        Self { world, proxy, server: plan.server, sandbox, profiles, keys, schema }
    }

    /// A process that the proxy may kill, with a configuration file of its own.
    pub fn start(&self, config: &str, args: &[&str]) -> Running {
        let keys: Vec<(&str, &str)> = self.keys.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let process = self.world.start_with(config, &[], args, &keys);
        self.proxy.may_kill(process.id());
        process
    }

    /// A command to its end.
    pub fn run(&self, args: &[&str]) -> ExitStatus {
        self.start("consign.toml", args).wait(SOON)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.world.path("daemon.log")).unwrap_or_default()
    }

    /// What the ledger answers, a line for each row.
    pub fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        if let Some((url, schema)) = &self.schema {
            let said = Postgres::ask(url, &format!("SET search_path TO {schema}; {sql}"));
            return said.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect();
        }
        let path = self.world.path("state/ledger.db");
        let ledger = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        ledger.busy_timeout(SOON).unwrap();
        let mut asked = ledger.prepare(sql).unwrap();
        let columns = asked.column_count();
        let text = |value: rusqlite::types::Value| match value {
            rusqlite::types::Value::Null => String::new(),
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        };
        let rows = asked.query_map([], |row| (0..columns).map(|column| Ok(text(row.get(column)?))).collect()).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Share and instant of what some customer has not got, as `send --at` takes it.
    pub fn missing(&self) -> BTreeSet<(String, String)> {
        let ledger = self.ledger();
        let has = |share: &str, slot: &str, customer: &str| {
            let theirs =
                |of: &&Recorded| (of.share.as_str(), of.slot.as_str(), of.customer.as_str()) == (share, slot, customer);
            ledger.deliveries.iter().filter(theirs).any(|of| of.state == "committed")
        };
        let missing = ledger.slots.iter().filter(|(share, slot, customer)| !has(share, slot, customer));
        missing.map(|(share, slot, _)| (share.clone(), instant(slot))).collect()
    }

    /// Why what failed did, for a person who looks at a test that failed.
    pub fn failures(&self) -> String {
        let failures = self.ask("SELECT run, customer, state, failure FROM deliveries WHERE failure IS NOT NULL");
        failures.iter().map(|row| row.join(" ") + "\n").collect()
    }

    /// The daemon that was started last has begun, so that it heeds a signal.
    pub fn settles(&self) {
        until("the daemon can be asked", SOON, || self.world.run(&["status"]).code == 0);
    }

    fn ledger(&self) -> Ledger {
        let slots = self.ask("SELECT share, at, customers FROM slots WHERE state <> 'skipped'");
        let slots = slots.into_iter().flat_map(|row| {
            let customers: Vec<String> = serde_json::from_str(&row[2]).unwrap();
            customers.into_iter().map(move |customer| (row[0].clone(), row[1].clone(), customer))
        });
        let deliveries = self.ask(
            "SELECT s.share, s.at, d.customer, r.id, d.state, d.manifest_key, d.rows
             FROM deliveries d JOIN runs r ON r.seq = d.run JOIN slots s ON s.id = d.slot ORDER BY d.id",
        );
        let deliveries = deliveries.into_iter().map(|row| {
            let [share, slot, customer, run, state, manifest_key, rows] = row.try_into().unwrap();
            Recorded { share, slot, customer, run, state, manifest_key, rows: rows.parse().unwrap_or_default() }
        });
        let uploads = self.ask("SELECT upload_id, state FROM uploads");
        let uploads = uploads.into_iter().map(|row| (row[0].clone(), row[1].clone()));
        Ledger { slots: slots.collect(), deliveries: deliveries.collect(), uploads: uploads.collect() }
    }

    /// All that there is to judge by. Nothing is at work any more.
    pub fn story(&self, kills: usize) -> Story {
        let events = self.proxy.history();
        let (objects, uploads) = match self.server {
            Server::Sandbox => self.in_files(),
            Server::Ministack => self.in_buckets(),
        };
        let kills = kills + self.proxy.kills();
        Story { profiles: self.profiles.clone(), events, objects, uploads, ledger: self.ledger(), kills }
    }

    fn in_files(&self) -> (BTreeMap<(String, String), Bytes>, BTreeMap<String, usize>) {
        assert!(self.sandbox.is_some());
        let mut objects = BTreeMap::new();
        for Profile { bucket, .. } in &self.profiles {
            let folder = self.world.path(&format!("buckets/{bucket}"));
            for (key, _) in crate::cli::world::files(&folder) {
                let bytes = fs::read(folder.join(&key)).unwrap();
                objects.insert((bucket.clone(), key), bytes.into());
            }
        }
        let uploads = fs::read_dir(self.world.path("buckets/.sandbox/uploads")).unwrap().map(|entry| {
            let entry = entry.unwrap();
            // One file is about the upload.
            let parts = fs::read_dir(entry.path()).unwrap().count() - 1;
            (entry.file_name().into_string().unwrap(), parts)
        });
        (objects, uploads.collect())
    }

    fn in_buckets(&self) -> (BTreeMap<(String, String), Bytes>, BTreeMap<String, usize>) {
        let server = Ministack::shared();
        let get = |path: &str| {
            let answer = server.s3("root", "GET", path, b"");
            assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
            answer.body
        };
        let text = |path: &str| String::from_utf8(get(path)).unwrap();
        let all = |xml: &str, name: &str| -> Vec<String> {
            let begin = format!("<{name}>");
            let texts = xml.split(&begin).skip(1);
            texts.map(|rest| rest.split("</").next().unwrap().to_owned()).collect()
        };
        let (mut objects, mut uploads) = (BTreeMap::new(), BTreeMap::new());
        for Profile { bucket, .. } in &self.profiles {
            let listed = text(&format!("/{bucket}?list-type=2&max-keys=1000"));
            assert!(!listed.contains("<IsTruncated>true"), "more than a page of {bucket}");
            for key in all(&listed, "Key") {
                let bytes = get(&format!("/{bucket}/{key}"));
                objects.insert((bucket.clone(), key), Bytes::from(bytes));
            }
            let listed = text(&format!("/{bucket}?uploads"));
            for (id, key) in all(&listed, "UploadId").into_iter().zip(all(&listed, "Key")) {
                let parts = all(&text(&format!("/{bucket}/{key}?uploadId={id}")), "PartNumber").len();
                uploads.insert(id, parts);
            }
        }
        (objects, uploads)
    }
}

/// An instant of the ledger, as people write it.
fn instant(micros: &str) -> String {
    chrono::DateTime::from_timestamp_micros(micros.parse().unwrap()).unwrap().to_rfc3339()
}

fn customer(profile: &Profile) -> String {
    let Profile { name, role_arn, external_id, bucket, prefix, .. } = profile;
    format!(
        "[customers.{name}]\nrole_arn = \"{role_arn}\"\nexternal_id = \"{external_id}\"\nbucket = \"{bucket}\"\n\
         region = \"us-east-1\"\nprefix = \"{prefix}\"\nparams = {{ tenant = \"{name}\" }}\n"
    )
}

fn in_sandbox((name, number): (&&str, u32)) -> Profile {
    let owner = format!("1000000000{number:02}");
    Profile {
        name: (*name).to_owned(),
        role_arn: format!("arn:aws:iam::{owner}:role/{name}-data"),
        external_id: format!("test-{number}f-{name}"),
        bucket: format!("{name}-data"),
        owner,
        prefix: "in/".to_owned(),
        rows: ROWS,
    }
}

/// A vendor who may assume roles, and roles that may put objects below a prefix. Here the right to abort
/// has to be given; AWS and the sandbox let whoever began an upload abort it.
fn in_ministack(scene: u32) -> (Vec<Profile>, Vec<(&'static str, String)>) {
    let server = Ministack::shared();
    let vendor = format!("faults-{scene}");
    let allow = |actions: &[&str], resource: &str| {
        let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": resource });
        json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
    };
    let (key, secret) = server.user(&vendor, &allow(&["sts:AssumeRole"], "*"));
    let profiles = CUSTOMERS.map(|name| {
        let (bucket, external_id) = (format!("{name}-faults-{scene}"), format!("test-{scene}f-{name}"));
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:user/{vendor}") },
            "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": external_id } },
        }]});
        let role = allow(&["s3:PutObject", "s3:AbortMultipartUpload"], &format!("arn:aws:s3:::{bucket}/in/*"));
        let role_arn = server.role(&format!("{name}-faults-{scene}"), &trust.to_string(), &role);
        assert_eq!(server.s3("root", "PUT", &format!("/{bucket}"), b"").status, 200);
        let (name, owner, prefix) = (name.to_owned(), ACCOUNT.to_owned(), "in/".to_owned());
        Profile { name, role_arn, external_id, bucket, owner, prefix, rows: ROWS }
    });
    (profiles.into(), vec![("CONSIGN_DEMO_ACCESS_KEY_ID", key), ("CONSIGN_DEMO_SECRET_ACCESS_KEY", secret)])
}

/// A canary of its customer in every row and every file.
fn write_data(world: &World, large: bool) {
    let mut rows = "n,tenant,canary\n".to_owned();
    for n in 0..ROWS {
        for name in CUSTOMERS {
            rows.push_str(&format!("{n},{name},{}\n", canary(name)));
        }
    }
    world.write("rows.csv", rows);
    for name in CUSTOMERS {
        fs::create_dir_all(world.path(&format!("files/{name}"))).unwrap();
        world.write(&format!("files/{name}/small.txt"), canary(name));
        if large {
            let padding = ".".repeat(5 * MIB);
            world.write(&format!("files/{name}/large.txt"), format!("{}{padding}{}", canary(name), canary(name)));
        }
    }
}
