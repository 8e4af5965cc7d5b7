//! Holding what is configured against the ranges that make sense: all keys at once, so that whoever has several to change
//! sees them together.

use crate::{PipelineError, Result};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Keys and what is wrong with their values.
#[derive(Debug, Default)]
pub struct Ranges {
    faults: Vec<String>,
}

impl Ranges {
    /// Holds a key's value against a range. What is not a number is in none.
    pub fn within<T: PartialOrd + Display>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.refuse(format!("{key} = {value} must be {} to {}", range.start(), range.end()));
        }
    }

    /// Holds a count against the least that it may be.
    pub fn count_at_least<T: PartialOrd + Display>(&mut self, key: &str, count: T, least: T) {
        if count < least {
            self.refuse(format!("{key} = {count} must be at least {least}"));
        }
    }

    /// Holds a key's value against a least value; infinity is none.
    pub fn at_least(&mut self, key: &str, value: f64, least: f64) {
        if !(value.is_finite() && value >= least) {
            self.refuse(format!("{key} = {value} must be a finite number, at least {least}"));
        }
    }

    /// Holds that a key's value is above 0; infinity is none.
    pub fn positive(&mut self, key: &str, value: f64) {
        if !(value.is_finite() && value > 0.0) {
            self.refuse(format!("{key} = {value} must be a finite number above 0"));
        }
    }

    /// Notes a fault, which names its key.
    pub fn refuse(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// All faults so far, or none.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] with every fault, a line each.
    pub fn check(&self) -> Result<()> {
        if self.faults.is_empty() { Ok(()) } else { Err(PipelineError::Usage(self.faults.join("\n"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_with_its_key() {
        let mut ranges = Ranges::default();
        ranges.within("a.b", 3, 1..=3);
        ranges.at_least("a.c", 0.0, 0.0);
        ranges.check().expect("all hold");
        ranges.within("a.b", 0, 1..=3);
        ranges.within("a.d", f64::NAN, 0.0..=1.0);
        ranges.at_least("a.e", f64::INFINITY, 0.0);
        ranges.positive("a.f", 0.0);
        ranges.count_at_least("a.g", 1, 1);
        ranges.count_at_least("a.h", 0, 1);
        let error = ranges.check().expect_err("five do not hold");
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert_eq!(text.lines().count(), 5);
        assert!(text.ends_with("a.h = 0 must be at least 1"), "{text}");
        assert!(text.starts_with("a.b = 0 must be 1 to 3\na.d = NaN must be 0 to 1\n"), "{text}");
    }
}
