//! `list` and `show`.

use super::*;

#[test]
fn customers_are_listed_with_what_goes_to_them() {
    let world = vendor();
    world.run(&SOUTHWEST).ended(0);
    world.run(&["customer", "list"]).ended(0).out_says(&[
        "CUSTOMER   ACCOUNT       BUCKET          REGION     PREFIX              GROUPS    SHARES   EXTERNAL ID",
        "southwest  100000000002  southwest-lake  us-west-2  consign/southwest/  airlines  flights  yes",
        "united     100000000001  united-data     us-east-1  in/                 airlines  flights  yes",
    ]);
    let listed = world.run(&["customer", "list", "--json"]).ended(0).json();
    assert_eq!((&listed[1]["customer"], &listed[1]["shares"][0]), (&"united".into(), &"flights".into()));
    let empty = World::new("");
    empty.run(&["customer", "list"]).ended(0).out_says(&["no customers yet"]);
}

#[test]
fn a_customer_is_shown_with_its_last_deliveries() {
    let world = vendor();
    world.run(&["customer", "show", "united"]).ended(0).out_says(&[
        "customer     united  (customers.d/united.toml:4)",
        "role         arn:aws:iam::100000000001:role/flight-data",
        "writes to    s3://united-data/in/ in us-east-1",
        "param        carrier = \"UA\"",
        "flights  0 0 1 1 * America/New_York  by group airlines",
        "nothing was delivered to it yet",
    ]);
    let (_sandbox, endpoint) = {
        let pack = world.run(&["customer", "pack", "united", "--vendor", "999999999999", "--json"]).ended(0).json();
        sandbox(&world, &set_up(&pack))
    };
    at(&world, &endpoint);
    world.run(&["send", "flights", "--at", SLOT]).ended(0);
    world.run(&["customer", "show", "united"]).ended(0).out_says(&[
        "last deliveries",
        SLOT,
        "committed",
        "58,665 rows",
    ]);
    let shown = world.run(&["customer", "show", "united", "--json"]).ended(0).json();
    assert_eq!((&shown["line"], &shown["deliveries"][0]["rows"]), (&4.into(), &58_665.into()));

    world
        .run(&["customer", "show", "untied"])
        .ended(1)
        .err_says(&["there is no customer 'untied'", "did you mean 'united'?"]);
    // A ledger that cannot be read is no reason not to tell the rest.
    fs::write(world.path("state/ledger.db"), "not a database, and long enough to be seen as none").unwrap();
    let said = world.run(&["customer", "show", "united"]).ended(0);
    said.out_says(&["s3://united-data/in/"]).err_says(&["its deliveries are not known"]);
}
