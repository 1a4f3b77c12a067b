//! Deliveries with their steps written down, against a scripted server: what becomes of them in the
//! ledger when STS or the bucket refuses, is silent, or takes long.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use consign::clock::Clock;
use consign::config::{Config, Customer, Encryption, Environment};
use consign::domain::{
    AccountId, Asked, BucketName, CustomerName, CustomerPrefix, Destination, Failure, Interval, KeyFacts, Layer,
    LeafName, Origin, ProfileHash, Region, Retry, RoleArn, RunId, ShareName, Slot,
};
use consign::ledger::{DeliveryId, DeliveryState, Ledger, OpenDelivery, Planned};
use consign::run::{Gauge, Outcome, Parts, Recorder, Retrying, Stop, Stopper};

use super::wire::{Call, Fault, Seen, Wire, s3_error};

/// How long a busy machine may take for anything.
const SOON: Duration = Duration::from_secs(60);

/// One delivery of a file to acme, of a slot that was planned.
struct Scene {
    _dir: tempfile::TempDir,
    wire: Wire,
    config: Arc<Config>,
    parts: Parts,
    ledger: Ledger,
    slot: Slot,
    acme: CustomerName,
    run: RunId,
    delivery: DeliveryId,
}

impl Scene {
    async fn new(wire: Wire, aws: &str, share: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file.txt"), "text").unwrap();
        let text = format!(
            r#"
[daemon]
cache_dir = "cache"
[aws]
region = "us-east-1"
endpoint_url = "{}"
access_key_id = {{ env = "KEY" }}
secret_access_key = {{ env = "SECRET" }}
{aws}
[datasets.files]
files = "*.txt"
[customers.acme]
role_arn = "arn:aws:iam::123456789012:role/recorded"
external_id = "an-id-of-acme"
bucket = "recorded-data"
region = "us-east-1"
prefix = "in/"
[shares.daily]
schedule = "@daily"
dataset = "files"
to = {{ customers = ["acme"] }}
{share}"#,
            wire.url
        );
        let path = dir.path().join("consign.toml");
        std::fs::write(&path, text).unwrap();
        let env = Environment::from_pairs([("KEY", "AKIAEXAMPLE"), ("SECRET", "secret")]);
        let config = Arc::new(Config::load(&path, &env).unwrap_or_else(|errors| panic!("{errors}")));
        let clock = Clock::system();
        let parts = Parts::build(&config, clock.clone()).await.unwrap_or_else(|failure| panic!("{failure}"));
        let ledger = Ledger::open(&dir.path().join("state"), clock.clone()).unwrap();
        let at = clock.now();
        let interval = Interval { start: at - TimeDelta::days(1), end: at };
        let slot = Slot { share: ShareName::parse("daily").unwrap(), at, interval };
        let acme = CustomerName::parse("acme").unwrap();
        let planned = Planned::new(slot.clone(), vec![acme.clone()], Origin::Schedule);
        ledger.plan(vec![planned], Vec::new()).await.unwrap();
        let claim = ledger.claim(1, 0).await.unwrap().runs.remove(0);
        let (run, delivery) = (claim.run, claim.deliveries[0].1);
        Self { _dir: dir, wire, config, parts, ledger, slot, acme, run, delivery }
    }

    /// By which it is delivered to acme.
    fn profile(&self) -> ProfileHash {
        self.config.customers[&self.acme].hash()
    }

