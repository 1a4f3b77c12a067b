//! STS: AssumeRole and GetCallerIdentity.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use std::collections::BTreeMap;

use chrono::TimeDelta;
use http::{Extensions, HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use super::Shared;
use super::config::{Account, Role, is_external_id, is_name_char};
use super::identity::{Caller, Session};
use super::journal::Draft;
use super::policy::{Policy, Question, Verdict, account_of_root};
use super::xml::{Rejection, document, element, text_in};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const FORM_BYTES_MAX: usize = 64 << 10;
/// Longest session of a caller that is a session itself, in seconds.
const CHAINED_SECONDS_MAX: u32 = 3600;
const SESSION_POLICY_CHARS_MAX: usize = 2048;
const SESSION_SECONDS_DEFAULT: u32 = 3600;

type Form = BTreeMap<String, String>;

/// STS has no other resource than the root.
pub(super) fn is_sts(method: &Method, uri: &Uri) -> bool {
    method == Method::POST && uri.path() == "/"
}

#[async_trait::async_trait]
impl S3Route for Shared {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        is_sts(method, uri)
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let (Some(caller), Some(draft)) = (request.extensions.get::<Caller>(), request.extensions.get::<Draft>())
        else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        if request.service.as_deref() != Some("sts") {
            return Err(s3_error!(SignatureDoesNotMatch, "Credential should be scoped to correct service: 'sts'."));
        }
        let (caller, draft) = (caller.clone(), draft.clone());
        let body = Limited::new(request.input, FORM_BYTES_MAX).collect().await;
        let body = body.map_err(|_| s3_error!(InvalidRequest, "The form is too large or broken."))?.to_bytes();
        let form: Form = url::form_urlencoded::parse(&body).into_owned().collect();
        let action = form.get("Action").map(String::as_str).unwrap_or_default();
        draft.set_operation(action);
        let answer = match action {
            "AssumeRole" => self.assume_role(&caller, &form),
            "GetCallerIdentity" => Ok(caller_identity(&caller)),
            other => Err(Rejection::new(
                StatusCode::BAD_REQUEST,
                "InvalidAction",
                format!("Could not find operation {other}; the sandbox knows AssumeRole and GetCallerIdentity"),
            )),
        };
        let response = match answer {
            Ok(xml) => document(StatusCode::OK, xml),
            Err(rejection) => refuse(&rejection, "sandbox"),
        };
        let (parts, body) = response.into_parts();
        let mut response = S3Response::with_status(body, parts.status);
        response.headers = parts.headers;
        Ok(response)
    }
}

impl Shared {
    fn assume_role(&self, caller: &Caller, form: &Form) -> Result<String, Rejection> {
        let arn = required(form, "RoleArn")?;
        let name = required(form, "RoleSessionName")?;
        if !(2..=64).contains(&name.chars().count()) || !name.chars().all(is_name_char) {
            return Err(invalid("roleSessionName", name, "satisfy regular expression pattern: [\\w+=,.@-]{2,64}"));
        }
        let external_id = form.get("ExternalId").map(String::as_str);
        if let Some(id) = external_id.filter(|id| !is_external_id(id)) {
            return Err(invalid("externalId", id, "satisfy regular expression pattern: [\\w+=,.@:\\/-]{2,1224}"));
        }
        let seconds = self.session_seconds(form)?;
        let session_policy = session_policy(form)?;

        let role = self
            .role(arn)
            .filter(|(_, role)| role.trust.admits(caller, external_id) && may_assume(caller, arn, external_id, name));
        let Some((account, role)) = role else { return Err(denied(caller, "sts:AssumeRole", arn)) };
        for (field, action) in [("Tags.member.1.Key", "sts:TagSession"), ("SourceIdentity", "sts:SetSourceIdentity")] {
            if form.contains_key(field) {
                // Trust policies here grant neither.
                return Err(denied(caller, action, arn));
            }
        }
        if seconds > role.session_seconds_max {
            let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(validation(message));
        }
        if caller.is_session && seconds > CHAINED_SECONDS_MAX {
            let message =
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
            return Err(validation(message));
        }
        let (credentials, session) = self.identities.begin_session(Session {
            account: &account.id,
            role_name: &role.name,
            role_arn: arn,
            name,
            policy: &role.policy,
            session_policy,
            expires: self.clock.now() + TimeDelta::seconds(i64::from(seconds)),
        });
        let mut xml = String::from("<Credentials>");
        element(&mut xml, "AccessKeyId", &credentials.access_key_id);
        element(&mut xml, "SecretAccessKey", &credentials.secret);
        element(&mut xml, "SessionToken", &credentials.token);
        element(&mut xml, "Expiration", &credentials.expires.format("%Y-%m-%dT%H:%M:%SZ").to_string());
        xml.push_str("</Credentials><AssumedRoleUser>");
        element(&mut xml, "AssumedRoleId", &session.user_id);
        element(&mut xml, "Arn", &session.arn);
        xml.push_str("</AssumedRoleUser>");
        Ok(result("AssumeRole", &xml))
    }

