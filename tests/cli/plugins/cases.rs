//! `consign plugin test`, over shipped formats and guests that misbehave.

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UnionArray};
use arrow::datatypes::{DataType, Field, UnionFields};
use arrow::ipc::writer::FileWriter;
use serde_json::{Value, json};

use super::Desk;

const INPUT: &str = "id,name\n1,ann\n2,\"b,b\"\n";

fn simple() -> Desk {
    let desk = Desk::new();
    desk.write("cases/simple/input.csv", INPUT);
    desk
}

#[test]
fn a_case_is_blessed_and_then_holds() {
    let desk = simple();
    let unsaid = ["FAIL", "simple", "nothing says what is expected", "it wrote 1 object", "--bless"];
    desk.run(&["test", "csv"]).ended(1).out_says(&unsaid).out_says(&["0 cases passed, 1 failed"]);
    desk.run(&["test", "csv", "--bless"]).ended(0).out_says(&["bless", "added expected/example.csv (22 B)"]);
    assert_eq!(desk.read("cases/simple/expected/example.csv"), INPUT);
    let passed = desk.run(&["test", "csv"]).ended(0).out_says(&[
        "csv ",
        "pass   simple  2 rows in 1 batch, 1 object of 22 B; ",
        " ms of CPU, ",
        " host calls; ",
        " of memory",
        "1 case passed, 0 failed",
    ]);
    assert_eq!(passed.stderr, "");
    // Nothing has changed, so nothing is written.
    let blessed = desk.run(&["test", "csv", "--bless", "--json"]).ended(0).json();
    assert_eq!((&blessed["cases"][0]["outcome"], &blessed["cases"][0]["changes"]), (&json!("blessed"), &json!([])));
}

