//! One value of a Compose key: checked by its shape and turned into JSON, which the Compose file is written from.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use toml::de::DeValue;

use super::compose_keys::{HEALTHCHECK, Shape};
use super::compose_list;
use super::diagnostics::Diagnostics;
use super::read::{Fields, as_integer, as_string, as_table, parse, unknown, wrong_type};
use super::source::{Span, Value};
use super::units::{Bytes, Duration};

/// The value of a modelled key, or a report.
pub(crate) fn shaped(faults: &mut Diagnostics, what: &str, value: &Value<'_>, shape: Shape) -> Option<Json> {
    match shape {
        Shape::Flag => match value.get_ref().as_bool() {
            Some(flag) => Some(flag.into()),
            None => wrong(faults, what, value, "a boolean"),
        },
        Shape::Number(least) => {
            let number = as_integer(faults, what, value)?;
            let good = *number.get_ref() >= least;
            if !good {
                faults.error(number.span(), format!("{what} must be at least {least}"));
            }
            good.then(|| (*number.get_ref()).into())
        }
        Shape::Range(least, most) => {
            let number = as_integer(faults, what, value)?;
            let good = (least..=most).contains(number.get_ref());
            if !good {
                faults.error(number.span(), format!("{what} must be between {least} and {most}"));
            }
            good.then(|| (*number.get_ref()).into())
        }
        Shape::Decimal => decimal(faults, what, value),
        Shape::Size => sized(faults, what, value),
        Shape::Time => {
            if !value.get_ref().is_str() {
                return wrong(faults, what, value, "a duration such as `\"30s\"`");
            }
            let text = as_string(faults, what, value)?;
            parse::<Duration>(faults, &text).map(|_| text.into_inner().into())
        }
        Shape::Text | Shape::Path | Shape::Signal => text(faults, what, value, shape),
        Shape::Strings => strings(faults, what, value, Shape::Text),
        Shape::Scalars => compose_list::scalars(faults, what, value),
        Shape::Addresses => compose_list::addresses(faults, what, value),
        Shape::ExtraHosts => compose_list::extra_hosts(faults, what, value),
        Shape::Capabilities => compose_list::capabilities(faults, what, value),
        Shape::Devices => compose_list::devices(faults, what, value),
        Shape::Words | Shape::Tmpfs if value.get_ref().is_array() => {
            strings(faults, what, value, if shape == Shape::Tmpfs { Shape::Path } else { Shape::Text })
        }
        Shape::Words | Shape::Tmpfs if !value.get_ref().is_str() => {
            wrong(faults, what, value, "a string or a list of strings")
        }
        Shape::Words => text(faults, what, value, Shape::Text),
        Shape::Tmpfs => text(faults, what, value, Shape::Path),
        Shape::Pairs => pairs(faults, what, value).map(object),
        Shape::Sysctls => {
            let pairs = pairs(faults, what, value)?;
            compose_list::own_namespace(faults, what, &pairs);
            Some(object(pairs))
        }
        Shape::Healthcheck => healthcheck(faults, what, value),
        Shape::Ulimits => ulimits(faults, what, value),
    }
}

fn object(pairs: Vec<(String, Span, String)>) -> Json {
    Json::Object(pairs.into_iter().map(|(key, _, value)| (key, value.into())).collect())
}

pub(super) fn wrong<T>(faults: &mut Diagnostics, what: &str, value: &Value<'_>, expected: &str) -> Option<T> {
    wrong_type(faults, what, value, expected);
    None
}

pub(super) fn text(faults: &mut Diagnostics, what: &str, value: &Value<'_>, shape: Shape) -> Option<Json> {
    let text = as_string(faults, what, value)?;
    let good = match shape {
        Shape::Path => {
            // `tmpfs` has options behind a colon.
            let path = text.get_ref().split(':').next().unwrap_or_default();
            path.starts_with('/') && path.split('/').all(|part| part != "..")
        }
        Shape::Signal => {
            let name = text.get_ref();
            (name.starts_with("SIG")
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"+-".contains(&b)))
                || name.parse::<u8>().is_ok()
        }
        _ => true,
    };
    if !good {
        let rule =
            if shape == Shape::Path { "an absolute path without `..`" } else { "a signal such as `SIGTERM`" };
        faults.error(text.span(), format!("{what} must be {rule}, not `{}`", text.get_ref()));
        return None;
    }
    spelled(faults, text.span(), text.get_ref()).map(Json::from)
}

