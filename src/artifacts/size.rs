//! Amounts of memory, in the spelling of Compose: `512m`, `1g`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes. Units are powers of 1024, `b`, `k`, `m`, `g`, each with or without a second `b` (Compose
/// specification, "Specifying byte values"). Programs differ (to Redis `1m` is a million), so none is handed the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

/// A text that is not an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of memory: a whole number and a unit, as in `512m` or `1g`")]
pub struct ParseSizeError(String);

impl Size {
    /// This many bytes.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whole KiB.
    pub const fn kib(self) -> u64 {
        self.0 / 1024
    }

    /// Whole MiB.
    pub const fn mib(self) -> u64 {
        self.0 / (1024 * 1024)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(b|kb?|mb?|gb?)$", "examples": ["256m", "1g"] })
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSizeError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit {
            "b" => 1,
            "k" | "kb" => 1 << 10,
            "m" | "mb" => 1 << 20,
            "g" | "gb" => 1 << 30,
            _ => return Err(error()),
        };
        let number: u64 = number.parse().map_err(|_| error())?;
        number.checked_mul(factor).map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for Size {
    type Error = ParseSizeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes.trailing_zeros() >= 30 => write!(f, "{}g", bytes >> 30),
            bytes if bytes > 0 && bytes.trailing_zeros() >= 20 => write!(f, "{}m", bytes >> 20),
            bytes if bytes > 0 && bytes.trailing_zeros() >= 10 => write!(f, "{}k", bytes >> 10),
            bytes => write!(f, "{bytes}b"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [("7b", 7), ("1k", 1024), ("256mb", 256 << 20), ("1g", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for wrong in ["", "g", "1", "1.5g", "-1m", "1 g", "1G", "1t", "99999999999999999999b", "99999999999g"]
        {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
    }
}
