//! `[customers.NAME]`

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::DateTime;

use super::aws::REGION;
use super::model::{Customer, Encryption, Sharer};
use super::regions;
use super::report::{Problems, quote};
use super::section::Section;
use super::shape::{Kind, NAME_PATTERN, Names, Shape, TEXT, default, invalid, optional, required};
use super::tree::{Node, Table, Value};
use crate::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, ExternalId, GroupName, Invalid, ParamValue, Principal, Region,
    RoleArn,
};

pub(crate) static CUSTOMERS: Names =
    super::names("customer", |text| CustomerName::parse(text).map(drop), Kind::Table(&CUSTOMER));

/// Classes that a general purpose bucket takes on upload (S3 API Reference, PutObject).
const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
];

pub(crate) static CUSTOMER: Shape = Shape {
    noun: "customer",
    doc: "A customer's profile: whose role is assumed, and where its deliveries go.",
    keys: &[
        required(
            "role_arn",
            Kind::Text("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"),
            r#""arn:aws:iam::123456789012:role/consign-delivery""#,
            "The role in the customer's account that consign assumes.",
        ),
        optional(
            "external_id",
            Kind::Text("^[A-Za-z0-9_+=,.@:/-]{2,1224}$"),
            r#""c0ns1gn-7f0c2b9e""#,
            "What the role's trust policy asks for. Made by the vendor, another one for each customer; not a secret. \
             Required unless `allow_missing_external_id`.",
        ),
        optional(
            "next_external_id",
            Kind::Text("^[A-Za-z0-9_+=,.@:/-]{2,1224}$"),
            r#""c0ns1gn-41d8e9a3""#,
            "What is to take the place of `external_id` once the role accepts both. `consign customer rotate-external-id` \
             writes it, and with `--finish` puts it in place.",
        ),
        default(
            "allow_missing_external_id",
            Kind::Bool,
            "false",
            "true",
            "Accepts a role that asks for no external ID. Somebody else who learns the ARN could then have consign \
             write into this bucket; a warning says so.",
        ),
        required(
            "bucket",
            Kind::Text("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
            r#""acme-data""#,
            "A general purpose bucket, by its name.",
        ),
        default(
            "bucket_owner",
            Kind::Text("^[0-9]{12}$"),
            "the account in `role_arn`",
            r#""123456789012""#,
            "Account that must own the bucket; sent with every call, so that a bucket that changed hands gets nothing.",
        ),
        required("region", REGION, r#""eu-west-1""#, "The bucket's region."),
        default(
            "prefix",
            TEXT,
            "the whole bucket",
            r#""uploads/your-team/""#,
            "Folder that consign may write to; a `/` is added at its end. No `..`, `//`, wildcards, control characters.",
        ),
        optional(
            "groups",
            Kind::List(&Kind::Text(NAME_PATTERN)),
            r#"["enterprise"]"#,
            "Tags by which shares name many customers.",
        ),
        optional(
            "params",
            Kind::Map(&PARAMS),
            "{ customer_id = 42 }",
            "Values for queries (`$customer.NAME`), the tenant column and paths of files: booleans, numbers, strings, \
             instants, and arrays of one of these.",
        ),
        default(
            "encryption",
            Kind::Either(&[Kind::Choice(&["s3", "kms"]), Kind::Table(&ENCRYPTION)]),
            "the bucket's own",
            r#"{ kms = "alias/deliveries" }"#,
            "`\"s3\"` is SSE-S3, `\"kms\"` SSE-KMS with the account's default key, `{ kms = KEY }` with this one.",
        ),
        default(
            "storage_class",
            Kind::Choice(STORAGE_CLASSES),
            "the bucket's own",
            r#""STANDARD_IA""#,
            "S3 storage class.",
        ),
        default(
            "acl",
            Kind::Choice(&["bucket-owner-full-control"]),
            "none",
            r#""bucket-owner-full-control""#,
            "The only ACL that buckets take by default. Needs `s3:PutObjectAcl`; only for a bucket of another account than the role's that has ACLs enabled, whose owner would not own the objects otherwise.",
        ),
        optional(
            "tags",
            Kind::Map(&TAGS),
            r#"{ source = "consign" }"#,
            "Object tags, at most 10. The role needs `s3:PutObjectTagging`.",
        ),
    ],
    synonyms: &[
        ("role", "role_arn"),
        ("arn", "role_arn"),
        ("owner", "bucket_owner"),
        ("kms_key", "encryption"),
        ("group", "groups"),
        ("parameters", "params"),
    ],
};

static ENCRYPTION: Shape = Shape {
    noun: "encryption",
    doc: "Server-side encryption with a KMS key.",
    keys: &[required(
        "kms",
        TEXT,
        r#""alias/deliveries""#,
        "Key id, key ARN or alias. The role needs `kms:GenerateDataKey` and `kms:Decrypt` on it.",
    )],
    synonyms: &[("key", "kms")],
};

static PARAMS: Names =
    Names { noun: "param", rule: param_name, pattern: "^[A-Za-z_][A-Za-z0-9_]{0,62}$", value: Kind::Param };

static TAGS: Names = Names { noun: "tag", rule: tag_name, pattern: "^.{1,128}$", value: TEXT };

/// `of_aws`: the buckets are AWS's, so that its regions are all there are.
pub(crate) fn read(
    customers: Option<&Table>,
    of_aws: bool,
    trusts: Option<&Principal>,
    problems: &mut Problems,
) -> BTreeMap<CustomerName, Arc<Customer>> {
    let mut read = BTreeMap::new();
    for section in Section::each(customers, &CUSTOMER) {
        let Ok(name) = CustomerName::parse(section.name) else { continue };
        if let Some(customer) = customer(&section, name.clone(), of_aws, problems) {
            read.insert(name, Arc::new(Customer { trusts: trusts.cloned(), ..customer }));
        }
    }
    for (name, sharers) in sharers(&read) {
        if let Some(customer) = read.get_mut(&name) {
            Arc::make_mut(customer).sharers = sharers;
        }
    }
    read
}

/// Of each role that several profiles name, for each of these.
fn sharers(customers: &BTreeMap<CustomerName, Arc<Customer>>) -> Vec<(CustomerName, Arc<[Sharer]>)> {
    let mut by_role: HashMap<&RoleArn, Vec<&Customer>> = HashMap::new();
    for customer in customers.values() {
        by_role.entry(&customer.role_arn).or_default().push(customer);
    }
    let shared = by_role.into_values().filter(|of_role| of_role.len() > 1);
    let each = shared.flat_map(|of_role| {
        let all: Arc<[Sharer]> = of_role.iter().map(|customer| customer.as_sharer()).collect();
        of_role.into_iter().map(move |customer| (customer.name.clone(), all.clone()))
    });
    each.collect()
}

impl Customer {
    fn as_sharer(&self) -> Sharer {
        let external_ids = self.external_id.iter().chain(&self.next_external_id).cloned().collect();
        Sharer { name: self.name.clone(), has_external_id: self.external_id.is_some(), external_ids }
    }

    /// All profiles of its role, this one as it is now, by name.
    fn of_role(&self) -> Vec<Sharer> {
        let mut all: Vec<Sharer> = self.others_of_role().cloned().chain([self.as_sharer()]).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The other profiles of its role.
    pub fn others_of_role(&self) -> impl Iterator<Item = &Sharer> {
        self.sharers.iter().filter(|sharer| sharer.name != self.name)
    }

    /// What the trust policy of its role has to accept: in one order, whichever profile asks.
    pub fn external_ids_of_role(&self) -> Vec<ExternalId> {
        self.of_role().into_iter().flat_map(|sharer| sharer.external_ids).collect()
    }

    /// Whether its role is to ask for external IDs. One profile that has one is enough: without the
    /// condition whoever names the role would be let in, for the others too.
    pub fn role_asks(&self) -> bool {
        self.external_id.is_some() || self.others_of_role().any(|sharer| sharer.has_external_id)
    }

    /// Who of its role has no external ID although another has one.
    pub fn half_open(&self) -> Option<HalfOpen> {
        let all = self.of_role();
        let shut = all.iter().find(|sharer| sharer.has_external_id)?.name.clone();
        let open = all.into_iter().find(|sharer| sharer.external_ids.is_empty())?.name;
        Some(HalfOpen { open, shut })
    }
}

/// Two profiles of one role, which has one trust policy: none is right for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// Has no external ID, and none is to come.
    pub open: CustomerName,
    /// Has one.
    pub shut: CustomerName,
}

impl HalfOpen {
    pub fn message(&self) -> String {
        let Self { open, shut } = self;
        format!("customer `{open}` has no external ID, and the same role as customer `{shut}`, which has one")
    }

    pub fn help(&self) -> String {
        let Self { open, shut } = self;
        format!(
            "a role has one trust policy: if it asks for an external ID it refuses `{open}`, and if it asks for none it lets \
             in whoever names the role of `{shut}`. `consign customer rotate-external-id {open}` makes an ID; or give \
             `{open}` a role of its own"
        )
    }
}

fn customer(section: &Section<'_>, name: CustomerName, of_aws: bool, problems: &mut Problems) -> Option<Customer> {
    let role_arn = section.parse("role_arn", RoleArn::parse, problems);
    let external_id = external_id(section, problems);
    let next_external_id = section.parse("next_external_id", ExternalId::parse, problems);
    let bucket = section.parse("bucket", BucketName::parse, problems);
    let bucket_owner = section.parse("bucket_owner", AccountId::parse, problems);
    let region = region(section, role_arn.as_ref(), of_aws, problems);
    let prefix = section.parse("prefix", CustomerPrefix::parse, problems);
    let groups = groups(section, problems);
    let params = section.node("params").and_then(Node::table).map(params).unwrap_or_default();
    let encryption = encryption(section, problems);
    let tags = tags(section, problems);
    let role_arn = role_arn?;
    Some(Customer {
        name,
        bucket_owner: bucket_owner.unwrap_or_else(|| role_arn.account_id()),
        role_arn,
        external_id: external_id?,
        next_external_id,
        sharers: Arc::default(),
        trusts: None,
        bucket: bucket?,
        region: region?,
        prefix: match prefix {
            Some(prefix) => prefix,
            None => CustomerPrefix::parse("").ok()?,
        },
        groups,
        params,
        encryption,
        storage_class: section.text("storage_class").map(str::to_owned),
        acl: section.text("acl").map(str::to_owned),
        tags,
    })
}

/// None: refused. Some(None): missing, and said to be so.
fn external_id(section: &Section<'_>, problems: &mut Problems) -> Option<Option<ExternalId>> {
    let allowed = section.bool("allow_missing_external_id") == Some(true);
    if section.has("external_id") {
        if allowed {
            let message = "`allow_missing_external_id` has no effect, because there is an `external_id`";
            problems.warn(section.key_span("allow_missing_external_id"), message, "remove it");
        }
        return section.parse("external_id", ExternalId::parse, problems).map(Some);
    }
    let what = format!("customer {} has no `external_id`", quote(section.name));
    if allowed {
        let message = format!("{what}: whoever learns its role's ARN could have consign write into its bucket");
        let help = "agree on an external ID, and have the role's trust policy ask for it (`sts:ExternalId`)";
        problems.warn(section.key_span("allow_missing_external_id"), message, help);
        return Some(None);
    }
    let help = "add `external_id = \"…\"`, one of its own for each customer (`uuidgen` makes one), and have the role's \
        trust policy ask for it; or `allow_missing_external_id = true` if the role asks for none";
    problems.error(section.name_span, what, help);
    None
}

fn region(section: &Section<'_>, role: Option<&RoleArn>, of_aws: bool, problems: &mut Problems) -> Option<Region> {
    let region = section.parse("region", Region::parse, problems)?;
    let span = section.span("region");
    if of_aws {
        regions::check_known(&region, span, problems);
    }
    if let Some(role) = role {
        regions::check_partition(&region, role, span, problems);
    }
    Some(region)
}

fn groups(section: &Section<'_>, problems: &mut Problems) -> Vec<GroupName> {
    let mut groups = Vec::new();
    for (text, span) in section.texts("groups") {
        match GroupName::parse(text) {
            Ok(group) => groups.push(group),
            Err(why) => invalid(span, "group", text, &why, "", problems),
        }
    }
    groups.sort();
    groups.dedup();
    groups
}

fn params(table: &Table) -> BTreeMap<String, ParamValue> {
    table.iter().filter_map(|(name, entry)| Some((name.to_owned(), param(&entry.node)?))).collect()
}

fn param(node: &Node) -> Option<ParamValue> {
    Some(match &node.value {
        Value::Text(text) => ParamValue::Text(text.to_string()),
        Value::Int(number) => ParamValue::Int(*number),
        Value::Float(number) => ParamValue::Float(*number),
        Value::Bool(value) => ParamValue::Bool(*value),
        Value::Time(time) => ParamValue::Instant(DateTime::parse_from_rfc3339(&time.to_string()).ok()?.to_utc()),
        Value::List(list) => ParamValue::List(list.iter().filter_map(param).collect()),
        Value::Table(_) => return None,
    })
}

fn param_name(text: &str) -> Result<(), Invalid> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if text.starts_with(first) && text.len() <= 63 && text.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(Invalid::new(
        "is not a name that queries can use; write 1 to 63 letters, digits and '_', not beginning with a digit",
    ))
}

fn encryption(section: &Section<'_>, problems: &mut Problems) -> Encryption {
    match section.text("encryption") {
        Some("s3") => return Encryption::S3,
        Some("kms") => return Encryption::Kms { key: None },
        _ => {}
    }
    let Some(table) = section.section("encryption", &ENCRYPTION) else { return Encryption::Bucket };
    match table.text("kms") {
        Some("") => {
            problems.error(
                table.span("kms"),
                "`kms` is empty",
                "name a key, or write `encryption = \"kms\"` for the default",
            );
            Encryption::Bucket
        }
        Some(key) => Encryption::Kms { key: Some(key.to_owned()) },
        None => Encryption::Bucket,
    }
}

/// S3 User Guide, "Categorizing your storage using tags".
fn tags(section: &Section<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(table) = section.node("tags").and_then(Node::table) else { return BTreeMap::new() };
    if table.len() > 10 {
        let message = format!("`tags` has {} tags; S3 takes at most 10 for an object", table.len());
        problems.error(section.key_span("tags"), message, "keep the 10 that matter");
    }
    let mut tags = BTreeMap::new();
    for (name, entry) in table.iter() {
        let Some(text) = entry.node.text() else { continue };
        if text.chars().count() > 256 || !text.chars().all(tag_letter) {
            let why = Invalid::new(format!("is not a value that S3 takes; write at most 256 of {TAG_LETTERS}"));
            invalid(entry.node.span, "tag value", text, &why, "", problems);
        }
        tags.insert(name.to_owned(), text.to_owned());
    }
    tags
}

const TAG_LETTERS: &str = "letters, digits, spaces and + - = . _ : / @";

fn tag_letter(c: char) -> bool {
    c.is_alphanumeric() || " +-=._:/@".contains(c)
}

fn tag_name(text: &str) -> Result<(), Invalid> {
    if text.starts_with("aws:") {
        return Err(Invalid::new("begins with 'aws:', which is kept for AWS; use another name"));
    }
    if text.is_empty() || text.chars().count() > 128 || !text.chars().all(tag_letter) {
        return Err(Invalid::new(format!("is not a name that S3 takes; write 1 to 128 of {TAG_LETTERS}")));
    }
    Ok(())
}
