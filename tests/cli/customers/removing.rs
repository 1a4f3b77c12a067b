//! `remove`.

use super::*;

#[test]
fn a_customer_goes_with_its_file_and_the_rest_stays() {
    let world = vendor();
    world.run(&SOUTHWEST).ended(0);
    let before = profiles(&world);
    world.run(&["customer", "remove", "southwest", "--dry-run"]).ended(0).out_says(&["would be removed from"]);
    assert_eq!(profiles(&world), before);
    world.run(&["customer", "remove", "southwest"]).ended(0).out_says(&[
        "customer southwest is removed from customers.d/southwest.toml",
        "share flights went to it by group airlines",
        "the role arn:aws:iam::100000000002:role/consign-southwest",
        "8 days later, in bucket southwest-lake: the lifecycle rule consign-southwest",
        "what was delivered stays: s3://southwest-lake/consign/southwest/",
    ]);
    assert!(!world.path("customers.d/southwest.toml").exists());
    world.run(&["check", "--quiet"]).ended(0);
    // The last one of a share's group is somebody that a share names.
    world
        .run(&["customer", "remove", "united"])
        .ended(3)
        .err_says(&["no customer is in the group", "nothing is written"]);
    assert!(world.path("customers.d/united.toml").exists());
    world.run(&["customer", "remove", "nobody"]).ended(1).err_says(&["there is no customer 'nobody'"]);
}

#[test]
fn a_share_that_names_it_is_told_and_changed_only_when_asked() {
    let config = SHARE.replace(
        "to = { groups = [\"airlines\"] }",
        "# The two of them.\nto = { customers = [\"southwest\", \"united\"] } # for now",
    );
    let world =
        World::new(&format!("{config}{UNITED}# Who came later.\n\n# Signed in May.\n{}# The end.\n", southwest()));
    let before = world.text();
    world
        .run(&["customer", "remove", "southwest"])
        .ended(1)
        .err_says(&["1 share names customer southwest: flights (consign.toml:"]);
    assert_eq!(world.text(), before);
    let said = world.run(&["customer", "remove", "southwest", "--force", "--json"]).ended(0).json();
    assert_eq!(said["left_out_of"][0], "flights");
    let profile = southwest();
    let wanted = before
        .replace("[\"southwest\", \"united\"]", "[\"united\"]")
        .replace(&format!("# Signed in May.\n{profile}"), "");
    let same = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(same(&world.text()), same(&wanted));
    world.run(&["check", "--quiet"]).ended(0);
    // Then the share would go to nobody.
    let now = world.text();
    world.run(&["customer", "remove", "united", "--force"]).ended(3).err_says(&["goes to nobody"]);
    assert_eq!(world.text(), now);
}

fn southwest() -> String {
    UNITED.split_once("# Signed in March.\n").unwrap().1.replace("united", "southwest").replace("UA", "WN")
}
