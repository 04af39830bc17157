//! nginx' configuration: directives and blocks (nginx documentation, "Beginner's Guide", "Configuration File's Structure";
//! quoting as `ngx_conf_read_token` in nginx' `ngx_conf_file.c` reads it).

use super::{Refused, one_line};

/// `nginx.conf` while it is written.
#[derive(Debug, Default)]
pub(in crate::artifacts) struct Conf {
    text: String,
    depth: usize,
}

impl Conf {
    /// Writes a comment, with an empty line above it unless it opens a block.
    pub(in crate::artifacts) fn comment(&mut self, text: &'static str) -> &mut Self {
        if !self.text.is_empty() && !self.text.ends_with("{\n") {
            self.text.push('\n');
        }
        self.line(&format!("# {text}"));
        self
    }

    /// Writes our own directives, each with its semicolon.
    pub(in crate::artifacts) fn fixed(&mut self, lines: &[&'static str]) -> &mut Self {
        for line in lines {
            self.line(line);
        }
        self
    }

    /// Writes a directive whose arguments are values: quoted where they need it, and never a variable.
    pub(in crate::artifacts) fn set(
        &mut self,
        directive: &'static str,
        args: &[&str],
    ) -> Result<&mut Self, Refused> {
        let args: Result<Vec<String>, Refused> = args.iter().map(|arg| quoted(arg)).collect();
        self.line(&format!("{directive} {};", args?.join(" ")));
        Ok(self)
    }

    /// Opens a block, as in `location = /healthz`.
    pub(in crate::artifacts) fn open(
        &mut self,
        block: &'static str,
        args: &[&str],
    ) -> Result<&mut Self, Refused> {
        let mut head = block.to_owned();
        for arg in args {
            head.push(' ');
            head.push_str(&quoted(arg)?);
        }
        self.line(&format!("{head} {{"));
        self.depth += 1;
        Ok(self)
    }

    /// Closes the innermost block.
    pub(in crate::artifacts) fn close(&mut self) -> &mut Self {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
        self
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(&"    ".repeat(self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The file.
    pub(in crate::artifacts) fn finish(self) -> String {
        self.text
    }
}

/// There is no way to write a dollar sign that is none of a variable.
fn quoted(arg: &str) -> Result<String, Refused> {
    if one_line(arg)?.contains('$') {
        return Err(Refused(format!("{arg:?} has a `$`, which would be a variable to nginx")));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%*".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return Ok(arg.to_owned());
    }
    Ok(format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_argument_of_its_directive() {
        let mut conf = Conf::default();
        conf.open("location", &["/a b/"]).unwrap();
        conf.set("add_header", &["X-A", "it is \"so\"; \\ {"]).unwrap().close();
        assert_eq!(
            conf.finish(),
            "location \"/a b/\" {\n    add_header X-A \"it is \\\"so\\\"; \\\\ {\";\n}\n"
        );
        for wrong in ["$remote_addr", "a\nb"] {
            assert!(Conf::default().set("root", &[wrong]).is_err(), "{wrong:?}");
        }
    }
}
