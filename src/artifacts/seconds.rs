//! Stretches of time in tables of kinds, in the spelling of Compose and systemd: `10s`, `5m`, `1h`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// Whole seconds, from 1 to a day: a whole number and one unit, `s`, `m` or `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Seconds(u32);

/// A text that is not such a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time from one second to a day: a whole number and a unit, as in `10s`, `5m` or `1h`")]
pub struct ParseSecondsError(String);

impl Seconds {
    /// So many seconds, at least one.
    pub const fn new(seconds: u32) -> Self {
        Self(if seconds == 0 { 1 } else { seconds })
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+[smh]$" })
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Seconds {
    type Err = ParseSecondsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSecondsError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: u32 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(error()),
        };
        let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
        seconds.filter(|seconds| (1..=86_400).contains(seconds)).map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for Seconds {
    type Error = ParseSecondsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// As `90s`, which every program reads alike.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_and_a_unit() {
        for (text, written) in [("6s", "6s"), ("2m", "120s"), ("1h", "3600s"), ("24h", "86400s")] {
            assert_eq!(text.parse::<Seconds>().unwrap().to_string(), written);
        }
        for wrong in ["", "6", "s", "0s", "-1s", "1.5s", "25h", "1d", "1h 5m", "9999999999s", "99999999h"] {
            assert!(wrong.parse::<Seconds>().is_err(), "{wrong:?}");
        }
    }
}