fn strings(faults: &mut Diagnostics, what: &str, value: &Value<'_>, shape: Shape) -> Option<Json> {
    let Some(items) = value.get_ref().as_array() else {
        return wrong(faults, what, value, "a list of strings");
    };
    let what = format!("an item of {what}");
    let list: Vec<Json> = items.iter().filter_map(|item| text(faults, &what, item, shape)).collect();
    (list.len() == items.len()).then_some(Json::Array(list))
}

/// `cpus`: as text, because a bundle's canonical JSON has integers only (RFC 8785 would allow floats, and every
/// implementation would have to agree on their shortest form). 0 means no limit (Compose specification, `cpus`).
fn decimal(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        DeValue::Float(float) => float.as_str(),
        _ => return wrong(faults, what, value, "a number or a string"),
    };
    let good = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.parse::<f64>().is_ok_and(|number| (0.0..1024.0).contains(&number));
    if !good {
        faults.error(value.span(), format!("{what} must be a decimal number such as `0.5`, not `{text}`"));
    }
    good.then(|| text.into())
}

fn sized(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    if value.get_ref().is_integer() {
        return shaped(faults, what, value, Shape::Number(1));
    }
    if !value.get_ref().is_str() {
        return wrong(faults, what, value, "a size such as `\"512m\"`");
    }
    let text = as_string(faults, what, value)?;
    parse::<Bytes>(faults, &text).map(|_| text.into_inner().into())
}

/// The bytes that a checked size means.
pub(crate) fn bytes(size: &Json) -> Option<u64> {
    match size {
        Json::String(text) => text.parse::<Bytes>().ok().map(|bytes| bytes.0),
        other => other.as_u64(),
    }
}

/// A table, or a list of `KEY=VALUE`, as pairs with their places, for a Compose file.
pub(crate) fn pairs(
    faults: &mut Diagnostics,
    what: &str,
    value: &Value<'_>,
) -> Option<Vec<(String, Span, String)>> {
    let pairs = literal_pairs(faults, what, value)?;
    let spelled = |(key, span, text): (String, Span, String)| {
        let text = spelled(faults, span.clone(), &text)?;
        Some((key, span, text))
    };
    Some(pairs.into_iter().filter_map(spelled).collect())
}

/// The same for what Compose does not look into: a `$` is a `$`.
pub(crate) fn literal_pairs(
    faults: &mut Diagnostics,
    what: &str,
    value: &Value<'_>,
) -> Option<Vec<(String, Span, String)>> {
    let mut pairs: Vec<(String, Span, String)> = Vec::new();
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                let Some(text) = scalar(faults, &format!("`{}` in {what}", key.get_ref()), value) else {
                    continue;
                };
                pairs.push((key.get_ref().to_string(), value.span(), text));
            }
        }
        DeValue::Array(items) => {
            for item in items {
                let Some(text) = item.get_ref().as_str() else {
                    wrong_type(faults, &format!("an item of {what}"), item, "a string");
                    continue;
                };
                let Some((key, value)) = text.split_once('=') else {
                    faults
                        .error(item.span(), format!("`{text}` in {what} has no value"))
                        .help("write `KEY=VALUE`; a value of the machine that builds is never taken");
                    continue;
                };
                if let Some(first) = seen.insert(key, item.span()) {
                    faults.error(item.span(), format!("{what} has `{key}` twice")).also(first, "first here");
                    continue;
                }
                pairs.push((key.to_owned(), item.span(), value.to_owned()));
            }
        }
        _ => return wrong(faults, what, value, "a table or a list of `KEY=VALUE`"),
    }
    pairs.retain(|(key, span, text)| {
        let sound = !(key.is_empty() || key.contains(['=', '\0']) || text.contains('\0'));
        if !sound {
            let message = format!("{what} has an empty name, or one with `=`, or a NUL in it");
            faults.error(span.clone(), message);
        }
        sound
    });
    Some(pairs)
}

fn scalar(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str().to_owned()),
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => wrong(faults, what, value, "a string, a decimal number or a boolean"),
    }
}

