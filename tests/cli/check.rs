//! `consign check`: good is said, and all that is bad at once, each with its place.

use std::fs;

use chrono::{DateTime, Timelike as _, Utc};

use super::world::{World, checkout, consign, demo, says};

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

    let told = world.run(&["check", "--json"]).ended(3).json();
    let problems = told["problems"].as_array().unwrap();
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
    let (line, column) = place(&world.text(), "\"61 6 * * *\"");
    let place = format!("--> consign.toml:{line}:{column}\n");
    world.run(&["check"]).ended(3).err_says(&["61", &place, "^^^^^^^^^^^^", "1 error in the configuration"]);
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
    let problems = told["problems"].as_array().unwrap();
    let text = world.text();
    let truncated = world.path("truncated.parquet");
    let mistakes: [(&str, &[&str]); 12] = [
        ("\"select carier", &["dataset 'no-column'", "there is no column 'carier'", "did you mean 'carrier'?"]),
        ("\"selec carrier", &["dataset 'no-sql'", "not valid SQL", "Line: 1, Column: 1"]),
        ("\"select * from flights where", &["dataset 'no-param'", "the query uses $customer.dest"]),
        ("\"truncated.parquet\"", &["dataset 'truncated'", truncated.to_str().unwrap(), "malformed Parquet"]),
        ("\"gone/*.parquet\"", &["dataset 'nowhere'", "nothing is at", "gone/*.parquet"]),
        ("\"garbage.wasm\"", &["plugin garbage is not a WebAssembly component", "does not begin with"]),
        ("\"core.wasm\"", &["plugin core is not a WebAssembly component", "core module", "wasm32-wasip2"]),
        ("\"pinned.wasm\"", &["plugin pinned", "has the sha256", "0000 is pinned"]),
        ("\"gone.wasm\"", &["cannot read plugin gone", "No such file"]),
        ("nul =", &["unknown option `nul`", "did you mean `null`?"]),
        ("\"1\"", &["write one ASCII character"]),
        ("select flight from", &["dataset 'no-tenant'", "no column 'carrier', the tenant column", "it has flight"]),
    ];
    for (what, phrases) in mistakes {
        let is_it = |message: &str| phrases.iter().all(|phrase| message.contains(phrase));
        let found: Vec<_> = problems.iter().filter(|p| p["message"].as_str().is_some_and(is_it)).collect();
        let [problem] = found.as_slice() else { panic!("{phrases:?} is {} times in {told:#}", found.len()) };
        let line = place(&text, what).0;
        // The tenant column is on the next line.
        let line = if what == "select flight from" { line + 1 } else { line };
        assert_eq!(problem["line"], line, "{problem}");
        let message = problem["message"].as_str().unwrap();
        assert_eq!(message.matches("not a WebAssembly").count(), usize::from(message.contains("WebAssembly")));
    }
    assert_eq!(problems.len(), mistakes.len(), "{told:#}");
    let shown = world.run(&["check"]).ended(3);
    says(&shown.stderr, &["12 errors in the configuration", "^^^^^^", "-->", "= help: "]);
}