    fn recorder(&self, stop: Stop) -> Recorder<'_> {
        let Self { parts, ledger, config, slot, acme: customer, run, .. } = self;
        let (run, retrying, gauge) = (*run, Retrying::Schedule, Gauge::default());
        Recorder { parts, ledger, config, run, slot, customer, retrying, stop, gauge }
    }

    async fn deliver(&self) -> Outcome {
        self.recorder(Stop::never()).deliver(self.delivery).await.unwrap()
    }

    async fn resume(&self, stop: Stop) -> Outcome {
        self.recorder(stop).resume(self.open().await).await.unwrap().unwrap()
    }

    async fn open(&self) -> OpenDelivery {
        self.ledger.open_delivery(self.delivery).await.unwrap()
    }

    /// An attempt at work, which has so many uploads.
    async fn leaves(&self, uploads: usize) {
        let profile = &self.config.customers[&self.acme];
        let Slot { share, at, interval } = &self.slot;
        let facts = KeyFacts { share, customer: &self.acme, slot: *at, interval: *interval };
        let key = profile.prefix.key(&self.config.shares[share].key, &facts, &LeafName::manifest()).unwrap();
        let destination = Destination {
            endpoint: self.config.aws.endpoint_url.as_ref().map(ToString::to_string),
            bucket: profile.bucket.clone(),
            owner: profile.bucket_owner.clone(),
            manifest_key: key.to_string(),
        };
        let attempt = self.ledger.attempt_started(self.delivery, Some(destination)).await.unwrap().id;
        for number in 0..uploads {
            self.ledger.upload_created(attempt, &key, &format!("left-{number}")).await.unwrap();
        }
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let comes = async {
            while !done().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, comes).await.unwrap_or_else(|_| panic!("{what}: not in time"));
    }
}

fn answer(status: u16, code: &str) -> Fault {
    Fault::Answer(status, vec![], s3_error(code, "as the script has it"))
}

/// STS does not speak as S3 does.
fn of_sts(status: u16, code: &str) -> Fault {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>as the script has it</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    Fault::Answer(status, vec![("content-type", "text/xml")], body)
}

fn is_probe(seen: &Seen) -> bool {
    seen.key.ends_with("_consign-preflight")
}

fn cancelled() -> Failure {
    Failure::new(Layer::Schedule, Retry::Never, "cancelled by root", "")
}

/// As good as no answer, and the SDK does not ask again.
const SILENCE: &str = "Unheard";

/// Its role or its bucket refuses when all is stored: it waits, and is completed when that is right.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_waits_for_its_customer_to_be_ready() {
    for refuses in [Call::AssumeRole, Call::Complete] {
        let script = move |seen: &Seen, before: usize| match seen.call {
            Call::Complete if refuses == Call::Complete => Some(answer(403, "AccessDenied")),
            // The first try is cut off at its completion, the next one has no session.
            Call::Complete if before < 1 => Some(answer(400, SILENCE)),
            _ => None,
        };
        let scene = Scene::new(Wire::start(script).await, "", "").await;
        let mut outcome = scene.deliver().await;
        if refuses == Call::AssumeRole {
            assert!(matches!(outcome, Outcome::Waits { sealed: true, .. }));
            scene.wire.obey(|seen, _| (seen.call == Call::AssumeRole).then(|| of_sts(403, "AccessDenied")));
            outcome = scene.resume(Stop::never()).await;
        }
        let Outcome::Held { failure, sealed: true } = outcome else { panic!("{refuses:?}: it is not held") };
        assert!(failure.is_of_setup(), "{failure:?}");
        let open = scene.open().await;
        assert_eq!(open.state, DeliveryState::Sealed, "{refuses:?}");
        assert!(open.due.is_some(), "it is in no other slot's way");
        let unready = scene.ledger.unready().await.unwrap();
        assert_eq!((unready.len(), &unready[0].customer), (1, &scene.acme), "{refuses:?}");

        // While its customer is not ready nobody is asked.
        let before = scene.wire.seen().len();
        assert!(matches!(scene.resume(Stop::never()).await, Outcome::Held { sealed: true, .. }), "{refuses:?}");
        assert_eq!(scene.wire.seen().len(), before, "{refuses:?}");

        scene.wire.heal();
        scene.ledger.ready(scene.acme.clone(), scene.profile()).await.unwrap();
        assert!(matches!(scene.resume(Stop::never()).await, Outcome::Committed(_)), "{refuses:?}");
        let shown = scene.ledger.reader().run(scene.run).await.unwrap();
        assert_eq!(shown.deliveries[0].attempts.len(), 1, "{refuses:?}: it is not read again");
    }
}