fn healthcheck(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let table = as_table(faults, what, value)?;
    let mut fields = Fields::new(what, table, faults);
    let mut object = Map::new();
    for &(key, shape, _) in HEALTHCHECK {
        let Some(value) = fields.get(key) else { continue };
        let name = fields.name_of(key);
        let json = shaped(fields.faults, &name, value, shape);
        if let (Some(Json::Array(words)), "test") = (&json, key)
            && !matches!(words.first().and_then(Json::as_str), Some("CMD" | "CMD-SHELL" | "NONE"))
        {
            fields
                .faults
                .error(value.span(), "a healthcheck's `test` must begin with `CMD`, `CMD-SHELL` or `NONE`")
                .help("write `[\"CMD\", \"program\", \"argument\"]`");
        }
        object.extend(json.map(|json| (key.to_owned(), json)));
    }
    if !table.contains_key("test") && !table.contains_key("disable") {
        fields.require("test", Some(value.span()), "`test = [\"CMD\", \"program\", \"argument\"]`");
    }
    fields.finish();
    Some(Json::Object(object))
}

/// The names of limits (docker/go-units, `ulimit.go`; getrlimit(2)).
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn ulimits(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let table = as_table(faults, what, value)?;
    let mut object = Map::new();
    for (key, value) in table {
        let name = format!("{}.{}`", what.trim_end_matches('`'), key.get_ref());
        if !LIMITS.contains(&&**key.get_ref()) {
            let message = format!("unknown limit `{}` in {what}", key.get_ref());
            unknown(faults, key.span(), &message, key.get_ref(), &LIMITS.into());
            continue;
        }
        let limit = match value.get_ref() {
            DeValue::Table(pair) => {
                let mut fields = Fields::new(name, pair, faults);
                let mut limits = Map::new();
                for key in ["soft", "hard"] {
                    fields.require(key, Some(value.span()), "both `soft` and `hard`");
                    limits.extend(
                        fields.integer(key).map(|number| (key.to_owned(), number.into_inner().into())),
                    );
                }
                fields.finish();
                let limit = |key: &str| limits.get(key).and_then(Json::as_i64);
                if let (Some(soft), Some(hard)) = (limit("soft"), limit("hard"))
                    && hard >= 0
                    && !(0..=hard).contains(&soft)
                {
                    faults.error(value.span(), format!("{what} has a soft limit above the hard one"));
                }
                Some(Json::Object(limits))
            }
            _ => shaped(faults, &name, value, Shape::Number(-1)),
        };
        object.extend(limit.map(|limit| (key.get_ref().to_string(), limit)));
    }
    Some(Json::Object(object))
}

/// A value that the schema does not model, as it is.
pub(crate) fn untouched(faults: &mut Diagnostics, value: &Value<'_>) -> Option<Json> {
    match value.get_ref() {
        DeValue::String(text) => spelled(faults, value.span(), text).map(Json::from),
        DeValue::Integer(_) => {
            as_integer(faults, "the value", value).map(|number| number.into_inner().into())
        }
        DeValue::Boolean(flag) => Some((*flag).into()),
        DeValue::Array(items) => {
            Some(Json::Array(items.iter().filter_map(|item| untouched(faults, item)).collect()))
        }
        DeValue::Table(table) => Some(Json::Object(
            table
                .iter()
                .filter_map(|(key, value)| Some((key.get_ref().to_string(), untouched(faults, value)?)))
                .collect(),
        )),
        DeValue::Float(_) | DeValue::Datetime(_) => {
            faults
                .error(value.span(), "floats, dates and times are not carried over to Compose")
                .help("write it as a string");
            None
        }
    }
}

/// A text that Compose takes as it stands: `$$` for a dollar sign. A single `$` is refused, because Compose would fill it
/// in from the environment of whoever runs it (Compose specification, "Interpolation"), and the same bundle would mean
/// two things.
pub(crate) fn spelled(faults: &mut Diagnostics, span: Span, text: &str) -> Option<String> {
    if text.replace("$$", "").contains('$') {
        faults
            .error(span, "Compose would fill in `$` from the environment of the machine that it runs on")
            .help("write `$$` for a dollar sign, as in a Compose file");
        return None;
    }
    Some(text.to_owned())
}
