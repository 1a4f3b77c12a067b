//! `consign check`: good is said, and all that is bad at once, each with its place.

use std::fs;

use chrono::{DateTime, Timelike as _, Utc};

use super::world::{SOON, World, checkout, consign, demo, says, stop, until};

/// One customer who gets all shares.
const CUSTOMER: &str = r#"
[customers.acme]
role_arn = "arn:aws:iam::123456789012:role/consign-delivery"
external_id = "c0ns1gn-7f0c2b9e"
bucket = "acme-data"
region = "eu-west-1"
prefix = "uploads/your-team/"
params = { carrier = "UA" }
"#;

fn share(name: &str, dataset: &str, plugin: &str) -> String {
    format!(
        "\n[shares.{name}]\nschedule = \"0 6 * * *\"\ndataset = \"{dataset}\"\nplugin = \"{plugin}\"\n\
         to = {{ customers = [\"acme\"] }}\n"
    )
}

fn dataset(name: &str, table: &str, query: &str) -> String {
    let query = if query.is_empty() { String::new() } else { format!("query = \"{query}\"\n") };
    format!("\n[datasets.{name}]\ntables.flights = \"{table}\"\n{query}tenant_column = \"carrier\"\n")
}

/// Line and column, from 1, of what stands in the text once.
fn place(text: &str, what: &str) -> (usize, usize) {
    let (before, after) = text.split_once(what).unwrap_or_else(|| panic!("no `{what}` in\n{text}"));
    assert!(!after.contains(what), "`{what}` is there twice");
    let line = before.matches('\n').count() + 1;
    (line, before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1)
}

#[test]
fn check_of_the_demo_tells_the_next_firings() {
    let dir = &demo().dir;
    let said = consign(dir, &["--config", "consign.toml", "check", "--json"]).ended(0).json();
    assert_eq!(said["customers"], 5);
    assert_eq!((&said["warnings"], &said["not_read"]), (&serde_json::json!([]), &serde_json::json!([])));
    let shares = said["shares"].as_array().unwrap();
    let names = ["flights-csv", "flights-jsonl", "flights-movements", "flights-parquet", "today"];
    assert_eq!(shares.iter().map(|share| share["share"].as_str().unwrap()).collect::<Vec<_>>(), names);
    for share in shares {
        let texts: Vec<&str> = share["next"].as_array().unwrap().iter().map(|next| next.as_str().unwrap()).collect();
        let next: Vec<DateTime<Utc>> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(next.len(), 3);
        assert!(next.is_sorted_by(|a, b| a < b), "{texts:?}");
        match share["share"].as_str().unwrap() {
            "today" => assert!(next.iter().all(|at| at.second() % 10 == 0), "{texts:?}"),
            // Midnight of New Year in New York.
            _ => assert!(texts.iter().all(|text| text.ends_with("-01-01T05:00:00Z")), "{texts:?}"),
        }
    }
    let year = &shares[0]["next"][0].as_str().unwrap()[..4];
    let firing = format!("{year}-01-01 00:00:00 EST  {year}-01-01T05:00:00Z");
    consign(dir, &["--config", "consign.toml", "check"]).ended(0).out_says(&[
        "the configuration is good: 5 shares, 5 customers",
        "*/10 * * * * *",
        &firing,
    ]);
}

#[test]
fn check_points_at_every_mistake() {
    let config = CUSTOMER.replace("eu-west-1", "eu-west").replace("params", "colour")
        + &dataset("flights", "flights.parquet", "")
        + &share("a", "flight", "csv")
        + &share("b", "flights", "csv").replace("0 6", "61 6");
    let world = World::new(&config);
    let checked = world.run(&["check"]).ended(3);
    assert_eq!(checked.stdout, "");
    let text = world.text();
    let mistakes = [
        ("\"eu-west\"", "region `eu-west` is not a region code"),
        ("colour", "unknown key `colour` in customer `acme`"),
        ("\"flight\"", "there is no dataset `flight`"),
    ];
    for (what, message) in mistakes {
        let (line, column) = place(&text, what);
        let carets = "^".repeat(what.len());
        says(&checked.stderr, &[message, &format!("--> consign.toml:{line}:{column}\n"), &carets, "= help: "]);
    }
    says(&checked.stderr, &["did you mean `flights`?", "errors in the configuration"]);

    let told = world.run(&["check", "--json"]).ended(3);
    assert_eq!(told.stderr, "", "nothing is told twice");
    let told = told.json();
    assert_eq!(told["error"]["exit"], 3);
    let problems = told["error"]["problems"].as_array().unwrap();
    for (what, message) in mistakes {
        let problem = problems.iter().find(|problem| problem["message"] == message).unwrap();
        let (line, column) = place(&text, what);
        assert_eq!((&problem["line"], &problem["column"]), (&line.into(), &column.into()), "{problem}");
        assert_eq!((&problem["file"], &problem["severity"]), (&"consign.toml".into(), &"error".into()));
    }
}