/// Its customer is found to be ready, and refuses this one alone: that is tried as what may pass, and then fails.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_does_not_wait_for_ever() {
    let script = |seen: &Seen, _| (seen.call == Call::Complete).then(|| answer(403, "AccessDenied"));
    let scene = Scene::new(Wire::start(script).await, "", "retry = { attempts = 2 }").await;
    assert!(matches!(scene.deliver().await, Outcome::Held { sealed: true, .. }));
    scene.ledger.ready(scene.acme.clone(), scene.profile()).await.unwrap();
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Waits { sealed: true, .. }));
    assert_eq!(scene.ledger.unready().await.unwrap(), [], "others are not held back for it");
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Failed(_)));
    assert_eq!((scene.open().await.state, scene.wire.open_uploads()), (DeliveryState::Failed, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_and_has_waited_in_vain_fails() {
    let script = |seen: &Seen, _| (seen.call == Call::Complete).then(|| answer(403, "AccessDenied"));
    let scene = Scene::new(Wire::start(script).await, "", "").await;
    assert!(matches!(scene.deliver().await, Outcome::Held { sealed: true, .. }));
    // That is over, as with its deadline, which is no end of what is sealed.
    let stopper = Stopper::default();
    stopper.stop(cancelled());
    assert!(matches!(scene.resume(stopper.listen(None)).await, Outcome::Held { sealed: true, .. }));
    let stopper = Stopper::default();
    stopper.in_vain(cancelled());
    let Outcome::Failed(failure) = scene.resume(stopper.listen(None)).await else { panic!("it has not failed") };
    assert!(failure.message.contains("CompleteMultipartUpload") && failure.message.ends_with("cancelled by root"));
    assert_eq!((scene.open().await.state, scene.wire.open_uploads()), (DeliveryState::Failed, 0));
}

/// One of its parts is another by now, and S3 says so: no try would complete it, and the bucket is no silent one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_and_never_completes_begins_anew() {
    let script =
        |seen: &Seen, before: usize| (seen.call == Call::Complete && before == 0).then(|| answer(400, "InvalidPart"));
    let scene = Scene::new(Wire::start(script).await, "", "").await;
    let Outcome::Waits { failure, sealed: false, .. } = scene.deliver().await else { panic!("it is not made anew") };
    assert!(!failure.is_elsewhere() && failure.asked == Some(Asked::S3), "{failure:?}");
    assert_eq!((scene.open().await.tries, scene.wire.open_uploads()), (1, 0), "what was stored is aborted");
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Committed(_)));
    let shown = scene.ledger.reader().run(scene.run).await.unwrap();
    assert_eq!(shown.deliveries[0].attempts.len(), 2);
}

/// The next attempt knows that something is there, and replaces it.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_became_something_else_is_replaced_by_the_next_attempt() {
    let other = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>\
                 </CompleteMultipartUploadResult>";
    let script = |seen: &Seen, before: usize| {
        (seen.call == Call::Complete && before == 0).then(|| Fault::Answer(200, vec![], other.to_owned()))
    };
    let scene = Scene::new(Wire::start(script).await, "", "").await;
    assert!(matches!(scene.deliver().await, Outcome::Waits { sealed: false, .. }));
    let sealed = scene.wire.seen().into_iter().find(|seen| seen.call == Call::Complete).unwrap();
    assert_eq!(sealed.header("if-none-match"), Some("*"), "it was the first");
    scene.wire.put(&sealed.key, "something else");
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Committed(_)));
    assert_eq!(scene.wire.objects()[&sealed.key], "text");
}

