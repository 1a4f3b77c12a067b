//! Many profiles, from a list.

use super::*;

const LIST: &str = "\u{feff}Customer Name;Role ARN;S3 Bucket Name;AWS Region;Prefix;Group Tags;params.carrier;params.id;CRM no\r\n\
    southwest;arn:aws:iam::100000000002:role/theirs;southwest-lake;us-west-2;partners/aa;airlines,west;WN;42_7;17\r\n\
    \"delta\";arn:aws:iam::100000000003:role/x/y;delta-data;us-east-1;;airlines;DL;;\r\n\r\n";

#[test]
fn a_spreadsheet_becomes_profiles() {
    let world = vendor();
    world.write("list.csv", LIST);
    let args = ["customer", "add", "--from", "list.csv", "--ignore", "CRM no"];
    let said = world.run(&[&args[..], &["--dry-run", "--json"]].concat()).ended(0).json();
    assert_eq!((said["written"].as_bool(), said["customers"].as_array().unwrap().len()), (Some(false), 2));
    assert_eq!(profiles(&world).len(), 2);
    world.run(&args).ended(0).out_says(&["southwest", "c0ns1gn-", "customers.d/delta.toml", "2 customers added"]);
    let southwest = world.run(&["customer", "show", "southwest", "--json"]).ended(0).json();
    let profile = &southwest["profile"];
    assert_eq!(profile["role_arn"], "arn:aws:iam::100000000002:role/theirs");
    assert_eq!((&profile["prefix"], &profile["region"]), (&"partners/aa/".into(), &"us-west-2".into()));
    assert_eq!(profile["groups"], serde_json::json!(["airlines", "west"]));
    assert_eq!(profile["params"], serde_json::json!({ "carrier": "WN", "id": "42_7" }));
    let delta = world.run(&["customer", "show", "delta", "--json"]).ended(0).json();
    assert_eq!(delta["profile"]["prefix"], "consign/delta/");
    assert!(delta["profile"]["external_id"] != profile["external_id"]);
    world.run(&["check", "--quiet"]).ended(0);

    // Once more changes nothing, also when it was cut off the first time.
    let ids = profiles(&world);
    fs::remove_file(world.path("customers.d/delta.toml")).unwrap();
    world.run(&args).ended(0).out_says(&["1 customer added, 1 was there already"]);
    assert_eq!(profiles(&world)[2], ids[2]);
    world.run(&args).ended(0).out_says(&["0 customers added, 2 were there already"]);
}

#[test]
fn every_mistake_is_told_where_it_is() {
    let world = vendor();
    let before = profiles(&world);
    world.write(
        "list.csv",
        "name,role arn,bucket,region,carier,external id,params.carrier\n\
         Acme Corp,arn:aws:iam::100000000002:role/r,acme-data,us-east-1,,,AC\n\
         delta,arn:aws:iam::100000000003:user/u,delta_data,us-east-1,x,mine,DL\n\
         united,arn:aws:iam::100000000001:role/r,other-data,us-east-1,,,UA\n\
         jet,arn:aws:iam::100000000005:role/r,,mars,,,B6\n\
         jet,arn:aws:iam::100000000006:role/r,jet-data,eu-west-1,,,B6\n\
         ,arn:aws:iam::100000000007:role/r,seven-data,eu-west-1,,,WN\n",
    );
    let said = world.run(&["customer", "add", "--from", "list.csv"]).ended(3).err_says(&[
        "unknown column `carier`",
        "--ignore 'carier'",
        "list.csv:1:29",
        "warning: the external IDs of the list are taken as they are",
        "--ignore 'external id'",
        "the name `Acme Corp` has a character that names cannot have",
        "write \"acme-corp\"",
        "list.csv:2:1",
        "names no role",
        "list.csv:3:7",
        "`delta_data`",
        "list.csv:3:40",
        "there is a customer 'united' already",
        "list.csv:4:1",
        "customer `jet` has no `bucket`",
        "`mars`",
        "customer `jet` is in the list twice",
        "this customer has no name",
        "nothing is written",
    ]);
    assert!(!said.stderr.contains("customers.d/jet.toml"), "{}", said.stderr);
    assert_eq!(profiles(&world), before);
    let told = world.run(&["customer", "add", "--from", "list.csv", "--json"]).ended(3).json();
    let problems = told["error"]["problems"].as_array().unwrap();
    let files: Vec<&Value> = problems.iter().map(|problem| &problem["file"]).collect();
    assert!(files.iter().all(|file| *file == "list.csv"), "{problems:?}");
    assert!(
        problems.iter().any(|problem| (&problem["line"], &problem["column"]) == (&3.into(), &7.into())),
        "{problems:?}"
    );
}

