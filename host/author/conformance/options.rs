//! What a plugin says of itself, and of options that it does not know.

use futures::FutureExt;
use serde_json::{Map, Value, json};

use super::{Check, Finding, Suite, Verdict};
use crate::plugin::{Diagnostic, Severity};

pub static CHECKS: [Check; 3] = [
    Check {
        name: "description",
        wants: "it has a JSON Schema of its options, which are an object",
        remedy: "correct `options-schema` in `describe`: `consign check`, editors and `plugin inspect` go by it",
        run: |suite| description(suite).boxed(),
    },
    Check {
        name: "unknown-option",
        wants: "an option that it does not have is refused by `check`, by name, and by `open`",
        remedy: "compare the options' keys with those you know in both: a misspelt option would do nothing, without a word",
        run: |suite| unknown_option(suite).boxed(),
    },
    Check {
        name: "wrong-option",
        wants: "a value that its schema does not allow is refused by `check` and by `open`",
        remedy: "check each option's type and range, and say what to write instead",
        run: |suite| wrong_option(suite).boxed(),
    },
];

async fn description(suite: &Suite) -> Finding {
    let schema = schema(suite)?;
    if schema.get("type") != Some(&json!("object")) {
        let found = schema.get("type").map_or("no `type`".to_owned(), |kind| format!("`type` {kind}"));
        return Err(Verdict::Failed(format!("it has {found}, and options are an object")));
    }
    let options = schema.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    Ok(if options == 1 { "1 option".into() } else { format!("{options} options") })
}

fn schema(suite: &Suite) -> Result<Value, Verdict> {
    let text = &suite.component.description().options_schema;
    serde_json::from_str(text).map_err(|error| Verdict::Failed(format!("it is not JSON: {error}")))
}

async fn unknown_option(suite: &Suite) -> Finding {
    const NAME: &str = "no_such_option";
    let mut options = given(suite);
    options.insert(NAME.into(), json!(true));
    let said = refused(suite, options, &format!("`{NAME} = true`")).await?;
    let named = said.iter().any(|said| said.path.contains(NAME) || said.message.contains(NAME));
    if !named {
        let said = said.iter().map(|said| said.message.as_str()).collect::<Vec<_>>().join("; ");
        return Err(Verdict::Failed(format!("`check` does not name the option `{NAME}`; it says: {said}")));
    }
    Ok(String::new())
}

async fn wrong_option(suite: &Suite) -> Finding {
    let schema = schema(suite)?;
    let properties = schema.get("properties").and_then(Value::as_object);
    let known: Vec<(&String, &Value)> = properties.into_iter().flatten().collect();
    let mut tried = 0;
    for (name, option) in &known {
        if may_be_object(option, &schema, 0) {
            continue;
        }
        let mut options = given(suite);
        let wrong = json!({ "no": ["such", "value"] });
        let what = format!("`{name} = {wrong}`");
        options.insert((*name).clone(), wrong);
        refused(suite, options, &what).await?;
        tried += 1;
    }
    match tried {
        0 => Err(Verdict::Skipped("by its schema any option may be anything".into())),
        _ => Ok(format!("{tried} of {} options", known.len())),
    }
}

/// Whether a subschema may allow a table. What is not understood may.
fn may_be_object(option: &Value, root: &Value, depth: usize) -> bool {
    let below = |option: &Value| depth > 8 || may_be_object(option, root, depth + 1);
    let list = |key: &str| option.get(key).and_then(Value::as_array);
    if let Some(pointer) = option.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) {
        return root.pointer(pointer).is_none_or(below);
    }
    if let Some(word) = option.get("const") {
        return word.is_object();
    }
    if let Some(words) = list("enum") {
        return words.iter().any(Value::is_object);
    }
    if let Some(kind) = option.get("type") {
        return kind == "object" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"));
    }
    match (list("oneOf").or_else(|| list("anyOf")), list("allOf")) {
        (Some(either), _) => either.iter().any(below),
        (None, Some(all)) => all.iter().all(below),
        (None, None) => true,
    }
}

/// The options that the suite was given.
fn given(suite: &Suite) -> Map<String, Value> {
    serde_json::from_str(&suite.options).unwrap_or_default()
}

/// What `check` says of options that it and `open` have to refuse.
async fn refused(suite: &Suite, options: Map<String, Value>, what: &str) -> Result<Vec<Diagnostic>, Verdict> {
    let options = Value::Object(options).to_string();
    let said = tokio::task::block_in_place(|| suite.component.check(&options, &suite.schema));
    let said = said.map_err(|error| {
        Verdict::Failed(format!("{what}: `check` did not end well: {}", crate::domain::Failure::chain(&error)))
    })?;
    if !said.iter().any(|said| said.severity == Severity::Error) {
        return Err(Verdict::Failed(format!("`check` lets {what} pass")));
    }
    let mut attempt = suite.over(Vec::new());
    attempt.options = options;
    match attempt.run().await.ended {
        Ok(_) => Err(Verdict::Failed(format!("`check` refuses {what}, and `open` takes it"))),
        Err(failed) if failed.cause.is_said() => Ok(said),
        Err(failed) => Err(Verdict::Failed(format!("{what} ends in {}", super::told(&failed)))),
    }
}
