//! `rotate-external-id`: at no moment is a delivery refused.

use super::*;

const VENDOR: [&str; 2] = ["--vendor", "999999999999"];

fn rotate(world: &World, more: &[&str]) -> super::super::world::Ran {
    world.run(&[&["customer", "rotate-external-id", "united"], &VENDOR[..], more].concat())
}

fn pack(world: &World) -> Value {
    world.run(&[&["customer", "pack", "united", "--json"], &VENDOR[..]].concat()).ended(0).json()
}

fn delivers(world: &World, year: u32) {
    world.run(&["send", "flights", "--at", &format!("{year}-01-01T05:00:00Z")]).ended(0);
}

#[test]
fn rotating_fails_no_delivery() {
    let world = vendor();
    let before = profiles(&world);
    let old = pack(&world);
    let (first, endpoint) = sandbox(&world, &set_up(&old));
    at(&world, &endpoint);

    // The first step: the profile has both, deliveries go on with the old one.
    let begun = rotate(&world, &["--json"]).ended(0).json();
    let next = begun["next_external_id"].as_str().unwrap();
    assert_eq!(begun["external_id"], "demo-1f0c-united");
    let ids = &begun["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"];
    assert_eq!(*ids, serde_json::json!(["demo-1f0c-united", next]));
    let both = pack(&world);
    assert_eq!(both["trust_policy"], begun["trust_policy"]);
    delivers(&world, 2014);
    // Said again it is the same again.
    let again = rotate(&world, &["--json"]).ended(0).json();
    assert_eq!((&again["changed"], &again["next_external_id"]), (&false.into(), &next.into()));
    rotate(&world, &[]).ended(0).out_says(&["it takes both IDs", "\"sts:ExternalId\": [", "--finish"]);
    world.run(&["customer", "list"]).ended(0).out_says(&["changing"]);

    // The customer has not done its part: nothing changes.
    let pending = profiles(&world);
    rotate(&world, &["--finish"]).ended(1).err_says(&[
        "nothing is changed",
        "trust policy",
        "has to accept both IDs first",
    ]);
    assert_eq!(profiles(&world), pending);
    delivers(&world, 2015);
    drop(first);

    // It has: the old one is good until the moment of the change, and the new one from then on.
    let (second, endpoint) = sandbox(&world, &set_up(&both));
    at(&world, &endpoint);
    delivers(&world, 2016);
    rotate(&world, &["--finish"])
        .ended(0)
        .out_says(&[&format!("the external ID of united is {next}"), "consign reload"]);
    delivers(&world, 2017);
    drop(second);

    // And the old one is taken out of the trust policy.
    let new = pack(&world);
    assert_eq!(new["external_id"], next);
    assert_eq!(new["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"], next);
    let (_third, endpoint) = sandbox(&world, &set_up(&new));
    at(&world, &endpoint);
    delivers(&world, 2018);
    let changed = &profiles(&world)[1];
    assert_eq!(changed.0, "united.toml");
    assert_eq!(changed.1, before[1].1.replace("demo-1f0c-united", next), "nothing else in the file changes");
}

#[test]
fn a_rotation_can_be_given_up() {
    let world = vendor();
    let before = profiles(&world);
    rotate(&world, &["--finish"]).ended(1).err_says(&["has no next external ID"]);
    rotate(&world, &[]).ended(0);
    rotate(&world, &["--abandon"]).ended(0).out_says(&["keeps its external ID"]);
    assert_eq!(profiles(&world), before);
    rotate(&world, &["--finish", "--abandon"]).ended(2);
}

/// An ID that has to go does not wait until all else is in order.
#[test]
fn an_error_elsewhere_keeps_no_id_from_being_changed() {
    let world = vendor();
    world.write("customers.d/broken.toml", "[customers.broken]\nrole_arn = \"arn\"\n");
    let begun = rotate(&world, &["--json"]).ended(0).json();
    let next = begun["next_external_id"].as_str().unwrap();
    rotate(&world, &["--finish", "--untried"]).ended(0).out_says(&["was not tried", next]);
    rotate(&world, &[]).ended(0);
    rotate(&world, &["--abandon"]).ended(0);
    let rotated = |name| world.run(&[&["customer", "rotate-external-id", name], &VENDOR[..]].concat());
    rotated("untied").ended(1).err_says(&["there is no customer 'untied'", "did you mean 'united'?"]);
    rotated("broken").ended(3).err_says(&["the profile of customer 'broken' has an error in it"]);
    world.run(&["check"]).ended(3);
    fs::remove_file(world.path("customers.d/broken.toml")).unwrap();
    world.run(&["check", "--quiet"]).ended(0);
}

/// Who had none gets one in the same way.
#[test]
fn a_role_that_asks_for_none_gets_one() {
    let world = vendor();
    let open = UNITED.replace("external_id = \"demo-1f0c-united\"", "allow_missing_external_id = true");
    world.write("customers.d/united.toml", &open);
    let begun = rotate(&world, &["--json"]).ended(0).json();
    let next = begun["next_external_id"].as_str().unwrap();
    assert!(begun["trust_policy"]["Statement"][0]["Condition"].is_null());
    rotate(&world, &["--finish", "--untried"]).ended(0).out_says(&["was not tried", next]);
    let text = fs::read_to_string(world.path("customers.d/united.toml")).unwrap();
    assert!(text.contains(&format!("external_id = \"{next}\"")) && !text.contains("allow_missing"), "{text}");
    world.run(&["check", "--quiet"]).ended(0);
}

#[test]
fn an_id_that_is_taken_is_refused() {
    let world = vendor();
    world.run(&SOUTHWEST).ended(0);
    let text = fs::read_to_string(world.path("customers.d/southwest.toml")).unwrap();
    world.write("customers.d/southwest.toml", format!("{text}next_external_id = \"demo-1f0c-united\"\n"));
    world.run(&["check"]).ended(3).err_says(&["customers `southwest` and `united` have the same external ID"]);
    world.write("customers.d/southwest.toml", text);
    world.write("customers.d/united.toml", format!("{UNITED}next_external_id = \"demo-1f0c-united\"\n"));
    world.run(&["check"]).ended(3).err_says(&["`next_external_id` of customer `united` is the one that it has"]);
}