    fn session_seconds(&self, form: &Form) -> Result<u32, Rejection> {
        let Some(text) = form.get("DurationSeconds") else { return Ok(SESSION_SECONDS_DEFAULT) };
        let least = self.config.session_seconds_min;
        let seconds: i64 = text.parse().map_err(|_| invalid("durationSeconds", text, "be a number"))?;
        if seconds < i64::from(least) {
            return Err(invalid("durationSeconds", text, &format!("have value greater than or equal to {least}")));
        }
        u32::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds <= 43_200)
            .ok_or_else(|| invalid("durationSeconds", text, "have value less than or equal to 43200"))
    }

    fn role(&self, arn: &str) -> Option<(&Account, &Role)> {
        let mut all = self.config.accounts.iter().flat_map(|account| account.roles.iter().map(move |r| (account, r)));
        all.find(|(account, role)| role.arn(&account.id) == arn)
    }
}

impl super::Trust {
    fn admits(&self, caller: &Caller, external_id: Option<&str>) -> bool {
        let principal = account_of_root(&self.principal).unwrap_or(&self.principal);
        let is_named = caller.names().contains(&principal);
        let ids = &self.external_ids;
        let is_expected = ids.is_empty() || ids.iter().any(|expected| external_id == Some(expected));
        is_named && is_expected
    }
}

/// The caller's own side: its policy has to allow `sts:AssumeRole` on the role.
fn may_assume(caller: &Caller, role_arn: &str, external_id: Option<&str>, session_name: &str) -> bool {
    let mut context = BTreeMap::from([("sts:rolesessionname".to_owned(), session_name.to_owned())]);
    if let Some(id) = external_id {
        context.insert("sts:externalid".to_owned(), id.to_owned());
    }
    caller.ask(&Question { action: "sts:AssumeRole", resource: role_arn, context: &context }) == Verdict::Allowed
}

fn session_policy(form: &Form) -> Result<Option<Policy>, Rejection> {
    if form.keys().any(|name| name.starts_with("PolicyArns.")) {
        return Err(validation("the sandbox has no managed policies; pass the session policy as Policy"));
    }
    let Some(text) = form.get("Policy") else { return Ok(None) };
    if text.chars().count() > SESSION_POLICY_CHARS_MAX {
        return Err(invalid("policy", text, "have length less than or equal to 2048"));
    }
    let malformed = |error: super::PolicyError| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Rejection::new(StatusCode::BAD_REQUEST, "MalformedPolicyDocument", format!("{error}{source}"))
    };
    Policy::parse(text).map(Some).map_err(malformed)
}

fn caller_identity(caller: &Caller) -> String {
    let mut xml = String::new();
    element(&mut xml, "Arn", &caller.arn);
    element(&mut xml, "UserId", &caller.user_id);
    element(&mut xml, "Account", &caller.account);
    result("GetCallerIdentity", &xml)
}

fn result(action: &str, inner: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{inner}</{action}Result>\
         <ResponseMetadata><RequestId>sandbox</RequestId></ResponseMetadata></{action}Response>"
    )
}

fn required<'a>(form: &'a Form, name: &str) -> Result<&'a str, Rejection> {
    let missing = || {
        let field = name[..1].to_ascii_lowercase() + &name[1..];
        validation(&format!(
            "1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"
        ))
    };
    form.get(name).map(String::as_str).ok_or_else(missing)
}

fn invalid(field: &str, value: &str, constraint: &str) -> Rejection {
    validation(&format!(
        "1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: Member must {constraint}"
    ))
}

fn validation(message: &str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "ValidationError", message)
}

fn denied(caller: &Caller, action: &str, resource: &str) -> Rejection {
    let message = format!("User: {} is not authorized to perform: {action} on resource: {resource}", caller.arn);
    Rejection::new(StatusCode::FORBIDDEN, "AccessDenied", message)
}

/// An error as STS writes it, which is not as S3 does.
pub(super) fn refuse(rejection: &Rejection, request_id: &str) -> Response<Body> {
    let mut xml = format!("<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type>");
    element(&mut xml, "Code", &rejection.code);
    element(&mut xml, "Message", &rejection.message);
    xml.push_str("</Error>");
    element(&mut xml, "RequestId", request_id);
    xml.push_str("</ErrorResponse>");
    document(rejection.status, xml)
}

/// Rewrites an error that s3s wrote as S3 does.
pub(super) fn in_sts_form(response: Response<Body>, request_id: &str) -> Response<Body> {
    if response.status().is_success() {
        return response;
    }
    let bytes = response.body().bytes().unwrap_or_default();
    let xml = std::str::from_utf8(&bytes).unwrap_or_default();
    if xml.contains("<ErrorResponse") {
        return response;
    }
    let code = text_in(xml, "Code").unwrap_or("InternalFailure");
    let message = match code {
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method."
        }
        _ => text_in(xml, "Message").unwrap_or_default(),
    };
    refuse(&Rejection::new(response.status(), code, message), request_id)
}
