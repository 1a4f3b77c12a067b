//! What goes wrong, from a number: the same seed does the same to each kind's first
//! request, second request and so on. When they come is for processes and machine to say.

use std::time::Duration;

use crate::support::promises::MANIFEST;
use crate::support::wire::{Call, Fault, Seen, s3_error};

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// An error as S3 or STS says it, in a request's place.
pub fn refusal(call: Call, status: u16, code: &str) -> Fault {
    let body = match call {
        Call::AssumeRole => format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>a fault</Message></Error><RequestId>fault</RequestId></ErrorResponse>"
        ),
        _ => s3_error(code, "a fault"),
    };
    Fault::Answer(status, vec![("content-type", "text/xml")], body)
}

/// Of a hundred requests so many go wrong, `kills` of a hundred of these by a death.
pub fn storm(seed: u64, rate: u64, kills: u64) -> impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static {
    move |seen, before| {
        let mut chance = Chance::new(seed ^ ((seen.call as u64) << 56) ^ ((before as u64) << 20));
        if chance.below(100) >= rate {
            return None;
        }
        if chance.below(100) < kills {
            return Some(Fault::Kill { carried_out: chance.below(2) == 0 });
        }
        // Longer than anybody waits: three times as long for a completion.
        let long = Duration::from_millis(if seen.call == Call::Complete { 1800 } else { 700 });
        let short = Duration::from_millis(100 + chance.below(200));
        Some(match chance.below(20) {
            0 | 1 => refusal(seen.call, 503, "SlowDown"),
            2 => refusal(seen.call, 500, "InternalError"),
            3 => refusal(seen.call, 403, "AccessDenied"),
            4 => refusal(seen.call, 400, "ExpiredToken"),
            5 if seen.call == Call::Complete => refusal(seen.call, 409, "ConditionalRequestConflict"),
            // Not of a completion or an abort: there S3 says so of no upload that is open, and consign goes by that.
            6 if seen.call == Call::Part && !seen.key.ends_with(MANIFEST) => refusal(seen.call, 404, "NoSuchUpload"),
            7 if seen.call == Call::Complete => refusal(seen.call, 200, "InternalError"),
            5..9 => Fault::Reset,
            9..12 => Fault::LoseReply,
            12 => Fault::Truncate,
            13 => Fault::Stall,
            14 | 15 => Fault::Delayed(long),
            16 => Fault::Late(short),
            17 => Fault::Drip(short),
            18 => Fault::Partition { hangs: false, lasts: short },
            _ => Fault::Partition { hangs: true, lasts: short * 2 },
        })
    }
}