/// Nothing of a delivery is tried without a session.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sts_costs_no_try() {
    let silent = || Wire::start(|seen, _| (seen.call == Call::AssumeRole).then(|| of_sts(400, SILENCE)));
    let retry = "retry = { attempts = 2 }";
    let scene = Scene::new(silent().await, "", retry).await;
    assert!(matches!(scene.deliver().await, Outcome::Waits { sealed: false, .. }));
    for _ in 0..2 {
        assert!(matches!(scene.resume(Stop::never()).await, Outcome::Waits { sealed: false, .. }));
    }
    assert_eq!((scene.open().await.state, scene.open().await.tries), (DeliveryState::Waiting, 0));
    scene.wire.heal();
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Committed(_)));
    // What nobody makes up for has its tries, and no more.
    let scene = Scene::new(silent().await, "", &format!("{retry}\ncatch_up = \"none\"")).await;
    assert!(matches!(scene.deliver().await, Outcome::Waits { .. }));
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Failed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sts_costs_no_try_of_what_is_sealed() {
    let script = |seen: &Seen, _| (seen.call == Call::Complete).then(|| answer(400, SILENCE));
    let scene = Scene::new(Wire::start(script).await, "", "retry = { attempts = 2 }").await;
    assert!(matches!(scene.deliver().await, Outcome::Waits { sealed: true, .. }));
    scene.wire.obey(|seen, _| (seen.call == Call::AssumeRole).then(|| of_sts(400, SILENCE)));
    for _ in 0..2 {
        assert!(matches!(scene.resume(Stop::never()).await, Outcome::Waits { sealed: true, .. }));
    }
    assert_eq!((scene.open().await.state, scene.open().await.tries), (DeliveryState::Sealed, 1));
}

const OWN_POLICY: &str = "User: arn:aws:iam::111122223333:user/vendor is not authorized to perform: sts:AssumeRole on resource: \
    arn:aws:iam::123456789012:role/recorded because no identity-based policy allows the sts:AssumeRole action";

fn own_policy() -> Fault {
    Fault::Answer(403, vec![], super::wire::sts_error("AccessDenied", OWN_POLICY))
}

/// A bucket that is down for hours, or a mistake in the vendor's own IAM, concerns all deliveries and is no fault of one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_matter_elsewhere_costs_no_try() {
    let elsewhere: [fn(&Seen, usize) -> Option<Fault>; 3] = [
        |seen, _| (seen.call == Call::Create && !is_probe(seen)).then(|| answer(400, SILENCE)),
        |seen, _| (seen.call == Call::Part && !is_probe(seen)).then(|| answer(400, SILENCE)),
        |seen, _| (seen.call == Call::AssumeRole).then(own_policy),
    ];
    let retry = "retry = { attempts = 2, backoff = \"10s\" }";
    for elsewhere in elsewhere {
        let scene = Scene::new(Wire::start(elsewhere).await, "", retry).await;
        let mut outcome = scene.deliver().await;
        for number in 0..4 {
            let Outcome::Waits { failure, due, sealed: false } = outcome else { panic!("try {number} is the last") };
            assert!(failure.is_elsewhere(), "{failure:?}");
            // What has read and stored much before it failed does so less and less often.
            let (wait, least) = (due - Clock::system().now(), TimeDelta::seconds(5 << number) - TimeDelta::seconds(2));
            assert!(failure.asked == Some(Asked::Sts) || wait > least, "try {number}: {wait}");
            outcome = scene.resume(Stop::never()).await;
        }
        assert_eq!((scene.open().await.state, scene.open().await.tries), (DeliveryState::Waiting, 0));
        scene.wire.heal();
        assert!(matches!(scene.resume(Stop::never()).await, Outcome::Committed(_)));
        // What nobody makes up for has its tries, and no more.
        let scene = Scene::new(Wire::start(elsewhere).await, "", &format!("{retry}\ncatch_up = \"none\"")).await;
        assert!(matches!(scene.deliver().await, Outcome::Waits { .. }));
        assert!(matches!(scene.resume(Stop::never()).await, Outcome::Failed(_)));
    }
}

/// Each of them would ask for as long as the first.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_not_ended_one_by_one_where_nobody_answers() {
    let wire = Wire::start(|seen, _| (seen.call == Call::Abort && !is_probe(seen)).then(|| answer(400, SILENCE)));
    let scene = Scene::new(wire.await, "", "").await;
    scene.leaves(50).await;
    assert!(matches!(scene.resume(Stop::never()).await, Outcome::Committed(_)), "it goes on");
    let aborts = scene.wire.seen().iter().filter(|seen| seen.call == Call::Abort && !is_probe(seen)).count();
    assert!((1..=8).contains(&aborts), "{aborts}");
    assert_eq!(scene.open().await.uploads.len(), 50, "they are left to the sweep");
}