#[test]
fn check_tells_a_schedule_that_is_none() {
    let config = CUSTOMER.to_owned() + &dataset("flights", "@FLIGHTS@", "") + &share("a", "flights", "csv");
    let world = World::new(&config.replace("0 6 * * *", "61 6 * * *"));
    let (line, column) = place(&world.text(), "61 6 * * *");
    let place = format!("--> consign.toml:{line}:{column}\n");
    let said =
        world.run(&["check"]).ended(3).err_says(&["'61' as its minute", &place, "^^", "1 error in the configuration"]);
    assert!(!said.stderr.contains("^^^"), "{}", said.stderr);
}

#[test]
fn check_tells_all_that_is_wrong_with_the_data_and_the_plugins() {
    let config = CUSTOMER.to_owned()
        + &dataset("good", "@FLIGHTS@", "")
        + &dataset("no-column", "@FLIGHTS@", "select carier from flights")
        + &dataset("no-sql", "@FLIGHTS@", "selec carrier from flights")
        + &dataset("no-tenant", "@FLIGHTS@", "select flight from flights")
        + &dataset("no-param", "@FLIGHTS@", "select * from flights where dest = $customer.dest")
        + &dataset("truncated", "truncated.parquet", "")
        + &dataset("nowhere", "gone/*.parquet", "")
        + "\n[plugins.garbage]\npath = \"garbage.wasm\"\n[plugins.core]\npath = \"core.wasm\"\n"
        + &format!("[plugins.pinned]\npath = \"pinned.wasm\"\nsha256 = \"{}\"\n", "0".repeat(64))
        + "[plugins.gone]\npath = \"gone.wasm\"\n"
        + &share("a", "no-column", "csv")
        + &share("b", "good", "garbage")
        + &share("c", "truncated", "pinned")
        + &share("e", "no-param", "jsonl")
        + &share("d", "good", "csv")
        + "options = { delimiter = \"1\", nul = \"\" }\n";
    let world = World::new(&config);
    let flights = fs::read(checkout("config/demo/flights.parquet")).unwrap();
    world.write("truncated.parquet", &flights[..flights.len() / 2]);
    world.write("garbage.wasm", "garbage");
    world.write("core.wasm", b"\0asm\x01\0\0\0");
    world.write("pinned.wasm", fs::read(demo().dir.join("movements.wasm")).unwrap());

    let told = world.run(&["check", "--json"]).ended(3).json();
    let problems = told["error"]["problems"].as_array().unwrap();
    let text = world.text();
    let truncated = world.path("truncated.parquet");
    let mistakes: [(&str, &[&str]); 12] = [
        ("carier", &["dataset 'no-column'", "there is no column 'carier'", "did you mean 'carrier'?"]),
        ("selec ", &["dataset 'no-sql'", "not valid SQL", "Line: 1, Column: 1"]),
        ("{ carrier = \"UA\" }", &["customer `acme`", "dataset 'no-param'", "the query uses $customer.dest"]),
        ("\"truncated.parquet\"", &["dataset 'truncated'", truncated.to_str().unwrap(), "malformed Parquet"]),
        ("\"gone/*.parquet\"", &["dataset 'nowhere'", "nothing is at", "gone/*.parquet"]),
        ("\"garbage.wasm\"", &["plugin garbage is not a WebAssembly component", "does not begin with"]),
        ("\"core.wasm\"", &["plugin core is not a WebAssembly component", "core module", "wasm32-wasip2"]),
        ("\"000", &["plugin pinned", "has the sha256", "0000 is pinned"]),
        ("\"gone.wasm\"", &["cannot read plugin gone", "No such file"]),
        ("nul =", &["unknown option `nul`"]),
        ("\"1\"", &["write one ASCII character"]),
        ("select flight from", &["dataset 'no-tenant'", "no column 'carrier', the tenant column", "it has flight"]),
    ];
    for (what, phrases) in mistakes {
        let is_it = |message: &str| phrases.iter().all(|phrase| message.contains(phrase));
        let found: Vec<_> = problems.iter().filter(|p| p["message"].as_str().is_some_and(is_it)).collect();
        let [problem] = found.as_slice() else { panic!("{phrases:?} is {} times in {told:#}", found.len()) };
        let (line, column) = place(&text, what);
        let expected = match what {
            // The tenant column is on the next line, and a missing param is missing from `params`.
            "select flight from" => (line + 1, "tenant_column = ".len() + 1),
            "{ carrier = \"UA\" }" => (line, 1),
            _ => (line, column),
        };
        assert_eq!((&problem["line"], &problem["column"]), (&expected.0.into(), &expected.1.into()), "{problem}");
        let message = problem["message"].as_str().unwrap();
        assert_eq!(message.matches("not a WebAssembly").count(), usize::from(message.contains("WebAssembly")));
        assert!(problem["help"] != "" || message.contains("did you mean"), "{problem}");
        // Files come and go, and must not keep other shares from running.
        let is_of_the_data = matches!(what, "\"truncated.parquet\"" | "\"gone/*.parquet\"");
        assert_eq!(problem["severity"], if is_of_the_data { "warning" } else { "error" }, "{problem}");
    }
    assert_eq!(problems.len(), mistakes.len(), "{told:#}");
    let shown = world.run(&["check"]).ended(3);
    says(&shown.stderr, &["10 errors in the configuration", "^^^^^^", "-->", "= help: "]);
}

