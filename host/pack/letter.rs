//! Instructions to read: as plain text, and as Markdown for a mail or a ticket.

use serde_json::Value;

use super::{Pack, quote};
use crate::policy::{self, UNFINISHED_DAYS, pretty};

/// One step: what to do and why, and what to paste.
struct Step {
    title: String,
    /// Code in it is between `\u{1}` and `\u{2}`, which no value has.
    says: String,
    paste: Option<Value>,
}

pub(super) fn text(pack: &Pack<'_>) -> String {
    let title = title(pack);
    let mut text = format!("{title}\n{}\n\n{}\n", "=".repeat(title.chars().count()), wrapped(&spoken(&intro(pack)), 0));
    for (number, step) in steps(pack).iter().enumerate() {
        let head = format!("{}. {}", number + 1, step.title);
        text.push_str(&format!("\n{head}\n\n{}\n", wrapped(&spoken(&step.says), 3)));
        if let Some(value) = &step.paste {
            text.push_str(&format!("\n   {}\n", super::indented(&pretty(value), 3)));
        }
    }
    text
}

pub(super) fn markdown(pack: &Pack<'_>) -> String {
    let mut text = format!("# {}\n\n{}\n", title(pack), marked(&intro(pack)));
    for (number, step) in steps(pack).iter().enumerate() {
        text.push_str(&format!("\n## {}. {}\n\n{}\n", number + 1, step.title, marked(&step.says)));
        if let Some(value) = &step.paste {
            text.push_str(&format!("\n```json\n{}\n```\n", pretty(value)));
        }
    }
    text
}

fn title(pack: &Pack<'_>) -> String {
    format!("Setting up deliveries into {}", pack.customer.bucket)
}

fn intro(pack: &Pack<'_>) -> String {
    format!(
        "We deliver files into {} in {}. To write there, and nowhere else, we take on a role in your AWS account {}. \
         The steps below set it up; nothing in them is secret, and whoever may change IAM and the bucket can do them in \
         ten minutes, in the console or with any tool. The same as a CloudFormation template, a Terraform module and a \
         script of AWS CLI commands is to be had from us.",
        code(&pack.place()),
        code(pack.customer.region.as_str()),
        code(&pack.account()),
    )
}

fn steps(pack: &Pack<'_>) -> Vec<Step> {
    let mut steps = vec![role(pack), permissions(pack)];
    steps.extend(bucket_policy(pack));
    steps.extend(kms(pack));
    steps.extend(key(pack));
    steps.push(lifecycle(pack));
    steps.push(Step {
        title: "Tell us".into(),
        says: format!(
            "Send us a word when this is done, and the ARN of the role if it is another one than {}. We then try it: the \
             role with and without the external ID, an upload below the prefix that is taken back before it becomes \
             visible, and one outside of it, which has to be refused. Nothing stays in the bucket.",
            code(pack.customer.role_arn.as_str())
        ),
        paste: None,
    });
    steps
}

fn role(pack: &Pack<'_>) -> Step {
    let customer = pack.customer;
    let who = if pack.is_account { "our AWS account" } else { "us" };
    let mut says = format!(
        "Make an IAM role with the name {} {}and this trust policy. It lets {who}, {}, take on the role",
        code(pack.role_name()),
        match pack.role_path().as_str() {
            "/" => String::new(),
            path => format!("and the path {} ", code(path)),
        },
        code(&pack.principal),
    );
    says.push_str(&match (&customer.external_id, &customer.next_external_id) {
        (own, next) if customer.role_asks() && customer.others_of_role().next().is_some() => {
            let others = policy::others_of_role(customer).unwrap_or_default();
            let changing = if own.is_some() && next.is_some() { " While one changes, it is there twice." } else { "" };
            format!(
                ", and only with one of these external IDs. The role is that of {others} too, as we have it, and each has one \
                 of its own.{changing} If that is not so, do not put this in place, and tell us."
            )
        }
        (Some(_), Some(_)) => {
            ", and only with one of these two external IDs: the one until now, and the one that takes \
            its place. When we have changed over you get this again with the new one alone."
                .to_owned()
        }
        (Some(_), None) => ", and only with this external ID: we have made it for you alone, so that nobody else can \
            have us write into your bucket. Please do not leave it out."
            .to_owned(),
        (None, _) => ".".to_owned(),
    });
    if let Some(seconds) = pack.session_seconds_max() {
        says.push_str(&format!(" Set the role's maximum session duration to {seconds} seconds."));
    }
    Step { title: "The role, and who may take it on".into(), says, paste: Some(pack.trust.clone()) }
}

