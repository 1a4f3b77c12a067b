//! `consign plugin bench`: the figures are there and fit together.

use serde_json::Value;

use super::Desk;

#[test]
fn a_plugin_is_measured_beside_the_shipped_csv() {
    let desk = Desk::new();
    let said = desk.run(&["bench", "jsonl", "--rows", "10000", "--rounds", "3", "--json"]).ended(0).json();
    assert_eq!((&said["input"]["rows"], &said["input"]["columns"]), (&10_000.into(), &16.into()));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {said}"));
    for (plugin, name) in said["plugins"].as_array().unwrap().iter().zip(["jsonl", "csv"]) {
        assert_eq!(plugin["name"], name);
        assert!(number(&plugin["bytes_out"]) > 1e6);
        let [cpu, rows] = ["cpu_ms", "rows_per_second"].map(|key| {
            let spread = ["lowest", "median", "highest"].map(|which| number(&plugin[key][which]));
            assert!(spread.is_sorted() && spread[0] > 0.0, "{spread:?}");
            spread[1]
        });
        assert!((cpu / 1e3 * rows / 10_000.0 - 1.0).abs() < 1e-6, "{said}");
    }
    let speeds = [0, 1].map(|side| number(&said["plugins"][side]["rows_per_second"]["median"]));
    assert!((number(&said["ratio"]) - speeds[0] / speeds[1]).abs() < 1e-9);
    desk.run(&["bench", "csv", "--rows", "100", "--rounds", "1"]).ended(0).out_says(&[
        "lineitem: 100 rows, 16 columns",
        "ROWS/S",
        "PEAK MEMORY",
        "times the rows a second",
    ]);
}

#[test]
fn rows_and_options_can_be_the_authors_own() {
    let desk = Desk::new();
    desk.write("rows.csv", &format!("id,name\n{}", "1,ann\n".repeat(500)));
    desk.write("options.toml", "header = false\n");
    let args = ["bench", "csv", "--input", "rows.csv", "--options", "options.toml", "--rows", "300", "--json"];
    let said = desk.run(&args).ended(0).json();
    assert_eq!((&said["input"]["rows"], &said["input"]["columns"]), (&300.into(), &2.into()));
    assert_eq!(said["plugins"][0]["bytes_out"], 6 * 300);
    assert_eq!(said["plugins"][1]["bytes_out"], 6 * 300 + 8);
    desk.write("options.toml", "haeder = false\n");
    desk.run(&args[..6]).ended(1).err_says(&["the plugin does not take these options and these columns", "haeder"]);
    desk.run(&["bench", "csv", "--input", "rows.txt"]).ended(1).err_says(&["the format of rows.txt cannot be told"]);
    desk.run(&["bench", "csv", "--rows", "0"]).ended(2);
}