/// Roles that ask for the vendor's own IDs already go on to.
#[test]
fn external_ids_that_the_vendor_has_made_before_are_taken() {
    let world = vendor();
    let list = |first: &str, second: &str| {
        format!(
            "name,account,bucket,region,external id,groups,params.carrier\n\
             a,100000000002,a-data,us-east-1,{first},airlines,WN\nb,100000000003,b-data,us-east-1,{second},airlines,B6\n"
        )
    };
    world.write("list.csv", list("ours-of-a", "ours-of-a"));
    let twice = world.run(&["customer", "add", "--from", "list.csv"]).ended(3);
    twice.err_says(&["have the same external ID", "list.csv:3:33", "nothing is written"]);
    world.write("list.csv", list("ours-of-a", ""));
    let added = world.run(&["customer", "add", "--from", "list.csv"]).ended(0).out_says(&["2 customers added"]);
    added.err_says(&["warning: the external IDs of the list are taken as they are", "list.csv:1:28"]);
    let id = |customer: &str| {
        let shown = world.run(&["customer", "show", customer, "--json"]).ended(0).json();
        shown["profile"]["external_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id("a"), "ours-of-a");
    assert!(id("b").starts_with("c0ns1gn-"), "an empty cell says nothing");
    world.run(&["customer", "add", "--from", "list.csv"]).ended(0).out_says(&["0 customers added, 2 were there"]);
    world.write("list.csv", list("another-id", ""));
    world.run(&["customer", "add", "--from", "list.csv"]).ended(3).err_says(&["there is a customer 'a' already"]);
    let one = ["customer", "add", "c", "--account", "100000000004", "--bucket", "c-data", "--region", "us-east-1"];
    world
        .run(&[&one[..], &["--groups", "airlines", "--param", "carrier=AA", "--external-id", "ours-of-c"]].concat())
        .ended(0);
    assert_eq!(id("c"), "ours-of-c");
}

/// What shows only beside others is told of the cell, too.
#[test]
fn mistakes_between_customers_are_told_of_the_list() {
    let world = vendor();
    world.write(
        "list.csv",
        "name,account,bucket,region,prefix,groups\n\
         a,100000000002,shared-data,us-east-1,in/,\n\
         b,100000000002,shared-data,us-east-1,in/b/,\n\
         c,100000000003,c-data,us-east-1,,airlines\n",
    );
    let said = world.run(&["customer", "add", "--from", "list.csv"]).ended(3);
    let said = said.err_says(&["`in/` and `in/b/` overlap", "list.csv:3:38", "list.csv:4:1", "has no param `carrier`"]);
    assert!(!said.stderr.contains("customers.d/"), "{}", said.stderr);
}

#[test]
fn json_is_read_as_it_is_typed() {
    let world = vendor();
    let list = r#"{
      "customers": [
        { "name": "southwest", "roleArn": "arn:aws:iam::100000000002:role/r", "bucketName": "southwest-lake",
          "awsRegion": "us-west-2", "prefix": "in/", "groups": ["airlines"],
          "params": { "carrier": "WN", "code": "42", "ids": [1, 2] } }
      ]
    }"#;
    world.write("list.json", list);
    world.run(&["customer", "add", "--from", "list.json"]).ended(0);
    let shown = world.run(&["customer", "show", "southwest", "--json"]).ended(0).json();
    assert_eq!(shown["profile"]["params"], serde_json::json!({ "carrier": "WN", "code": "42", "ids": [1, 2] }));
    fs::remove_file(world.path("customers.d/southwest.toml")).unwrap();

    world.write(
        "list.json",
        list.replace("us-west-2", "nowhere").replace("\"code\": \"42\"", "\"code\": {\"x\": null}"),
    );
    let said = world.run(&["customer", "add", "--from", "list.json"]).ended(3);
    said.err_says(&["`nowhere`", "list.json:4:24"]);
    // Two tenants' ids would become one.
    world.write("list.json", list.replace("\"42\"", "12345678901234567891"));
    let said = world.run(&["customer", "add", "--from", "list.json"]).ended(3);
    said.err_says(&["this is no value for queries", "write text"]);
    world.write("list.json", "[ {\"name\": } ]");
    world.run(&["customer", "add", "--from", "list.json"]).ended(3).err_says(&["is not JSON", "list.json:1:12"]);
    world.write("list.json", r#"{ "acme": 7 }"#);
    world.run(&["customer", "add", "--from", "list.json"]).ended(3).err_says(&["this is no customer"]);
    assert_eq!(profiles(&world).len(), 2);
}

/// What is there and differs is not there already.
#[test]
fn a_list_that_says_something_else_of_who_is_there_is_refused() {
    let world = vendor();
    let list = |more: &str, groups: &str| {
        format!(
            "name,role_arn,bucket,region,prefix,params.carrier,encryption,storage_class,acl,groups\n\
             united,arn:aws:iam::100000000001:role/flight-data,united-data,us-east-1,in/,UA,{more},{groups}\n"
        )
    };
    let import = |list: &str| {
        world.write("list.csv", list);
        world.run(&["customer", "add", "--from", "list.csv"])
    };
    import(&list(",,", "airlines")).ended(0).out_says(&["1 was there already"]);
    let whole =
        "encryption = { kms = \"alias/k\" }\nstorage_class = \"STANDARD_IA\"\nacl = \"bucket-owner-full-control\"\n";
    world.write("customers.d/united.toml", format!("{UNITED}{whole}"));
    let alike = "alias/k,STANDARD_IA,bucket-owner-full-control";
    import(&list(alike, "airlines")).ended(0).out_says(&["1 was there already"]);
    import(&list(",,", "airlines")).ended(0).out_says(&["1 was there already"]);
    for (more, groups) in
        [("kms,,", "airlines"), ("s3,,", "airlines"), (",GLACIER,", "airlines"), (alike, "airlines west"), (alike, "")]
    {
        // A list of whom no cell says a group has no such column.
        let other = "southwest,arn:aws:iam::100000000002:role/r,southwest-lake,us-west-2,,WN,,,,airlines\n";
        import(&format!("{}{other}", list(more, groups)))
            .ended(3)
            .err_says(&["there is a customer 'united' already", "list.csv:2:1"]);
    }
    world.write("customers.d/united.toml", UNITED);
    import(&list(",,bucket-owner-full-control", "airlines")).ended(3).err_says(&["'united' already"]);
    // Of JSON each customer says for itself whether it has groups.
    let json = |groups: &str| {
        let list = format!(
            r#"[{{"name": "united", "account": "100000000001", "role_arn": "arn:aws:iam::100000000001:role/flight-data",
                 "bucket": "united-data", "region": "us-east-1", "prefix": "in/"{groups}}}]"#
        );
        // As some editors save it.
        world.write("list.json", format!("\u{feff}{list}"));
        world.run(&["customer", "add", "--from", "list.json"])
    };
    json("").ended(0).out_says(&["1 was there already"]);
    json(r#", "groups": []"#).ended(3).err_says(&["'united' already", "list.json:1:11"]);
}

