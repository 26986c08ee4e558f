//! An event with the time at which it happened.

use crate::node::Event;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// An event with its time: what a line of `--json` is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TimedEvent {
    /// When it happened, by this machine's clock: RFC 3339 with milliseconds, UTC.
    #[serde(with = "rfc_3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Times as RFC 3339 with milliseconds, UTC.
pub(crate) mod rfc_3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::{borrow::Cow, time::SystemTime};

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}
