//! Mutations of a text: of its bytes, of TOML's tokens, of its lines, and with pieces of another text.

/// `SplitMix64`: small, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    #[allow(clippy::cast_possible_truncation, reason = "the remainder fits")]
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Values of every type, at the edges of what is allowed.
const VALUES: &[&str] = &[
    "0",
    "1",
    "-1",
    "65535",
    "65536",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999",
    "1e400",
    "-0.0",
    "nan",
    "inf",
    "true",
    "false",
    "[]",
    "{}",
    "\"\"",
    "''",
    "1979-05-27",
    "07:32:00",
    "0x7f",
    "0o17",
    "\"\\u0000\"",
    "\"\\u001b[2J\"",
    "\"\\u202e\"",
    "\"$HOME\"",
    "\"$$HOME\"",
    "\"{{ db_password }}\"",
    "\"{{\"",
    "\"../x\"",
    "\"/etc\"",
    "\"a\\nb\"",
    "\"512m\"",
    "\"8e3\"",
    "\"30s\"",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "\"db\"",
    "\"web\"",
    "\"postgres:16\"",
    "[\"db\", \"web\"]",
    "[[1, 2], [3]]",
    "{ a = { b = 1 } }",
    "\"é\"",
    "\"\\U0010ffff\"",
];

const PIECES: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\n",
    "\r\n",
    "\r",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\\",
    "\0",
    "\t",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "é",
    "extends = 'base.toml'\n",
    "extends = ['sound.toml', 'sound.toml']\n",
    "allow = [{ lint = 'no-limits', reason = 'x' }]\n",
    "\n[services.web]\n",
    "\n[services.\"\"]\n",
    "\n[firewall]\n",
    "\n[redis]\n",
    "\n[postgres]\n",
    "\n[proxy]\n",
    "\n[secrets.a]\n",
    "\n[routes.a]\n",
    "\n[droplet]\n",
    "\n[registry]\n",
    "\n[networks]\n",
    "\n[switch]\n",
];

/// A text that differs from `text` in one to six places; `donor` gives pieces.
pub(crate) fn text(text: &str, donor: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(6) {
        text = match random.below(10) {
            0 => insert(&text, random),
            1 => delete(&text, random),
            2 => flip(&text, random),
            3 | 4 => value(&text, random),
            5 => swap_tokens(&text, random),
            6 => lines(&text, random, None),
            7 => lines(&text, random, Some(donor)),
            8 => header(&text, random),
            _ => repeat(&text, random),
        };
    }
    text
}

/// A place between two characters.
fn place(text: &str, random: &mut Random) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn span(text: &str, longest: usize, random: &mut Random) -> (usize, usize) {
    let start = place(text, random);
    let mut end = (start + 1 + random.below(longest)).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    (start, end)
}

fn insert(text: &str, random: &mut Random) -> String {
    let at = place(text, random);
    format!("{}{}{}", &text[..at], random.pick(PIECES), &text[at..])
}

fn delete(text: &str, random: &mut Random) -> String {
    let (start, end) = span(text, 40, random);
    format!("{}{}", &text[..start], &text[end..])
}

fn repeat(text: &str, random: &mut Random) -> String {
    let (start, end) = span(text, 300, random);
    format!("{}{}", &text[..end], &text[start..])
}

/// One bit of one byte; where that is no UTF-8, the reader never sees it, so it becomes U+FFFD.
fn flip(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.is_empty() {
        return String::new();
    }
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The tokens of TOML, roughly: strings, words, blanks, and everything else one by one.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || "-_+.:".contains(c);
        let length = match first {
            '"' | '\'' => rest[1..].find([first, '\n']).map_or(rest.len(), |end| end + 2),
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after;
    }
    tokens
}

fn swap_tokens(text: &str, random: &mut Random) -> String {
    let mut tokens = tokens(text);
    if tokens.len() > 1 {
        let (a, b) = (random.below(tokens.len()), random.below(tokens.len()));
        tokens.swap(a, b);
    }
    tokens.concat()
}

/// Another value behind one of the equals signs.
fn value(text: &str, random: &mut Random) -> String {
    let places: Vec<usize> = text.match_indices(" = ").map(|(at, _)| at + 3).collect();
    if places.is_empty() {
        return insert(text, random);
    }
    let start = *random.pick(&places);
    let end = text[start..].find('\n').map_or(text.len(), |end| start + end);
    format!("{}{}{}", &text[..start], random.pick(VALUES), &text[end..])
}

/// A line is taken out, moved, doubled, or taken from a donor.
fn lines(text: &str, random: &mut Random, donor: Option<&str>) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if let Some(donor) = donor {
        let given: Vec<&str> = donor.split_inclusive('\n').collect();
        if !given.is_empty() {
            let start = random.below(given.len());
            let end = (start + 1 + random.below(8)).min(given.len());
            let at = random.below(lines.len() + 1);
            lines.splice(at..at, given[start..end].iter().copied());
        }
        return lines.concat();
    }
    if !lines.is_empty() {
        let taken = lines.remove(random.below(lines.len()));
        for _ in 0..random.below(3) {
            lines.insert(random.below(lines.len() + 1), taken);
        }
    }
    lines.concat()
}

/// A header becomes another of the same text.
fn header(text: &str, random: &mut Random) -> String {
    let headers: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
    if headers.len() < 2 {
        return insert(text, random);
    }
    let (from, to) = (*random.pick(&headers), *random.pick(&headers));
    text.replacen(from, to, 1)
}
