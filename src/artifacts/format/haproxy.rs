//! HAProxy's configuration language: words on lines, quoted as the configuration manual's section 2.2 says.

use super::{Refused, one_line};

/// A configuration while it is written.
#[derive(Debug, Default)]
pub(in crate::artifacts) struct Config {
    text: String,
}

/// A part of a line.
#[derive(Debug, Clone)]
pub(in crate::artifacts) enum Word {
    /// Our own text, of one word or several, as it is.
    Raw(&'static str),
    /// One word from elsewhere.
    Text(String),
    /// One word from elsewhere, where HAProxy expects a log-format string: `%` stands for itself.
    Format(String),
}

/// Our own text.
pub(in crate::artifacts) fn raw(text: &'static str) -> Word {
    Word::Raw(text)
}

/// One word from elsewhere.
pub(in crate::artifacts) fn text(value: &(impl ToString + ?Sized)) -> Word {
    Word::Text(value.to_string())
}

/// One word from elsewhere, where a log-format string is expected.
pub(in crate::artifacts) fn format(value: &(impl ToString + ?Sized)) -> Word {
    Word::Format(value.to_string())
}

impl Config {
    /// Starts a section.
    pub(in crate::artifacts) fn section(&mut self, words: &[Word]) -> Result<&mut Self, Refused> {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.push("", words)
    }

    /// Writes a line into the section.
    pub(in crate::artifacts) fn line(&mut self, words: &[Word]) -> Result<&mut Self, Refused> {
        self.push("    ", words)
    }

    /// Writes one line of our own making, word for word.
    pub(in crate::artifacts) fn own(&mut self, line: &'static str) -> &mut Self {
        self.text.push_str("    ");
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    /// Writes lines of our own making, word for word.
    pub(in crate::artifacts) fn fixed(&mut self, lines: &'static [&'static str]) -> &mut Self {
        for line in lines {
            self.own(line);
        }
        self
    }

    /// Writes a line whose words stand together without a space, as in `nbsrv(name)`.
    pub(in crate::artifacts) fn joined(&mut self, words: &[Word]) -> Result<&mut Self, Refused> {
        let words: Result<Vec<String>, Refused> = words.iter().map(Word::quoted).collect();
        for part in ["    ", &words?.concat(), "\n"] {
            self.text.push_str(part);
        }
        Ok(self)
    }

    /// The file.
    pub(in crate::artifacts) fn finish(self) -> String {
        self.text
    }

    fn push(&mut self, indent: &str, words: &[Word]) -> Result<&mut Self, Refused> {
        let words: Result<Vec<String>, Refused> = words.iter().map(Word::quoted).collect();
        self.text.push_str(indent);
        self.text.push_str(&words?.join(" "));
        self.text.push('\n');
        Ok(self)
    }
}

impl Word {
    fn quoted(&self) -> Result<String, Refused> {
        match self {
            Self::Raw(text) => Ok((*text).to_owned()),
            Self::Text(text) => quoted(text),
            Self::Format(text) => quoted(&text.replace('%', "%%")),
        }
    }
}

/// In single quotes everything is literal; a single quote stands outside of them, behind a backslash.
fn quoted(text: &str) -> Result<String, Refused> {
    let text = one_line(text)?;
    if text.is_empty() {
        return Err(Refused("an empty word ends a line of HAProxy's configuration".to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%?&~[]".contains(c);
    if text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Ok(format!("'{}'", text.replace('\'', "'\\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        let mut config = Config::default();
        config.section(&[raw("backend"), text("a")]).unwrap();
        config
            .line(&[raw("server"), text("a b"), text("it's"), text("#x"), text("$HOME"), format("50%")])
            .unwrap();
        assert_eq!(config.finish(), "backend a\n    server 'a b' 'it'\\''s' '#x' '$HOME' 50%%\n");
    }

    #[test]
    fn a_value_cannot_smuggle_in_a_line() {
        for wrong in ["a\nserver evil 10.0.0.1:80", "", "a\0"] {
            assert!(Config::default().line(&[text(wrong)]).is_err(), "{wrong:?}");
        }
    }
}