/// What is too late has failed, and what is told to end ends, before uploads are ended that take long.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_uploads_that_are_being_ended() {
    for is_late in [true, false] {
        let wire = Wire::start(|seen, _| (seen.call == Call::Abort && !is_probe(seen)).then_some(Fault::Stall)).await;
        let scene = Scene::new(wire, "attempt_timeout = \"1h\"\noperation_timeout = \"2h\"", "").await;
        scene.leaves(3).await;
        let stopper = Stopper::default();
        let stop = stopper.listen(is_late.then_some(scene.slot.at));
        let fails = scene.until("it fails", async || scene.open().await.state == DeliveryState::Failed);
        let told = async {
            if !is_late {
                scene.until("one is being ended", async || scene.wire.count(Call::Abort) > 0).await;
                stopper.stop(cancelled());
            }
            fails.await;
        };
        tokio::select! {
            () = told => {}
            _ = scene.resume(stop) => assert_eq!(scene.open().await.state, DeliveryState::Failed, "{is_late}"),
        }
        assert_eq!(scene.open().await.uploads.len(), 3, "{is_late}");
    }
}

/// Who was found to be ready by another role, external ID, bucket or the like was not looked at by this one.
#[tokio::test(flavor = "multi_thread")]
async fn another_profile_is_looked_at_before_its_first_delivery() {
    let looked = async |profile: fn(&mut Customer)| {
        let scene = Scene::new(Wire::healthy().await, "", "").await;
        let mut before = Customer::clone(&scene.config.customers[&scene.acme]);
        profile(&mut before);
        scene.ledger.ready(scene.acme.clone(), before.hash()).await.unwrap();
        assert!(matches!(scene.deliver().await, Outcome::Committed(_)));
        assert!(scene.ledger.has_seen(scene.acme.clone(), scene.profile()).await.unwrap());
        let seen = scene.wire.seen();
        // The wire lets in whoever asks.
        (seen.iter().any(is_probe), scene.ledger.exposed().await.unwrap().len())
    };
    assert_eq!(looked(|_| {}).await, (false, 0), "the same");
    assert_eq!(looked(|before| before.params.clear()).await, (false, 0), "what is no part of it");
    let others: [fn(&mut Customer); 9] = [
        |before| before.role_arn = RoleArn::parse("arn:aws:iam::123456789012:role/earlier").unwrap(),
        |before| before.external_id = None,
        |before| before.bucket = BucketName::parse("earlier-data").unwrap(),
        |before| before.bucket_owner = AccountId::parse("999999999999").unwrap(),
        |before| before.region = Region::parse("eu-west-1").unwrap(),
        |before| before.prefix = CustomerPrefix::parse("earlier").unwrap(),
        |before| before.encryption = Encryption::Kms { key: None },
        |before| before.acl = Some("bucket-owner-full-control".into()),
        |before| before.tags = [("team".into(), "data".into())].into(),
    ];
    for other in others {
        assert_eq!(looked(other).await, (true, 1));
    }
}

/// Its upload would be known to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_customer_is_not_cut_off() {
    let late =
        |seen: &Seen, _| (seen.call == Call::Part && is_probe(seen)).then(|| Fault::Late(Duration::from_secs(2)));
    let scene = Scene::new(Wire::start(late).await, "", "").await;
    let stopper = Stopper::default();
    let told = async {
        scene.until("it is looked at", async || scene.wire.count(Call::Part) == 1).await;
        stopper.stop(cancelled());
    };
    let recorder = scene.recorder(stopper.listen(None));
    let (ended, ()) = tokio::join!(recorder.deliver(scene.delivery), told);
    assert!(matches!(ended.unwrap(), Outcome::Failed(_)));
    scene.until("nothing is left", async || scene.wire.open_uploads() == 0).await;
    scene.until("it has come to its end", async || !scene.parts.is_looking()).await;
    assert!(scene.ledger.has_seen(scene.acme.clone(), scene.profile()).await.unwrap());
}
