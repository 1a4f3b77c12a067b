//! Rows to measure a format by: what a table of orders has, texts that need quotes included.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::error::ArrowError;

use crate::dataset::BATCH_ROWS;

/// A table like TPC-H's `lineitem`, the same one each time, in batches as a dataset gives them.
pub fn lineitem(rows: usize) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let firsts = (0..rows).step_by(BATCH_ROWS);
    firsts.map(|first| batch(first, BATCH_ROWS.min(rows - first), &mut random)).collect()
}

fn batch(first: usize, count: usize, random: &mut Random) -> Result<RecordBatch, ArrowError> {
    let rows = first as i64..(first + count) as i64;
    let keys = |random: &mut Random, most: u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..count).map(|_| random.below(most) as i64 + 1)))
    };
    let money = |values: Vec<i128>| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(Decimal128Array::from_iter_values(values).with_precision_and_scale(15, 2)?))
    };
    let texts = |random: &mut Random, of: &[&str]| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..count).map(|_| random.one(of))))
    };
    let dates = |days: Vec<i32>| -> ArrayRef { Arc::new(Date32Array::from(days)) };
    let after = |days: &[i32], most: u64, random: &mut Random| -> Vec<i32> {
        days.iter().map(|day| day + random.below(most) as i32).collect()
    };

    let quantities: Vec<i128> = (0..count).map(|_| i128::from(random.below(50) + 1)).collect();
    let prices = quantities.iter().map(|quantity| quantity * i128::from(90_000 + random.below(110_000))).collect();
    let discounts = (0..count).map(|_| random.below(11).into()).collect();
    let taxes = (0..count).map(|_| random.below(9).into()).collect();
    // 1992-01-02 to 1998-12-01.
    let shipped: Vec<i32> = (0..count).map(|_| 8036 + random.below(2526) as i32).collect();
    let committed = after(&shipped, 60, random);
    let received = after(&shipped, 30, random);
    let comments = StringArray::from_iter_values((0..count).map(|_| random.comment()));

    let columns: [(&str, ArrayRef); 16] = [
        ("l_orderkey", Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row / 4 + 1)))),
        ("l_partkey", keys(random, 200_000)),
        ("l_suppkey", keys(random, 10_000)),
        ("l_linenumber", Arc::new(Int32Array::from_iter_values(rows.map(|row| (row % 4) as i32 + 1)))),
        ("l_quantity", money(quantities.iter().map(|quantity| quantity * 100).collect())?),
        ("l_extendedprice", money(prices)?),
        ("l_discount", money(discounts)?),
        ("l_tax", money(taxes)?),
        ("l_returnflag", texts(random, &["A", "N", "R"])),
        ("l_linestatus", texts(random, &["F", "O"])),
        ("l_shipdate", dates(shipped)),
        ("l_commitdate", dates(committed)),
        ("l_receiptdate", dates(received)),
        ("l_shipinstruct", texts(random, &["COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"])),
        ("l_shipmode", texts(random, &["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"])),
        ("l_comment", Arc::new(comments)),
    ];
    RecordBatch::try_from_iter(columns)
}

/// Xorshift: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    /// Some words, 10 to 43 bytes; a comma, which CSV must quote, in one of six.
    fn comment(&mut self) -> String {
        const WORDS: [&str; 20] = [
            "furiously",
            "carefully",
            "quickly",
            "blithely",
            "final",
            "regular",
            "special",
            "pending",
            "express",
            "ironic",
            "deposits",
            "requests",
            "accounts",
            "packages",
            "foxes",
            "theodolites",
            "sleep",
            "haggle",
            "along the",
            "above",
        ];
        let length = 10 + self.below(34) as usize;
        let mut text = self.one(&WORDS).to_owned();
        if self.below(6) == 0 {
            text.push(',');
        }
        while text.len() < length {
            text.push(' ');
            text.push_str(self.one(&WORDS));
        }
        text.truncate(length);
        text
    }
}
