//! The numbers a setting can have, and the error for others.

use super::Form;
use bytesize::ByteSize;

/// The longest time a setting can have: a hundred years, so that no clock overflows.
const MAX_SECONDS: f64 = 3.2e9;

/// Which numbers a setting can be, as they are written: a time in its unit, a size in bytes. Never NaN or an infinity;
/// a time, whatever is said here, never below zero nor above a hundred years.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    least: f64,
    /// Whether `least` itself is not among them.
    above: bool,
    most: f64,
    subject: &'static str,
    words: Option<&'static str>,
}

impl Range {
    /// Every number of its type.
    pub const ANY: Self = Self::at_least(f64::NEG_INFINITY);

    /// This number and all above.
    pub const fn at_least(least: f64) -> Self {
        Self { least, above: false, most: f64::INFINITY, subject: "", words: None }
    }

    /// All numbers above this one.
    pub const fn above(least: f64) -> Self {
        Self { above: true, ..Self::at_least(least) }
    }

    /// From one number to another, both included.
    pub const fn between(least: f64, most: f64) -> Self {
        Self { most, ..Self::at_least(least) }
    }

    /// With what the number is called where it is wrong: `the learning rate`.
    pub const fn of(self, subject: &'static str) -> Self {
        Self { subject, ..self }
    }

    /// With what is said where the number is wrong, if the bounds don't say it well.
    pub const fn worded(self, words: &'static str) -> Self {
        Self { words: Some(words), ..self }
    }

    /// A number that is below all in the range and could be written, if there is such: for those who try the bounds.
    pub fn outside(&self) -> Option<f64> {
        match (self.least.is_finite(), self.above) {
            (false, _) => None,
            (true, true) => Some(self.least),
            (true, false) => Some(self.least - 1.0),
        }
    }

    /// Says in words what would be right if the number isn't.
    pub(super) fn check(&self, form: Form, number: f64) -> Result<(), String> {
        if !number.is_finite() {
            return Err("must be finite".to_owned());
        }
        let longest = match form {
            Form::Seconds => MAX_SECONDS,
            Form::Minutes => MAX_SECONDS / 60.0,
            _ => f64::INFINITY,
        };
        let is_time = longest.is_finite();
        let least = if is_time { self.least.max(0.0) } else { self.least };
        let most = self.most.min(longest);
        let is_enough = if self.above { number > least } else { number >= least };
        if is_enough && number <= most {
            return Ok(());
        }
        if let Some(words) = self.words {
            return Err(words.to_owned());
        }
        let shown = |number: f64| match form {
            Form::Size => ByteSize::b(number as u64).to_string(),
            _ if number == longest => "a hundred years".to_owned(),
            _ => number.to_string(),
        };
        let unit = match form {
            Form::Seconds => "a number of seconds",
            _ => "a number of minutes",
        };
        let must = match (is_time, self.above) {
            (true, true) => format!("must be {unit} above {}, up to {}", shown(least), shown(most)),
            (true, false) => format!("must be {unit}, from {} to {}", shown(least), shown(most)),
            (false, _) if most.is_finite() => format!("must be between {} and {}", shown(least), shown(most)),
            (false, true) => format!("must be above {}", shown(least)),
            (false, false) => format!("must be at least {}", shown(least)),
        };
        Err(if self.subject.is_empty() { must } else { format!("{} {must}", self.subject) })
    }
}