/// The problems that `check` tells: severity, line and column, message and help.
fn problems(world: &World, exit: i32) -> Vec<(String, (usize, usize), String)> {
    let told = world.run(&["check", "--json"]).ended(exit).json();
    let problems = if exit == 0 { &told["warnings"] } else { &told["error"]["problems"] };
    let text = |problem: &serde_json::Value, key: &str| problem[key].as_str().unwrap().to_owned();
    let number = |problem: &serde_json::Value, key: &str| usize::try_from(problem[key].as_u64().unwrap()).unwrap();
    let told = |problem: &serde_json::Value| {
        let place = (number(problem, "line"), number(problem, "column"));
        (text(problem, "severity"), place, format!("{}; {}", text(problem, "message"), text(problem, "help")))
    };
    problems.as_array().unwrap().iter().map(told).collect()
}

/// The problems are these, each a severity, what stands at its place, and words of it.
fn tells(world: &World, exit: i32, expected: &[(&str, &str, &[&str])]) {
    let found = problems(world, exit);
    let text = world.text();
    for (severity, what, phrases) in expected {
        let at = place(&text, what);
        let is_it = |(s, p, m): &&(String, (usize, usize), String)| {
            s == severity && *p == at && phrases.iter().all(|phrase| m.contains(phrase))
        };
        assert!(found.iter().any(|found| is_it(&found)), "no {severity} {phrases:?} at {at:?} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

const GLOBEX: &str = r#"
[customers.globex]
role_arn = "arn:aws:iam::210987654321:role/consign-delivery"
external_id = "c0ns1gn-91ab44d0"
bucket = "globex-data"
region = "eu-west-1"
"#;

#[test]
fn check_tells_all_at_once_whatever_else_is_wrong() {
    let config = CUSTOMER.replace("eu-west-1", "eu-west")
        + &dataset("good", "@FLIGHTS@", "")
        + &dataset("bad", "@FLIGHTS@", "select carier, carrier from flights")
        + "\n[plugins.gone]\npath = \"gone.wasm\"\n"
        + &share("a", "good", "csv").replace("0 6", "77 6")
        + &share("b", "bad", "csv")
        + &share("c", "good", "gone")
        + &share("d", "good", "csv")
        + "options = { bomm = true }\n"
        + &share("e", "good", "csv").replace("* * *\"", "* * *\"\nkey = \"{share}/{slot:%Y}/{name}\"");
    tells(
        &World::new(&config),
        3,
        &[
            ("error", "\"eu-west\"", &["not a region code"]),
            ("error", "carier", &["there is no column 'carier'"]),
            ("error", "\"gone.wasm\"", &["cannot read plugin gone"]),
            ("error", "77", &["as its minute"]),
            ("error", "bomm", &["unknown option `bomm`"]),
            ("error", "\"{share}/{slot:%Y}/{name}\"", &["is the same for the slots"]),
        ],
    );
}

#[test]
fn check_and_a_dry_run_make_no_cache() {
    let config = CUSTOMER.to_owned() + &dataset("flights", "@FLIGHTS@", "") + &share("a", "flights", "csv");
    let world = World::new(&config);
    let text = world.text();
    let cache = text.lines().find(|line| line.starts_with("cache_dir")).unwrap();
    world.write("consign.toml", text.replace(cache, "cache_dir = \"none/cache\""));
    world.run(&["check"]).ended(0);
    world.run(&["send", "a", "--dry-run", "out"]).ended(0);
    assert!(!world.path("none").exists(), "what the daemon's user could then not use");
    // Neither is one used that cannot be.
    world.write("none", "a file");
    world.run(&["check"]).ended(0);
}

#[test]
fn looking_needs_no_secret_and_sending_tells_what_is_missing() {
    let config = "[aws]\naccess_key_id = { env = \"NOT_SET\" }\nsecret_access_key = { credential = \"not-there\" }\n"
        .to_owned()
        + CUSTOMER
        + &dataset("flights", "@FLIGHTS@", "")
        + &share("a", "flights", "csv");
    let world = World::new(&config);
    tells(
        &world,
        0,
        &[
            ("warning", "\"NOT_SET\"", &["access_key_id `NOT_SET` is not set in the environment", "EnvironmentFile"]),
            ("warning", "\"not-there\"", &["secret_access_key `not-there`", "LoadCredential=not-there"]),
        ],
    );
    world.run(&["history"]).ended(0);
    world.run(&["send", "a", "--dry-run", "out"]).ended(0);
    let (line, column) = place(&world.text(), "\"NOT_SET\"");
    let at = format!("--> consign.toml:{line}:{column}\n");
    for args in [&["send", "a"][..], &["run"]] {
        world.run(args).ended(3).err_says(&["`NOT_SET` is not set", &at, "^^^^^^^^^", "2 errors"]);
    }
    assert!(!world.path("state").exists());
}

/// Which STS would say of every delivery.
#[test]
fn check_tells_a_prefix_that_no_session_policy_holds() {
    let prefix = format!("\"{}\"", "ж".repeat(250));
    let key = format!("arn:aws:kms:eu-west-1:123456789012:key/{}", "k".repeat(250));
    let config = CUSTOMER.replace("\"uploads/your-team/\"", &prefix)
        + &format!("encryption = {{ kms = \"{key}\" }}\n")
        + GLOBEX
        + "prefix = \"жжж\"\n"
        + &dataset("flights", "@FLIGHTS@", "")
        + &share("a", "flights", "csv");
    let too_long = ["customer 'acme' has 2", "STS takes at most 2048", "shorten the prefix 'жжж", "counts as 6"];
    tells(&World::new(&config), 3, &[("error", &prefix, &too_long)]);
    tells(&World::new(&config.replace(&key, "alias/key")), 0, &[]);
}

#[test]
fn check_plans_for_everyone_who_gets_it() {
    let all = |name: &str, dataset: &str| {
        share(name, dataset, "csv").replace("to = { customers = [\"acme\"] }", "to = { all = true }")
    };
    let config = CUSTOMER.replace("{ carrier", "{ min = 10, carrier")
        + GLOBEX
        + "params = { carrier = 7 }\n"
        + &dataset("flights", "@FLIGHTS@", "select * from flights where distance >= $customer.min")
        + &dataset("numbers", "@FLIGHTS@", "")
            .replace("tenant_column = \"carrier\"", "tenant_column = \"month\"\ntenant_param = \"carrier\"")
        + &dataset("nobodys", "@FLIGHTS@", "select * from flights where dest = $customer.zz")
        + &all("a", "flights")
        + &all("b", "numbers");
    let world = World::new(&config);
    tells(
        &world,
        3,
        &[
            ("error", "params = { carrier = 7 }", &["customer `globex`", "$customer.min", "add `min`"]),
            ("error", "\"UA\"", &["customer `acme`", "tenant column 'month' has the type", "a text that does not fit"]),
            ("error", "$customer.zz", &["the query uses $customer.zz"]),
        ],
    );
    let told = world.run(&["check", "--json"]).ended(3).json();
    let also = told["error"]["problems"].as_array().unwrap().iter().find(|p| !p["also"].as_array().unwrap().is_empty());
    assert_eq!(also.unwrap()["also"][0]["message"], "needed here");
}

#[test]
fn check_looks_for_files() {
    let config = CUSTOMER.replace("{ carrier", "{ folder = \"a\", carrier")
        + GLOBEX
        + "params = { folder = \"b\" }\n"
        + "[datasets.reports]\nfiles = \"reports/{param.folder}/*.pdf\"\n"
        + "[shares.reports]\nschedule = \"0 6 * * *\"\ndataset = \"reports\"\nto = { all = true }\n";
    let world = World::new(&config);
    fs::create_dir_all(world.path("reports/a")).unwrap();
    world.write("reports/a/x.pdf", "%PDF");
    let files = "\"reports/{param.folder}/*.pdf\"";
    tells(&world, 0, &[("warning", files, &["customer `globex`: ", "nothing is at", "reports/b/*.pdf"])]);
    fs::create_dir_all(world.path("reports/b")).unwrap();
    world.write("reports/b/y.pdf", "%PDF");
    tells(&world, 0, &[]);
    let send = |out: &str| world.run(&["send", "reports", "--at", "2026-01-01T06:00:00Z", "--dry-run", out]);
    send("out").ended(0).out_says(&["acme           written  1 file", "x.pdf  4 B  crc64nvme"]);
    // What somebody puts there must not keep the other shares from running.
    world.write("reports/b/_manifest.json", "");
    world.configure("", "*.pdf", "*");
    let files = "\"reports/{param.folder}/*\"";
    tells(&world, 0, &[("warning", files, &["_manifest.json cannot be delivered"])]);
    send("again").ended(1).out_says(&["acme           written  1 file", "globex         FAILED  dataset: "]);
    std::os::unix::fs::symlink(world.path("consign.toml"), world.path("reports/a/link")).unwrap();
    fs::rename(world.path("reports/b/_manifest.json"), world.path("reports/b/m.json")).unwrap();
    tells(&world, 0, &[("warning", files, &["is a link out of"])]);
}

#[test]
fn check_tells_keys_that_come_again() {
    let keyed = |name: &str, schedule: &str, key: &str| {
        share(name, "flights", "csv").replace("0 6 * * *", schedule) + &format!("key = \"{key}\"\n")
    };
    let good = [
        ("0 6 * * *", "{share}/{slot:%Y-%m-%d}/{name}"),
        ("0 6 1 * *", "{share}/{interval_start:%Y-%m}/{name}"),
        ("*/10 * * * *", "{share}/{slot:%Y-%m-%d}/{slot:%H%M}/{name}"),
        ("*/10 * * * * *", "{share}/{slot:%s}/{name}"),
        ("0 0 29 2 *", "{share}/{slot:%Y}/{name}"),
    ];
    let bad = [
        ("*/10 * * * *", "{share}/{slot:%Y %H%M}/{name}", "A"),
        ("0 6,18 * * *", "{share}/{slot:%Y-%m-%d %I%M}/{name}", "B"),
        ("* * * * * *", "{share}/{slot:%Y-%m-%d %H%M}/{name}", "C"),
        ("0 6 * * *", "{share}/{slot:%Y-%W}/{name}", "D"),
        // A local midnight is on one UTC day twice when the clocks change.
        ("0 0 * * *\"\ntimezone = \"Europe/London", "{share}/{slot:%Y_%m_%d}/{name}", "E"),
    ];
    let start = CUSTOMER.to_owned() + &dataset("flights", "@FLIGHTS@", "");
    let with = |shares: Vec<String>| World::new(&(start.clone() + &shares.concat()));
    let shares = good.iter().enumerate().map(|(i, (schedule, key))| keyed(&format!("good{i}"), schedule, key));
    tells(&with(shares.collect()), 0, &[]);
    let shares = bad.iter().map(|(schedule, key, name)| keyed(&name.to_lowercase(), schedule, key));
    let quoted: Vec<String> = bad.iter().map(|(_, key, _)| format!("\"{key}\"")).collect();
    let expected: Vec<(&str, &str, &[&str])> = quoted
        .iter()
        .map(|key| ("error", key.as_str(), &["is the same for the slots", "would overwrite"][..]))
        .collect();
    tells(&with(shares.collect()), 3, &expected);
}

#[test]
fn check_points_into_tables_and_queries() {
    let config = CUSTOMER.to_owned()
        + "[datasets.a]\ntables.one = \"@FLIGHTS@\"\ntables.two = { path = \"two.parquet\" }\nquery = \"select 1\"\n"
        + "[datasets.b]\ntables.t = { path = \"t.csv\", columns = { nope = \"varchar\" } }\n"
        + "[datasets.c]\ntables.t = { path = \"t.csv\", columns = { x = \"tinyblob\" } }\n"
        + "[datasets.d]\ntables.t = { path = \"t.csv\", partitions = [\"day\"] }\n"
        + "[datasets.e]\ntables.flights = \"@FLIGHTS@\"\nquery = \"\"\"\nselect carrier\nfrom flghts\n\"\"\"\n"
        + "[datasets.f]\ntables.flights = \"@FLIGHTS@\"\nquery = 'select carrier frm flights where'\n"
        + "[datasets.g]\ntables.t = \"t.csv\"\nquery = \"select * from t where x > $intervall_start\"\n";
    let world = World::new(&config);
    world.write("t.csv", "x,y\n1,2\n");
    tells(
        &world,
        3,
        &[
            ("warning", "\"two.parquet\"", &["table 'two'", "nothing is at"]),
            ("error", "nope", &["`columns` has 'nope'"]),
            ("error", "\"tinyblob\"", &["`columns` gives 'x'"]),
            ("warning", "[\"day\"]", &["the path has no 'day=…' directory"]),
            ("error", "flghts", &["has no table 'flghts'", "did you mean", "flights"]),
            ("error", "flights where'", &["not valid SQL"]),
            ("error", "$intervall_start", &["did you mean '$interval_start'"]),
        ],
    );
}

#[test]
fn check_tells_an_options_name_and_what_it_takes() {
    let config = CUSTOMER.to_owned()
        + &dataset("flights", "@FLIGHTS@", "")
        + &share("a", "flights", "csv")
        + "options = { header = \"yes\", line_ending = \"cr\" }\n";
    tells(
        &World::new(&config),
        3,
        &[
            (
                "error",
                "\"yes\"",
                &[
                    "option `header` is a string, not true or false",
                    "`header` takes true or false: Whether the first line",
                ],
            ),
            ("error", "\"cr\"", &["option `line_ending` cannot be `cr`", "\"lf\" or \"crlf\""]),
        ],
    );
}

#[test]
fn check_warns_of_a_configuration_without_shares_and_refuses_an_empty_one() {
    let world = World::new("");
    let nothing = ["nothing will be delivered", "config/minimal.toml"];
    world.run(&["check"]).ended(0).err_says(&nothing);
    let daemon = world.daemon();
    let said = [&nothing[..], &["consign is ready"]].concat();
    until("it has said so", SOON, || said.iter().all(|phrase| world.log().contains(phrase)));
    stop(daemon);
    // Cut off while it was written: with it consign would take another ledger, and deliver nothing.
    world.write("consign.toml", "\n");
    for command in ["check", "run"] {
        world.run(&[command]).ended(3).err_says(&["consign.toml:1:1", "the file is empty", "put back what was there"]);
    }
}
