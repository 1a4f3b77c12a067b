//! A vendor with three customers behind a faulting proxy, at either server.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use consign::sandbox::VENDOR_ARN;
use serde_json::{Value, json};

use crate::cli::world::{Running, SOON, World, command, serving, until};
use crate::support::ministack::{ACCOUNT, Ministack};
use crate::support::postgres::Postgres;
use crate::support::promises::{Ledger, Profile, Recorded, Share, Story};
use crate::support::proxy::{Proxy, canary};

pub const CUSTOMERS: [&str; 3] = ["acme", "beta", "gamma"];
pub const SHARES: [&str; 3] = ["rows", "files", "newest"];
/// Deliveries of one customer.
pub const AT_ONCE: u64 = 2;
/// Of each customer, in several objects.
const ROWS: u64 = 24;
/// Each row says which slot it is of, and every other slot (by day and second) has less objects: what
/// one had and the next has not stays where slots take each other's place.
const QUERY: &str = "select n, tenant, canary, \
    concat('slot:', cast(date_part('epoch', now()) as bigint), ';') as slot, \
    repeat('.', 60 * ((1 + cast(date_part('epoch', now()) as bigint) / 86400 \
        + cast(date_part('second', now()) as bigint)) % 2)) as padding from rows";
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
    /// The address of the server behind the proxy.
    behind: String,
    shares: [Share; 3],
    /// Who gets each.
    to: [Vec<&'static str>; 3],
    pub profiles: Vec<Profile>,
    keys: Vec<(&'static str, String)>,
    /// The ledger's schema, if it is in PostgreSQL.
    schema: Option<(String, String)>,
}

/// What is configured besides what all scenes have.
pub struct Plan {
    pub server: Server,
    /// The keys of each share, `to` among them, besides what makes it what it is.
    pub rows: String,
    pub files: String,
    pub newest: String,
    /// How long a request may take, and an operation with its retries.
    pub patience: [&'static str; 2],
    /// Whether a file has two parts.
    pub large: bool,
    /// Whether customers are looked at before their first delivery. Killed meanwhile, consign leaves an upload that
    /// nobody knows of.
    pub preflight: &'static str,
    pub postgres: Option<&'static Postgres>,
}

impl Scene {
    pub fn new(plan: &Plan) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (profiles, users) = match plan.server {
            Server::Sandbox => (CUSTOMERS.iter().zip(1..).map(in_sandbox).collect(), Vec::new()),
            Server::Ministack => in_ministack(number),
        };
        let schema = plan.postgres.map(|server| (server.url(), format!("faults{number}")));
        // Of `[daemon]`.
        let mut text = format!("preflight = \"{}\"\ncustomer_concurrency = {AT_ONCE}\n", plan.preflight);
        if let Some((url, schema)) = &schema {
            text.push_str(&format!("[ledger]\nurl = \"{url}\"\nschema = \"{schema}\"\nlease = \"2s\"\n"));
        }
        let [request, operation] = plan.patience;
        text.push_str(&format!(
            "@AWS@attempt_timeout = \"{request}\"\noperation_timeout = \"{operation}\"\npart_size = \"5 MiB\"\n"
        ));
        text.push_str(&profiles.iter().map(customer).collect::<String>());
        text.push_str("[datasets.rows]\ntables.rows = \"rows.csv\"\ntenant_column = \"tenant\"\n");
        text.push_str(&format!("query = \"{QUERY}\"\n"));
        text.push_str("[datasets.files]\nfiles = \"files/{customer}/*\"\n");
        let keys = [&plan.rows, &plan.files, &plan.newest];
        let shares: [Share; 3] = std::array::from_fn(|number| share(SHARES[number], keys[number]));
        let to = keys.map(|keys| {
            let gets = |name: &&str| keys.contains("all = true") || keys.contains(&format!("\"{name}\""));
            CUSTOMERS.into_iter().filter(gets).collect()
        });
        for (share, keys) in shares.iter().zip(keys) {
            text.push_str(&section(share));
            text.push_str(&format!("{keys}\n"));
        }
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
        Self { world, proxy, server: plan.server, sandbox, behind, shares, to, profiles, keys: users, schema }
    }

    /// Has each customer's role allow this too, besides uploads in its folder. Nothing is in the sandbox yet.
    pub fn allow(&mut self, statement: impl Fn(&Profile) -> Value) {
        drop(self.sandbox.take().unwrap());
        self.world.write("sandbox.toml", served(&self.profiles, statement));
        let listen = self.behind.trim_start_matches("http://").trim_end_matches('/');
        let args = ["sandbox", "--file", "sandbox.toml", "--listen", listen, "--json"];
        let (said, log) = (self.world.path("sandbox.json"), self.world.path("sandbox.log"));
        self.sandbox = Some(serving(&mut command(self.world.dir(), &args), &said, &log).0);
    }

    /// From now on whoever is started, or reads its configuration again, has time, however busy the machine is.
    pub fn has_time(&self, configs: &[&str]) {
        for config in configs {
            let text = fs::read_to_string(self.world.path(config)).unwrap();
            let slow = |line: &str| match line.split_once("_timeout = ") {
                Some((what, _)) => format!("{what}_timeout = \"{}\"\n", if what == "attempt" { "60s" } else { "120s" }),
                None => format!("{line}\n"),
            };
            // In one step: whoever starts at this moment would take half a file, and half a configuration may be one.
            self.world.write("slow.toml", text.lines().map(slow).collect::<String>());
            fs::rename(self.world.path("slow.toml"), self.world.path(config)).unwrap();
        }
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

    /// What some customer has not got, in the order of its slots.
    pub fn missing(&self) -> Vec<Missing> {
        let ledger = self.ledger();
        let has = |share: &str, customer: &str, is_it: &dyn Fn(&str) -> bool| {
            let theirs = |of: &&Recorded| of.share == share && of.customer == customer && of.state == "committed";
            ledger.deliveries.iter().filter(theirs).any(|of| is_it(&of.slot))
        };
        let mut missing: BTreeMap<(&str, i64), bool> = BTreeMap::new();
        for (share, slot, customer) in &ledger.slots {
            if !has(share, customer, &|of| of == slot) {
                let at: i64 = slot.parse().unwrap();
                let overtaken = share == "newest" && has(share, customer, &|of| of.parse::<i64>().unwrap() > at);
                *missing.entry((share, at)).or_default() |= overtaken;
            }
        }
        let missing = missing.into_iter();
        missing
            .map(|((share, at), overtaken)| Missing { share: share.to_owned(), at: instant(at), overtaken })
            .collect()
    }

    /// Why what failed did, for a person who looks at a test that failed.
    pub fn failures(&self) -> String {
        let failures = self.ask("SELECT run, customer, state, failure FROM deliveries WHERE failure IS NOT NULL");
        failures.iter().map(|row| row.join(" ") + "\n").collect()
    }

    /// As if nobody had ever looked at a customer. No process has the ledger open, which is in a file.
    pub fn forgets_customers(&self) {
        let path = self.world.path("state/ledger.db");
        if path.exists() {
            rusqlite::Connection::open(path).unwrap().execute("DELETE FROM customers", []).unwrap();
        }
    }

    /// One number that the ledger knows.
    pub fn count(&self, sql: &str) -> u64 {
        self.ask(&format!("SELECT count(*) FROM {sql}"))[0][0].parse().unwrap()
    }

    /// The daemon that was started last has begun, so that it heeds a signal.
    pub fn settles(&self) {
        until("the daemon can be asked", SOON, || self.world.run(&["status"]).code == 0);
    }

    fn ledger(&self) -> Ledger {
        let mut planned: BTreeMap<String, BTreeMap<i64, String>> = BTreeMap::new();
        for row in self.ask("SELECT share, at, coalesce(reason, '') FROM slots") {
            let [share, at, reason] = row.try_into().unwrap();
            planned.entry(share).or_default().insert(at.parse().unwrap(), reason);
        }
        // To all who get the share: a slot that waits is only to those for whom it does.
        let slots = self.ask("SELECT share, at FROM slots WHERE state <> 'skipped'");
        let slots = slots.into_iter().flat_map(|row| {
            let [share, at] = row.try_into().unwrap();
            let number = SHARES.iter().position(|name| *name == share).unwrap();
            self.to[number].iter().map(move |customer| (share.clone(), at.clone(), (*customer).to_owned()))
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
        Ledger { slots: slots.collect(), planned, deliveries: deliveries.collect(), uploads: uploads.collect() }
    }

    /// All that there is to judge by. Nothing is at work any more.
    pub fn story(&self, kills: usize) -> Story {
        let events = self.proxy.history();
        let (objects, uploads) = match self.server {
            Server::Sandbox => self.in_files(),
            Server::Ministack => self.in_buckets(),
        };
        let kills = kills + self.proxy.kills();
        let (profiles, shares) = (self.profiles.clone(), self.shares.clone().into());
        Story { profiles, shares, events, objects, uploads, ledger: self.ledger(), kills }
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

impl Drop for Scene {
    /// Whoever looks at a test that failed sees what the processes said last.
    fn drop(&mut self) {
        const LINES: usize = 300;
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(LINES)..].join("\n"));
        }
    }
}

/// A slot that some customer has not got.
#[derive(Debug)]
pub struct Missing {
    pub share: String,
    /// As `send --at` takes it.
    pub at: String,
    /// And will not get any more, because a later one has its place.
    pub overtaken: bool,
}

/// An instant of the ledger, as people write it.
fn instant(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339()
}

/// Slots of rows may go on side by side, so nothing leads to the newest of them.
fn share(name: &str, keys: &str) -> Share {
    let (name, replaces) = (name.to_owned(), name == "newest");
    let (success, latest) = (!replaces, name == "files");
    let every = keys.split_once("\"*/").and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
    Share { name, replaces, success, latest, every }
}

fn section(share: &Share) -> String {
    let Share { name, replaces, success, latest, .. } = share;
    let of_rows = "dataset = \"rows\"\nplugin = \"jsonl\"\nmax_object_size = \"1 KiB\"\n";
    let dataset = if name == "files" { "dataset = \"files\"\n" } else { of_rows };
    let mode = if *replaces { "mode = \"replace\"\n" } else { "" };
    format!("[shares.{name}]\n{dataset}{mode}success_marker = {success}\nlatest_pointer = {latest}\n")
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

/// The file of a sandbox with roles that may deliver as a pack has it, and do this.
fn served(profiles: &[Profile], may: impl Fn(&Profile) -> Value) -> String {
    let mut text = "dir = \"buckets\"\n[vendor]\naccess_key_id = \"AKIACONSIGNSANDBOX00\"\n\
                    secret_access_key = \"consign-sandbox-secret\"\n"
        .to_owned();
    for profile in profiles {
        let Profile { role_arn, external_id, bucket, owner, prefix, .. } = profile;
        let deliver = json!({
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": format!("arn:aws:s3:::{bucket}/{prefix}*"),
        });
        let policy = json!({ "Version": "2012-10-17", "Statement": [deliver, may(profile)] });
        let name = role_arn.rsplit('/').next().unwrap();
        text.push_str(&format!(
            "[[accounts]]\nid = \"{owner}\"\n[[accounts.roles]]\nname = \"{name}\"\npolicy = '''{policy}'''\n\
             [accounts.roles.trust]\nprincipal = \"{VENDOR_ARN}\"\nexternal_id = \"{external_id}\"\n\
             [[accounts.buckets]]\nname = \"{bucket}\"\n"
        ));
    }
    text
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
