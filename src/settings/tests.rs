//! Settings are read, checked against their bounds, and written back.
#![allow(clippy::unwrap_used)]
use super::*;
use std::time::Duration;

settings! {
    /// Settings of every form that is a number.
    struct Sample under "Sample" {
        /// A time.
        patience as "patience": Duration = Duration::from_secs(60), "SECONDS";
        /// A time above zero.
        pause as "pause": Option<Minutes> = None, "MINUTES", Range::above(0.0);
        /// A share.
        share as "share": f64 = 0.5, "0..1", Range::between(0.0, 1.0).of("the share");
        /// A number. [default: some]
        count as "count": usize = 3, "N", Range::at_least(1.0);
        /// A size.
        room as "room": ByteSize = ByteSize::gib(8), "SIZE", Range::at_least(1.0);
        /// Whether.
        really as "really": bool = false, "BOOL";
    }
    nested {
        /// More.
        more: More;
    }
    beside {
        /// No setting.
        seed: u64 = 7;
    }
}

settings! {
    /// Nested settings.
    struct More {
        /// A time.
        rest as "rest": Duration = Duration::ZERO, "SECONDS";
    }
}

fn sample(toml: &str) -> Result<Sample, String> {
    toml::from_str(toml).map_err(|error| error.message().to_owned())
}

#[test]
fn times_are_written_as_people_write_them() {
    for (text, seconds) in [
        ("90", 90.0),
        ("2.5", 2.5),
        ("\"90\"", 90.0),
        ("\"90s\"", 90.0),
        ("\"5m\"", 300.0),
        ("\"1h 30m\"", 5400.0),
        ("\"250ms\"", 0.25),
        ("0", 0.0),
    ] {
        let sample = sample(&format!("patience = {text}\nrest = {text}")).unwrap();
        let time = Duration::from_secs_f64(seconds);
        assert_eq!([sample.patience, sample.more.rest], [time, time], "{text}");
    }
    // Of a number alone the unit is the setting's; what has one of its own is what it says.
    for (text, seconds) in [("2", 120), ("0.5", 30), ("\"2\"", 120), ("\"90s\"", 90), ("\"100s\"", 100)] {
        let pause = sample(&format!("pause = {text}")).unwrap().pause;
        assert_eq!(pause, Some(Minutes(Duration::from_secs(seconds))), "{text}");
    }
    for text in ["\"soon\"", "\"5 fortnights\"", "\"\"", "true", "[1]"] {
        let error = sample(&format!("patience = {text}")).unwrap_err();
        assert!(error.contains("patience: ") && error.contains("90s"), "{error}");
    }
}

#[test]
fn what_is_rounded_is_checked_as_it_will_be_used() {
    let error = sample("pause = 1e-12").unwrap_err();
    assert!(error.contains("pause = 0.000000000001") && error.contains("above 0"), "{error}");
}

#[test]
fn whole_numbers_beyond_tomls_come_back() {
    let large = Sample { count: usize::MAX, ..Sample::default() };
    assert_eq!(toml::from_str::<Sample>(&toml::to_string(&large).unwrap()).unwrap().count, usize::MAX);
}

#[test]
fn numbers_are_in_their_bounds() {
    for (text, parts) in [
        ("patience = inf", &["patience = inf", "finite"][..]),
        ("patience = nan", &["patience = NaN", "finite"]),
        ("patience = -1", &["patience = -1", "seconds, from 0 to a hundred years"]),
        ("patience = 1e10", &["patience = 10000000000", "a hundred years"]),
        ("rest = \"inf\"", &["rest = inf", "finite"]),
        ("pause = 0", &["pause = 0", "minutes above 0"]),
        ("pause = 1e8", &["pause = 100000000", "a hundred years"]),
        ("share = 1.5", &["share = 1.5", "the share must be between 0 and 1"]),
        ("share = -inf", &["share = -inf", "finite"]),
        ("count = 0", &["count = 0", "at least 1"]),
        ("count = -1", &["count", "not negative"]),
        ("room = \"0\"", &["room = 0", "at least 1 B"]),
        ("room = \"much\"", &["room = much", "8GiB"]),
        ("others = 1", &["no setting `others`"]),
    ] {
        let error = sample(text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
    let wrong = Sample { more: More { rest: Duration::from_secs(u64::MAX) }, ..Sample::default() };
    assert_eq!(wrong.check().unwrap_err().key, "rest");
    Sample::default().check().unwrap();
}

#[test]
fn settings_are_the_same_after_being_written_and_read() {
    let other = Sample {
        patience: Duration::from_millis(1500),
        pause: Some(Minutes(Duration::from_secs(100))),
        share: 0.1,
        count: usize::MAX >> 1,
        room: ByteSize(500_000_001),
        really: true,
        more: More { rest: Duration::from_secs(1) },
        seed: 7,
    };
    for sample in [Sample::default(), other] {
        assert_eq!(toml::from_str::<Sample>(&toml::to_string(&sample).unwrap()).unwrap(), sample);
        assert_eq!(serde_json::from_str::<Sample>(&serde_json::to_string(&sample).unwrap()).unwrap(), sample);
        // As `--print-config` writes them.
        let lines =
            sample.written().into_iter().map(|(field, written)| format!("{} = {}\n", field.key, written.to_toml()));
        assert_eq!(toml::from_str::<Sample>(&lines.collect::<String>()).unwrap(), sample);
    }
}

#[test]
fn help_has_the_documentation_and_the_default() {
    let help: Vec<String> = Sample::fields().iter().map(Field::help).collect();
    let expected = [
        "A time. [default: 60]",
        "A time above zero.",
        "A share. [default: 0.5]",
        "A number. [default: some]",
        "A size. [default: 8 GiB]",
        "Whether.",
        "A time. [default: 0]",
    ];
    assert_eq!(help, expected);
    assert_eq!(Sample::fields().iter().map(|field| field.heading).filter(Option::is_none).count(), 1);
}
