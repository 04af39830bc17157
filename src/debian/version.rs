//! The order of versions (`deb-version(7)`, "Sorting algorithm").

use std::cmp::Ordering;

/// Which of two versions is the later one.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_rest) = epoch(a);
    let (b_epoch, b_rest) = epoch(b);
    let (a_upstream, a_revision) = revision(a_rest);
    let (b_upstream, b_revision) = revision(b_rest);
    number(a_epoch, b_epoch)
        .then_with(|| part(a_upstream, b_upstream))
        .then_with(|| part(a_revision, b_revision))
}

/// The version without Debian's part of it.
pub(crate) fn upstream(version: &str) -> &str {
    revision(epoch(version).1).0
}

fn epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("0", version))
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, "0"))
}

/// By turns what is no digit, letters before all others and `~` before even the end, and what is a number.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let words =
            (take(&mut a, |byte| !byte.is_ascii_digit()), take(&mut b, |byte| !byte.is_ascii_digit()));
        let longest = words.0.len().max(words.1.len());
        let weights =
            |word: &str| (0..=longest).map(|at| weight(word.as_bytes().get(at))).collect::<Vec<_>>();
        let numbers = (take(&mut a, u8::is_ascii_digit), take(&mut b, u8::is_ascii_digit));
        match weights(words.0).cmp(&weights(words.1)).then_with(|| number(numbers.0, numbers.1)) {
            Ordering::Equal => {}
            decided => return decided,
        }
    }
    Ordering::Equal
}

fn take<'a>(text: &mut &'a str, wanted: impl Fn(&u8) -> bool) -> &'a str {
    let end = text.bytes().position(|byte| !wanted(&byte)).unwrap_or(text.len());
    // What is taken ends before or after an ASCII digit, never within a character.
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Numbers of any length.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_the_manual_says() {
        let sorted = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0+",
            "1.0~rc1-1",
            "1.0-1~bpo12+1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-2",
            "1.0+dfsg-1",
            "1.2",
            "1.10",
            "1.010.1",
            "2:0.1",
            "10:0",
        ];
        for (at, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), at.cmp(&other), "{a} {b}");
            }
        }
        assert_eq!(compare("0:1-0", "1"), Ordering::Equal);
        assert_eq!(compare("1.00-1", "1.0-01"), Ordering::Equal);
        assert_eq!(compare("a\u{e9}1", "a\u{e9}2"), Ordering::Less);
    }
}
