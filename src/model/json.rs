//! Canonical JSON: RFC 8785 with integers only. The one writer of every document whose digest means something.
//!
//! One value has one byte form, and [`from_slice_canonical`] reads no other: two documents with different digests can
//! never mean the same.

mod value;

use serde::Serialize;
use serde::de::DeserializeOwned;

use value::Value;

/// The largest integer that every JSON reader keeps exact: 2^53 − 1 (RFC 7493, section 2.2).
pub const MAX_INTEGER: i128 = (1 << 53) - 1;

/// Why a value has no canonical form, or a text is not one.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalJsonError {
    /// A float. Their spelling is where JSON writers differ.
    #[error("the number {0} is a float; canonical documents have integers only")]
    Float(f64),
    /// An integer that readers with IEEE 754 doubles would round.
    #[error("the number {0} is beyond 2^53 - 1")]
    Integer(i128),
    /// An object key that is not a string.
    #[error("an object key is not a string")]
    Key,
    /// The same key twice in one object.
    #[error("the key `{0}` stands twice in one object")]
    DuplicateKey(String),
    /// Raw bytes.
    #[error("raw bytes have no canonical form; they have to be encoded as text first")]
    Bytes,
    /// A type's own `Serialize` failed.
    #[error("{0}")]
    Custom(String),
    /// Not JSON, or not of the expected shape.
    #[error("the document cannot be read")]
    Parse(#[source] serde_json::Error),
    /// The right value in another spelling.
    #[error("the document is not in canonical form (RFC 8785): it differs from its re-encoding at byte {at}")]
    NotCanonical {
        /// Offset of the first byte that differs.
        at: usize,
    },
}

/// The canonical bytes of `value`: UTF-8, no white space, keys in order of their UTF-16 code units.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalJsonError> {
    let value = value.serialize(value::Serializer)?;
    let mut out = String::new();
    write(&value, &mut out, Charset::Utf8);
    Ok(out.into_bytes())
}

/// The same as [`to_vec`] with everything outside ASCII written as `\uXXXX`, for user-data, which passes through
/// programs that guess encodings.
pub fn to_ascii_string<T: Serialize + ?Sized>(value: &T) -> Result<String, CanonicalJsonError> {
    let value = value.serialize(value::Serializer)?;
    let mut out = String::new();
    write(&value, &mut out, Charset::Ascii);
    Ok(out)
}

/// Reads a document and refuses it unless it is byte for byte what [`to_vec`] writes for it. So unknown defaults,
/// duplicate keys, spaces and other orders are refused whatever `T` would have tolerated.
pub fn from_slice_canonical<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, CanonicalJsonError> {
    let value: T = serde_json::from_slice(bytes).map_err(CanonicalJsonError::Parse)?;
    let again = to_vec(&value)?;
    if again == bytes {
        return Ok(value);
    }
    let common = again.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    Err(CanonicalJsonError::NotCanonical { at: common })
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Ascii,
}

fn write(value: &Value, out: &mut String, charset: Charset) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_string(text, out, charset),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out, charset);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key.as_str(), out, charset);
                out.push(':');
                write(member, out, charset);
            }
            out.push('}');
        }
    }
}