fn permissions(pack: &Pack<'_>) -> Step {
    let mut says =
        "Give the role this permissions policy, as an inline or a managed one, and no other. We can then write below \
                    the prefix. We cannot read, list or delete anything."
            .to_owned();
    if policy::is_for_any_key(pack.customer) {
        says.push_str(
            " We do not know the ARN of the key that we are to encrypt with: put it in the place of the star, so that the \
             role may use no other.",
        );
    }
    Step { title: "What the role may do".into(), says, paste: Some(pack.permissions.clone()) }
}

fn bucket_policy(pack: &Pack<'_>) -> Option<Step> {
    let customer = pack.customer;
    let (title, says) = if pack.is_bucket_elsewhere() {
        (
            "The bucket's policy",
            format!(
                "The bucket belongs to account {}, not to that of the role. So its policy has to let the role in: add this \
                 statement to it there.{}",
                code(customer.bucket_owner.as_str()),
                pack.whose_objects().map(|says| format!(" {says}")).unwrap_or_default(),
            ),
        )
    } else {
        (
            "The bucket's policy, only if it is needed",
            "The role is in the bucket's account, and so its own policy suffices. Only if the bucket has a policy that \
             denies what it does not name, add this statement to it, and except the role from the Deny."
                .to_owned(),
        )
    };
    Some(Step { title: title.into(), says, paste: Some(pack.bucket_policy()) })
}

fn kms(pack: &Pack<'_>) -> Option<Step> {
    let policy = pack.kms_policy()?;
    Some(Step {
        title: "Only if the bucket encrypts with a KMS key".into(),
        says: "If the bucket's default encryption is a KMS key of yours, give the role this policy too, with the ARN of the \
               key in the place of the star. For SSE-S3, the usual default, leave it out. (Decrypting is how S3 puts large \
               uploads together; we get to see nothing.)"
            .into(),
        paste: Some(policy),
    })
}

fn key(pack: &Pack<'_>) -> Option<Step> {
    let statement = pack.key_statement()?;
    Some(Step {
        title: "Only if the key's policy does not leave it to IAM".into(),
        says: format!(
            "Most keys' policies let IAM decide (they have a statement for {}), and then there is nothing to do. Otherwise \
             add this statement to the policy of the key.",
            code(&format!("arn:{}:iam::{}:root", pack.customer.role_arn.partition(), pack.account()))
        ),
        paste: Some(statement),
    })
}

fn lifecycle(pack: &Pack<'_>) -> Step {
    Step {
        title: "A lifecycle rule, as good housekeeping".into(),
        says: format!(
            "Add this rule to those of the bucket. Uploads that were cut off and that we could not take back are invisible, \
             and you would pay for them; S3 then removes them after {UNFINISHED_DAYS} days. Please no sooner than after one day. \
             (Setting a bucket's lifecycle configuration replaces all of its rules: keep those that are there.)"
        ),
        paste: Some(policy::lifecycle(pack.customer)),
    }
}

fn code(text: &str) -> String {
    // Two characters that no value has, because they are control characters.
    format!("\u{1}{}\u{2}", quote::plain(text))
}

/// Code as it is; a line does not end within it.
fn spoken(text: &str) -> String {
    let mut spoken = String::new();
    for part in text.split('\u{1}') {
        match part.split_once('\u{2}') {
            Some((code, rest)) => spoken.push_str(&format!("{}{rest}", code.replace(' ', "\u{3}"))),
            None => spoken.push_str(part),
        }
    }
    spoken
}

/// Code as Markdown has it.
fn marked(text: &str) -> String {
    let mut marked = String::new();
    for part in text.split('\u{1}') {
        match part.split_once('\u{2}') {
            Some((code, rest)) => marked.push_str(&format!("{}{rest}", quote::code(code))),
            None => marked.push_str(part),
        }
    }
    marked
}

/// In lines of about 88 characters, with spaces before each.
fn wrapped(text: &str, indent: usize) -> String {
    const WIDTH: usize = 88;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{}{word}", " ".repeat(indent))),
        }
    }
    lines.join("\n").replace('\u{3}', " ")
}
