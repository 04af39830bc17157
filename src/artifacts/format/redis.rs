//! Redis' configuration: a directive and its arguments on a line, quoted as `sdssplitargs` in Redis' `sds.c` reads them.

use super::{Refused, one_line};

/// `redis.conf` while it is written.
#[derive(Debug, Default)]
pub(in crate::artifacts) struct Conf {
    text: String,
}

impl Conf {
    /// Writes a comment, with an empty line above it.
    pub(in crate::artifacts) fn comment(&mut self, text: &'static str) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str("# ");
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// Writes a directive.
    pub(in crate::artifacts) fn set(
        &mut self,
        key: &'static str,
        args: &[&str],
    ) -> Result<&mut Self, Refused> {
        self.text.push_str(key);
        for arg in args {
            self.text.push(' ');
            self.text.push_str(&quoted(arg)?);
        }
        self.text.push('\n');
        Ok(self)
    }

    /// The file.
    pub(in crate::artifacts) fn finish(self) -> String {
        self.text
    }
}

fn quoted(arg: &str) -> Result<String, Refused> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%*".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return Ok(arg.to_owned());
    }
    Ok(format!("\"{}\"", one_line(arg)?.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_stays_one_argument() {
        let mut conf = Conf::default();
        conf.set("save", &[""]).unwrap().set("dir", &["/a b", "q\"\\"]).unwrap();
        assert_eq!(conf.finish(), "save \"\"\ndir \"/a b\" \"q\\\"\\\\\"\n");
        assert!(Conf::default().set("dir", &["/data\nprotected-mode no"]).is_err());
    }
}