/// RFC 8785, section 3.2.2.2: the two-character escapes where there is one, lower-case `\u00xx` for the other control
/// characters, everything else as it is.
fn write_string(text: &str, out: &mut String, charset: Charset) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' || (charset == Charset::Ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str("\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(char::from(HEX[usize::from(*unit >> shift & 0xf)]));
                    }
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::{Value as Json, json};

    use super::*;

    fn text(value: &impl Serialize) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        b: u32,
        a: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        c: Option<u32>,
    }

    #[derive(Serialize)]
    enum Every {
        Unit,
        Newtype(u8),
        Tuple(u8, u8),
        Struct { z: i8, a: i8 },
    }

    #[test]
    fn keys_are_sorted_by_utf16_code_units_as_in_rfc_8785() {
        // RFC 8785, section 3.2.3.
        let names = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"];
        let map: BTreeMap<&str, u8> = names.into_iter().map(|name| (name, 0)).collect();
        assert_eq!(
            text(&map),
            "{\"\\r\":0,\"1\":0,\"\u{80}\":0,\"\u{f6}\":0,\"\u{20ac}\":0,\"\u{1f600}\":0,\"\u{fb33}\":0}"
        );
    }

    #[test]
    fn strings_are_escaped_as_in_rfc_8785() {
        // RFC 8785, section 3.2.2.
        let string = "\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}";
        assert_eq!(text(&string), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\"");
        assert_eq!(to_ascii_string("é\u{1f600}\u{7f}").unwrap(), r#""\u00e9\ud83d\ude00\u007f""#);
    }

    #[test]
    fn every_shape_of_serde_has_its_form() {
        let all = (Every::Unit, Every::Newtype(1), Every::Tuple(1, 2), Every::Struct { z: -1, a: 2 }, ());
        assert_eq!(text(&all), r#"["Unit",{"Newtype":1},{"Tuple":[1,2]},{"Struct":{"a":2,"z":-1}},null]"#);
        assert_eq!(text(&Some('x')), "\"x\"");
    }

    #[test]
    fn floats_and_integers_that_readers_round_are_refused() {
        assert!(matches!(to_vec(&1.0), Err(CanonicalJsonError::Float(_))));
        assert!(matches!(to_vec(&f32::NAN), Err(CanonicalJsonError::Float(_))));
        assert!(matches!(to_vec(&json!({ "a": [1.5] })), Err(CanonicalJsonError::Float(_))));
        assert!(to_vec(&((1_u64 << 53) - 1)).is_ok());
        assert!(matches!(to_vec(&(1_u64 << 53)), Err(CanonicalJsonError::Integer(_))));
        assert!(matches!(to_vec(&-(1_i64 << 53)), Err(CanonicalJsonError::Integer(_))));
    }

    #[test]
    fn keys_that_are_not_strings_are_refused() {
        assert!(matches!(to_vec(&BTreeMap::from([(1, 2)])), Err(CanonicalJsonError::Key)));
        assert!(matches!(to_vec(&BTreeMap::from([(Some(true), 2)])), Err(CanonicalJsonError::Key)));
    }

    #[test]
    fn only_the_one_spelling_of_a_document_is_read() {
        assert_eq!(
            from_slice_canonical::<Pair>(br#"{"a":"x","b":1}"#).unwrap(),
            Pair { b: 1, a: "x".to_owned(), c: None }
        );
        for wrong in [
            r#"{"a":"x", "b":1}"#,
            r#"{"b":1,"a":"x"}"#,
            r#"{"a":"x","b":1}
"#,
            r#"{"a":"x","a":"x","b":1}"#,
            r#"{"a":"x","b":1,"c":null}"#,
            r#"{"a":"x","b":1,"d":1}"#,
            r#"{"a":"\u0078","b":1}"#,
            r#"{"a":"x","b":1.0}"#,
            r#"{"a":"x","b":1e0}"#,
        ] {
            assert!(from_slice_canonical::<Pair>(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(from_slice_canonical::<Json>(br#"{"a":1,"a":1}"#).is_err(), "duplicate keys in a map");
        assert!(from_slice_canonical::<Json>(b"-0").is_err());
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            (-(1_i64 << 53) + 1..1_i64 << 53).prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            let bytes = to_vec(&value).unwrap();
            prop_assert_eq!(&from_slice_canonical::<Json>(&bytes).unwrap(), &value);
            let ascii = to_ascii_string(&value).unwrap();
            prop_assert!(ascii.is_ascii());
            prop_assert_eq!(&serde_json::from_str::<Json>(&ascii).unwrap(), &value);
        }

        #[test]
        fn a_flipped_bit_is_refused_or_another_value(value in any_json(), at: prop::sample::Index, bit in 0..8) {
            let mut bytes = to_vec(&value).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            if let Ok(other) = from_slice_canonical::<Json>(&bytes) {
                prop_assert_ne!(other, value);
            }
        }
    }
}