#[test]
fn what_differs_is_shown_with_its_line() {
    let desk = simple();
    desk.write("cases/simple/expected/example.csv", "id,name\n1,ann \n2,\"b,b\"\n");
    desk.write("cases/simple/expected/gone.csv", "");
    let said = desk.run(&["test", "csv"]).ended(1).out_says(&[
        "expected/example.csv differs in line 2",
        "     1 id,name␊",
        "-    2 1,ann·␊",
        "+    2 1,ann␊",
        "expected/gone.csv was not written",
    ]);
    assert!(!said.stdout.contains("pass "), "{}", said.stdout);
    let said = desk.run(&["test", "csv", "--json"]).ended(1).json();
    let case = &said["cases"][0];
    assert_eq!((&said["passed"], &said["failed"], &case["outcome"]), (&json!(0), &json!(1), &json!("failed")));
    let kinds: Vec<&str> =
        case["faults"].as_array().unwrap().iter().map(|fault| fault["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["differs", "missing"]);
    assert_eq!(case["faults"][0]["diff"][1], "-    2 1,ann·␊");
    assert_eq!(case["figures"]["rows"], 2);
    assert_eq!(case["objects"][0]["bytes"], 22);

    desk.run(&["test", "csv", "--bless"])
        .ended(0)
        .out_says(&["replaced expected/example.csv", "removed expected/gone.csv"]);
    assert_eq!(desk.names("cases/simple/expected"), ["example.csv"]);
    fs::remove_file(desk.path("cases/simple/expected/example.csv")).unwrap();
    let unexpected = "example.csv (22 B) was written, and is not in expected/";
    desk.run(&["test", "csv"]).ended(1).out_says(&[unexpected]);
}

#[test]
fn binary_objects_are_dumped_where_they_differ() {
    let desk = simple();
    desk.run(&["test", "parquet", "--bless"]).ended(0);
    let path = desk.path("cases/simple/expected/example.parquet");
    let mut bytes = fs::read(&path).unwrap();
    bytes[17] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    desk.run(&["test", "parquet"]).ended(1).out_says(&["differs at byte 17 (0x11)", "- 00000010 ", "+ 00000010 "]);
}

#[test]
fn a_refusal_is_a_result_like_any_other() {
    let desk = simple();
    desk.write("cases/simple/options.toml", "delimiter = \"::\"\n");
    let place =
        ["error: option `delimiter`", "--> cases/simple/options.toml:1:13", "it was refused: error at /delimiter: "];
    desk.run(&["test", "csv"]).ended(1).out_says(&place);
    desk.run(&["test", "csv", "--bless"]).ended(0).out_says(&["added error.txt"]);
    let text = desk.read("cases/simple/error.txt");
    assert!(text.starts_with("error at /delimiter: ") && text.ends_with('\n'), "{text}");
    desk.run(&["test", "csv"]).ended(0).out_says(&["pass   simple"]);

    desk.write("cases/simple/error.txt", "error at /delimiter: something else\n");
    desk.run(&["test", "csv"])
        .ended(1)
        .out_says(&["in other words than error.txt has", "-    1 error at /delimiter: something"]);

    desk.write("cases/simple/options.toml", "delimiter = \";\"\n");
    desk.run(&["test", "csv"]).ended(1).out_says(&["it wrote 1 object, and was to be refused: error at /delimiter"]);
    desk.run(&["test", "csv", "--bless"]).ended(0).out_says(&["added expected/example.csv", "removed error.txt"]);
    assert_eq!(desk.names("cases/simple"), ["expected", "input.csv", "options.toml"]);
    assert_eq!(desk.read("cases/simple/expected/example.csv"), "id;name\n1;ann\n2;b,b\n");
    desk.write("cases/simple/options.toml", "delimiter = \"::\"\n");
    desk.run(&["test", "csv", "--bless"]).ended(0).out_says(&["added error.txt", "removed expected/example.csv"]);
    assert_eq!(desk.names("cases/simple"), ["error.txt", "input.csv", "options.toml"]);
}

#[test]
fn a_case_says_what_is_another_than_usual() {
    let desk = simple();
    desk.write(
        "cases/simple/case.toml",
        r#"
share = "orders"
max_object_size = "16 B"
input = { path = "rows.txt", format = "csv", delimiter = "|", columns = { id = "bigint" } }
query = "select id + 1 as id, $interval_end as at from input where $interval_start < $interval_end order by 1"
slot = 2030-01-01T00:00:00Z
"#,
    );
    desk.write("cases/simple/rows.txt", "id|x\n2|a\n1|b\n");
    desk.run(&["test", "csv", "--bless"]).ended(0);
    assert_eq!(desk.names("cases/simple/expected"), ["orders-00000.csv", "orders-00001.csv"]);
    let first = desk.read("cases/simple/expected/orders-00000.csv");
    assert!(first.starts_with("id,at\n2,2030-01-01") && first.lines().count() == 2, "{first}");

    desk.write("cases/simple/case.toml", "shrae = \"orders\"\nslot = 2030-13-01T00:00:00Z\n");
    desk.run(&["test", "csv"]).ended(1).out_says(&["FAIL   simple", "cases/simple/case.toml:2:"]);
    desk.write("cases/simple/case.toml", "shrae = \"orders\"\ninterval_start = 2024-02-01\n");
    let both = ["unknown key `shrae` in the case", "did you mean `share`?", "after the interval's end"];
    desk.run(&["test", "csv"]).ended(1).out_says(&both);
    desk.write("cases/simple/case.toml", "query = \"select nope from input\"\n");
    desk.run(&["test", "csv"]).ended(1).out_says(&["dataset: ", "nope"]);
}

#[test]
fn cases_are_chosen_by_name_and_say_what_they_lack() {
    let desk = simple();
    desk.write("cases/none/options.toml", "");
    desk.write("cases/two/input.csv", INPUT);
    desk.write("cases/two/input.jsonl", "{}");
    desk.write("cases/both/input.csv", INPUT);
    desk.write("cases/both/error.txt", "no");
    desk.write("cases/both/expected/x", "");
    desk.run(&["test", "csv", "--bless", "cases/simple/"]).ended(0).out_says(&["1 case blessed"]);
    desk.run(&["test", "csv"]).ended(1).out_says(&[
        "there is no input: put the rows into input.parquet",
        "there are several inputs: input.csv, input.jsonl",
        "there are error.txt and expected/",
        "pass   simple",
        "1 case passed, 3 failed",
    ]);
    desk.run(&["test", "csv", "smiple"]).ended(1).err_says(&["there is no case 'smiple'", "did you mean 'simple'?"]);
    desk.run(&["test", "csv", "--limits", "memroy=1 MiB"]).ended(2).err_says(&["did you mean `memory`?"]);
}

#[test]
fn a_trap_fails_with_its_frames_and_a_core_dump_and_is_never_blessed() {
    let desk = Desk::with_guest("hostile");
    desk.write("cases/panic/input.csv", INPUT);
    desk.write("cases/panic/options.toml", "behaviour = \"panic\"\n");
    desk.run(&["test", "hostile.wasm", "--bless", "--coredump", "dumps"]).ended(1).out_says(&[
        "FAIL   panic",
        "it was refused: panic: panicked at ",
        "the guest gives up on batch 0",
        "at batch 1",
        "in consign:format/formatter@1.0.0#[method]formatter.write",
        "its last lines on stderr:",
        "core dump: dumps/panic.coredump",
    ]);
    assert_eq!(desk.names("cases/panic"), ["input.csv", "options.toml"]);
    let dump = fs::read(desk.path("dumps/panic.coredump")).unwrap();
    assert!(dump.starts_with(b"\0asm\x01\0\0\0"), "not a module");
    assert!(dump.windows(9).any(|bytes| bytes == b"corestack"), "no core dump");
}

#[test]
fn limits_hold_and_a_profile_tells_where_the_time_went() {
    let desk = Desk::with_guest("hostile");
    desk.write("cases/memory/input.csv", INPUT);
    desk.write("cases/memory/options.toml", "behaviour = \"memory_bomb\"\n");
    desk.write("cases/time/input.csv", INPUT);
    desk.write("cases/time/options.toml", "behaviour = \"endless_loop\"\n");
    let args = ["test", "hostile.wasm", "--limits", "memory=32 MiB", "--limits", "cpu_time=300ms", "--profile", "p"];
    desk.run(&args).ended(1).out_says(&[
        "memory: wanted ",
        "its limit is 32.0 MiB",
        "CPU time: used up its 300ms of CPU time",
        "profile: p/time.json",
        "%  guest_hostile::endless_loop",
    ]);
    let profile: serde_json::Value = serde_json::from_str(&desk.read("p/time.json")).unwrap();
    assert!(!profile["threads"][0]["samples"]["stack"].as_array().unwrap().is_empty());
    let folded = desk.read("p/time.folded");
    let hot = folded.lines().find(|line| line.contains("endless_loop")).unwrap();
    let micros: u64 = hot.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(micros > 0, "{folded}");
}

#[test]
fn what_cases_write_can_be_kept() {
    let desk = simple();
    desk.run(&["test", "jsonl", "--output", "out"]).ended(1);
    assert_eq!(desk.read("out/simple/example.jsonl"), "{\"id\":1,\"name\":\"ann\"}\n{\"id\":2,\"name\":\"b,b\"}\n");
}

/// The one thing that a process of its own cannot be handed is refused as a daemon would refuse it.
#[test]
fn a_union_is_refused_where_a_daemon_would_refuse_it() {
    let desk = Desk::with_guest("echo");
    desk.write("cases/union/options.toml", "");
    let members = [Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![Some(7), None])), Arc::new(StringArray::from(vec![None, Some("seven")]))];
    let union = UnionArray::try_new(UnionFields::from_fields(members), vec![0_i8, 1].into(), None, columns).unwrap();
    let batch = RecordBatch::try_from_iter([("either", Arc::new(union) as ArrayRef)]).unwrap();
    let file = fs::File::create(desk.path("cases/union/input.arrow")).unwrap();
    let mut writer = FileWriter::try_new(file, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    desk.run(&["test", "echo.wasm"]).ended(1).out_says(&["it was refused: error: column", "has a union in it"]);
    desk.run(&["test", "echo.wasm", "--isolation", "in-process"]).ended(1).out_says(&["it wrote 2 objects"]);
}

/// What is seen of a run does not hang on where it runs.
#[test]
fn figures_are_the_same_in_a_process_of_its_own() {
    let desk = Desk::with_guest("hostile");
    desk.write("cases/good/input.csv", INPUT);
    desk.write("cases/good/options.toml", "behaviour = \"none\"\n");
    desk.write("cases/trap/input.csv", INPUT);
    desk.write("cases/trap/options.toml", "behaviour = \"panic\"\n");
    let told =
        |isolation: &str| desk.run(&["test", "hostile.wasm", "--json", "--isolation", isolation]).ended(1).json();
    let [within, walled] = ["in-process", "process"].map(told);
    for case in 0..2 {
        let [within, walled] = [&within, &walled].map(|said| &said["cases"][case]);
        for figure in ["rows", "batches", "objects", "bytes", "peak_memory_bytes", "host_calls"] {
            assert_eq!(within["figures"][figure], walled["figures"][figure], "{figure} of {walled:#}");
        }
        // The panic comes before any call.
        let calls = (case == 0).then_some("host_calls");
        for figure in ["peak_memory_bytes", "cpu_ms", "batches"].into_iter().chain(calls) {
            let value = &walled["figures"][figure];
            assert!(value.as_f64().is_some_and(|value| value > 0.0), "{figure} of {walled:#}");
        }
        assert_eq!(within["faults"], walled["faults"]);
    }
    assert_ne!(walled["cases"][1]["faults"][0]["frames"], Value::Array(Vec::new()));
}