/// A customer or a value is never dropped without a word.
#[test]
fn what_would_vanish_from_a_list_is_told() {
    let world = vendor();
    let before = profiles(&world);
    let row = |name: &str| format!("{name},arn:aws:iam::100000000002:role/r,{name}-data,us-west-2,WN");
    let refused = |list: String, says: &[&str]| {
        world.write("list.csv", list);
        world.run(&["customer", "add", "--from", "list.csv", "--ignore", "note"]).ended(3).err_says(says);
    };
    let head = "role arn,bucket,region,params.carrier";
    refused(
        format!("name,{head},note\n{},\"oops\n{},fine\n", row("one"), row("two")),
        &["the quote that begins here is never closed", "list.csv:2:"],
    );
    refused(
        format!("customer,{head},tenant\n{},other\n,{},two\n", row("one"), &row("two")[4..]),
        &["columns `customer` and `tenant` both say `name`", "--ignore 'tenant'", "list.csv:1:"],
    );
    refused(
        format!("name,{head},groups,group tag\n{},airlines,west\n", row("one")),
        &["columns `groups` and `group tag` both say `groups`"],
    );
    refused(
        format!("name,{head},param carrier\n{},AA\n", row("one")),
        &["columns `params.carrier` and `param carrier` both say `params.carrier`"],
    );
    let json = |more: &str| {
        let list = format!(
            r#"{{"one": {{"role_arn": "arn:aws:iam::100000000002:role/r", "bucket": "one-data", "region": "us-west-2"{more}}}}}"#
        );
        world.write("list.json", list);
        world.run(&["customer", "add", "--from", "list.json", "--dry-run"])
    };
    json(r#", "name": "one""#).ended(0);
    for (more, said) in [
        (r#", "name": "two""#, "`name` is said twice"),
        (r#", "groups": ["airlines"], "group": "west""#, "`groups` is said twice"),
        (r#", "params": {"x": 1}, "params.x": 2"#, "`params.x` is said twice"),
        (r#", "bucket": "two-data""#, "`bucket` is said twice"),
    ] {
        json(more).ended(3).err_says(&[said]);
    }
    assert_eq!(profiles(&world), before);
}

#[test]
fn lists_that_are_none_are_refused() {
    let world = vendor();
    for (text, said) in [
        (&b""[..], "the list is empty"),
        (b"name,bucket\n", "there is no customer in the list"),
        (b"name,bucket\na,b,c\n", "more cells than the 2 headings"),
        (b"name,bucket\n\xe9,b\n", "not UTF-8 in line 2"),
    ] {
        world.write("list.csv", text);
        let ran = world.run(&["customer", "add", "--from", "list.csv"]);
        assert!(ran.code == 3 || ran.code == 1, "{ran:?}");
        ran.err_says(&[said]);
    }
    world.run(&["customer", "add", "--from", "gone.csv"]).ended(1).err_says(&["cannot read gone.csv"]);
    world.run(&["customer", "add", "x", "--from", "list.csv"]).ended(2);
    assert_eq!(profiles(&world).len(), 2);
}

/// The lists of the documentation are lists.
#[test]
fn the_documents_own_lists_are_read() {
    let document = fs::read_to_string(checkout("docs/onboarding.md")).unwrap();
    for (language, file) in [("csv", "list.csv"), ("json", "list.json")] {
        let world =
            World::new(&SHARE.replace("groups = [\"airlines\"]", "all = true").replace("carrier", "customer_id"));
        including(&world);
        let list = document.rsplit(&format!("```{language}\n")).next().unwrap().split("```").next().unwrap();
        world.write(file, list);
        let said = world.run(&["customer", "add", "--from", file, "--dry-run", "--json"]).ended(0).json();
        assert_eq!(said["customers"].as_array().unwrap().len(), 2, "{language}");
    }
}
