//! Whatever somebody writes, the answer is a spec or diagnostics, never a panic.

use bundle::profile::{Sources, check};
use proptest::prelude::*;

use crate::kinds::KINDS;

const FILES: [(&str, &str); 3] = [
    ("profiles/production.toml", include_str!("../../profiles/production.toml")),
    ("profiles/base.toml", include_str!("../../profiles/base.toml")),
    ("profiles/bundle.lock", include_str!("../../profiles/bundle.lock")),
];

/// Pieces that mean something to TOML, to a template, to Compose or to the renderer of diagnostics.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "\n",
    "\r\n",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "{{",
    "}}",
    "=",
    ".",
    ",",
    "#",
    "\\",
    "\\u001b",
    "é",
    "\u{feff}",
    "\u{202e}",
    "\t",
    "\0",
    "$",
    "-1",
    "99999999999999999999",
    "0x",
    "1e400",
    "nan",
    "true",
    "1979-05-27",
    "[]",
    "{}",
    "extends = 'base.toml'",
    "[services]",
    "[services.postgres]",
    "[secrets]",
    "/",
    ":",
    "@sha256:",
    "|",
];

#[derive(Debug, Clone)]
enum Mutation {
    Insert(usize, usize),
    Delete(usize, usize),
    Swap(usize, usize),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..20_000_usize;
    prop_oneof![
        (at.clone(), 0..PIECES.len()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at.clone(), 1..40_usize).prop_map(|(at, length)| Mutation::Delete(at, length)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (at, 1..400_usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
    ]
}

impl Mutation {
    fn apply(&self, text: &mut Vec<char>) {
        let length = text.len().max(1);
        match *self {
            Self::Insert(at, piece) => {
                let at = at % length;
                text.splice(at..at, PIECES[piece].chars());
            }
            Self::Delete(at, count) => {
                let at = at % length;
                text.drain(at..(at + count).min(text.len()));
            }
            Self::Swap(a, b) if !text.is_empty() => text.swap(a % length, b % length),
            Self::Swap(..) => {}
            Self::Repeat(at, count) => {
                let at = at % length;
                let piece: Vec<char> = text[at..(at + count).min(text.len())].to_vec();
                text.splice(at..at, piece);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(file in 0..FILES.len(), mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut sources = Sources::new("profiles/production.toml");
        for (nth, (path, text)) in FILES.iter().enumerate() {
            let mut chars: Vec<char> = text.chars().collect();
            if nth == file {
                for mutation in &mutations {
 mutation.apply(&mut chars);
}
            }
            sources.add(path, &chars.into_iter().collect::<String>());
        }
        match check(&sources, KINDS) {
            Ok(resolved) => prop_assert!(!resolved.warnings.has_errors()),
            Err(faults) => {
                let text = faults.render(false);
                prop_assert!(faults.has_errors());
                prop_assert!(!text.contains('\u{1b}'), "{text}");
                prop_assert_eq!(text, check(&sources, KINDS).unwrap_err().render(false));
            }
        }
    }
}
