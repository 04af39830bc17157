//! `[images.NAME]` and `[debian]`: the project's own images, and where their Debian packages come from.

mod config;
mod debian;
mod dockerfile;

use std::str::FromStr;

use toml::Spanned;

use crate::model::Pattern;
use crate::spec::{Base, Copy, ImageDirectory, ImageLink, ImageRecipe, ImageUser, ModeRule, Owner};

use super::diagnostics::Diagnostics;
use super::read::{Fields, as_array, as_table, key_text};
use super::schema::Profile;
use super::source::{Span, Table, resolve_path};
use super::units::ImageReference;

pub(crate) use debian::read as debian;
pub(crate) use dockerfile::{PlacedDockerfile, ignored, named as dockerfiles};

/// A recipe and its place.
#[derive(Debug, Clone)]
pub(crate) struct PlacedImage {
    /// The place of its name.
    pub(crate) span: Span,
    /// The image that it is built on, if that is one in a registry; the lock knows its digest.
    pub(crate) base: Option<Spanned<ImageReference>>,
    /// Nothing says what is in it.
    pub(crate) empty: bool,
    /// The Dockerfile that makes it, instead of all the rest.
    pub(crate) dockerfile: Option<PlacedDockerfile>,
    /// The rest. Its base is `Scratch` where [`PlacedImage::base`] has to be asked.
    pub(crate) recipe: ImageRecipe,
}

/// In the words of OCI (image-spec, `config.md`, from Go's `GOARCH`), and as platforms are written.
const PLATFORMS: [(&str, &str); 2] = [("linux/amd64", "amd64"), ("linux/arm64", "arm64")];

/// Reads one recipe.
pub(crate) fn read(
    name: &str,
    span: Span,
    table: &Table<'_>,
    faults: &mut Diagnostics,
) -> Option<PlacedImage> {
    let what = format!("images.{}", key_text(name));
    let mut fields = Fields::new(format!("`{what}`"), table, faults);
    let base = match fields.string("base") {
        Some(text) => base(&text, fields.faults)?,
        None => (Base::Scratch, None),
    };
    let mut recipe = ImageRecipe {
        base: base.0,
        packages: names(&mut fields, "packages", is_package, "is not the name of a Debian package"),
        accept_scripts: names(
            &mut fields,
            "accept_scripts",
            is_package,
            "is not the name of a Debian package",
        ),
        exclude: exclude(&mut fields),
        layers: items(&mut fields, "layers", &what, copy),
        users: items(&mut fields, "users", &what, user),
        directories: items(&mut fields, "directories", &what, directory),
        links: items(&mut fields, "links", &what, link),
        config: config::read(&mut fields),
        architectures: platforms(&mut fields),
    };
    let dockerfile = dockerfile::read(&mut fields, table, &recipe.architectures);
    fields.finish();
    let empty = ["base", "packages", "layers", "dockerfile"].iter().all(|key| !table.contains_key(*key));
    if dockerfile.is_some() {
        // Whatever else is there has been refused, and nothing more is asked of it.
        recipe.packages.clear();
        return Some(PlacedImage { span, base: None, empty, dockerfile, recipe });
    }
    Some(PlacedImage { span, base: base.1, empty, dockerfile, recipe })
}

/// What an image is built on: `scratch`, `layout:DIR`, `layout:DIR:TAG`, `rootfs:FILE`, or an image of a registry.
fn base(text: &Spanned<String>, faults: &mut Diagnostics) -> Option<(Base, Option<Spanned<ImageReference>>)> {
    let from = faults.sources().at(text.span().start)?.path.clone();
    let file = |path: &str| resolve_path(&from, path).into();
    let value = text.get_ref();
    if value == "scratch" {
        return Some((Base::Scratch, None));
    }
    if let Some(path) = value.strip_prefix("rootfs:") {
        return Some((Base::Rootfs { path: file(path) }, None));
    }
    if let Some(rest) = value.strip_prefix("layout:") {
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        return Some((Base::Layout { path: file(path), tag }, None));
    }
    match value.parse::<ImageReference>() {
        Ok(reference) => Some((Base::Scratch, Some(Spanned::new(text.span(), reference)))),
        Err(error) => {
            faults
                .error(text.span(), error.to_string())
                .help("a base is `NAME:TAG`, `scratch`, `layout:DIRECTORY` or `rootfs:FILE.tar`");
            None
        }
    }
}

/// The tables in the array under `key`, each by `read`.
fn items<T>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    what: &str,
    read: impl Fn(&mut Fields<'_, '_>, Span) -> Option<T>,
) -> Vec<T> {
    let Some(value) = fields.get(key) else { return Vec::new() };
    let name = format!("`{what}.{key}`");
    let mut all = Vec::new();
    for item in as_array(fields.faults, &name, value).unwrap_or_default() {
        let Some(table) = as_table(fields.faults, &format!("an item of {name}"), item) else { continue };
        let mut one = Fields::new(name.clone(), table, fields.faults);
        all.extend(read(&mut one, item.span()));
        one.finish();
    }
    all
}

fn copy(fields: &mut Fields<'_, '_>, span: Span) -> Option<Copy> {
    fields.require("from", Some(span.clone()), "`from = \"app\"`, a directory or a file");
    fields.require("to", Some(span), "`to = \"/app\"`");
    let from = fields.string("from");
    let to = absolute(fields, "to");
    let owner = match fields.string("owner") {
        Some(text) if text.get_ref() == "keep" => Some(Owner::Keep),
        Some(text) => ids(fields, &text).map(|(uid, gid)| Owner::Fixed { uid, gid }),
        None => Some(Owner::default()),
    };
    let copy = Copy {
        include: fields.list("include").into_iter().map(Spanned::into_inner).collect(),
        exclude: fields.list("exclude").into_iter().map(Spanned::into_inner).collect(),
        file_mode: mode_rule(fields, "file_mode"),
        dir_mode: mode_rule(fields, "dir_mode"),
        ..Copy::default()
    };
    let from = from?;
    let file = fields.faults.sources().at(from.span().start)?.path.clone();
    Some(Copy { from: resolve_path(&file, from.get_ref()).into(), to: to?, owner: owner?, ..copy })
}

fn user(fields: &mut Fields<'_, '_>, span: Span) -> Option<ImageUser> {
    fields.require("name", Some(span.clone()), "`name = \"app\"`");
    fields.require("uid", Some(span), "`uid = 10001`");
    let name = fields.string("name").filter(|name| {
        // useradd(8), "CAVEATS"; a colon or a line feed would be another field or another user.
        let text = name.get_ref();
        let good = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        if !good {
            fields.faults.error(name.span(), format!("`{text}` is not the name of a user"));
        }
        good
    });
    let uid = number(fields, "uid");
    let gid = if fields.get("gid").is_some() { number(fields, "gid") } else { uid };
    let home = fields.get("home").is_some().then(|| absolute(fields, "home"));
    let shell = fields.get("shell").is_some().then(|| absolute(fields, "shell"));
    Some(ImageUser {
        name: name?.into_inner(),
        uid: uid?,
        gid: gid?,
        home: home.unwrap_or_else(|| Some("/nonexistent".to_owned()))?,
        shell: shell.unwrap_or_else(|| Some("/usr/sbin/nologin".to_owned()))?,
    })
}

fn directory(fields: &mut Fields<'_, '_>, span: Span) -> Option<ImageDirectory> {
    fields.require("path", Some(span), "`path = \"/data\"`");
    let path = absolute(fields, "path");
    let owner = fields.string("owner").map_or(Some((0, 0)), |text| ids(fields, &text));
    let mode = match mode_rule(fields, "mode") {
        ModeRule::Fixed(mode) => mode,
        ModeRule::Plain | ModeRule::Keep => 0o755,
    };
    let (uid, gid) = owner?;
    Some(ImageDirectory { path: path?, uid, gid, mode })
}

fn link(fields: &mut Fields<'_, '_>, span: Span) -> Option<ImageLink> {
    fields.require("path", Some(span.clone()), "`path = \"/usr/bin/x\"`");
    fields.require("target", Some(span), "`target = \"../lib/x\"`");
    let path = absolute(fields, "path");
    let target = fields.string("target").filter(|target| {
        let good = (1..=1024).contains(&target.get_ref().len()) && !target.get_ref().contains('\0');
        if !good {
            fields.faults.error(target.span(), "a link says something, and at most 1024 bytes");
        }
        good
    });
    Some(ImageLink { path: path?, target: target?.into_inner() })
}

/// An absolute, clean path in the image.
fn absolute(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<String> {
    let text = fields.string(key)?;
    let clean =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', ':', '\n']);
    let path = text.get_ref();
    let rest = path.strip_prefix('/');
    if rest == Some("") || rest.is_some_and(|rest| rest.split('/').all(clean) && rest.len() < 1024) {
        return Some(text.into_inner());
    }
    let what = fields.name_of(key);
    fields
        .faults
        .error(text.span(), format!("`{path}` is not a path in an image"))
        .help(format!("{what} is absolute and clean, such as `/app/static`"));
    None
}

/// `UID:GID`.
fn ids(fields: &mut Fields<'_, '_>, text: &Spanned<String>) -> Option<(u32, u32)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| u32::from_str(text).ok())?;
    let parsed = text.get_ref().split_once(':').and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
    if parsed.is_none() {
        fields
            .faults
            .error(text.span(), format!("`{}` is not an owner", text.get_ref()))
            .help("write numbers, `UID:GID`: an image has no names before somebody looks into it");
    }
    parsed
}

fn number(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u32> {
    let number = fields.integer(key)?;
    let parsed = u32::try_from(*number.get_ref()).ok();
    if parsed.is_none() {
        fields
            .faults
            .error(number.span(), format!("`{}` is not a user's or group's number", number.get_ref()));
    }
    parsed
}

/// `"0644"`, `"keep"`, or nothing.
fn mode_rule(fields: &mut Fields<'_, '_>, key: &'static str) -> ModeRule {
    let Some(text) = fields.string(key) else { return ModeRule::Plain };
    if text.get_ref() == "keep" {
        return ModeRule::Keep;
    }
    let octal = text.get_ref().bytes().all(|b| (b'0'..=b'7').contains(&b));
    if let Some(mode) = u16::from_str_radix(text.get_ref(), 8).ok().filter(|mode| octal && *mode <= 0o7777) {
        return ModeRule::Fixed(mode);
    }
    fields
        .faults
        .error(text.span(), format!("`{}` is not a mode", text.get_ref()))
        .help("write octal digits in quotes, such as `\"0644\"`");
    ModeRule::Plain
}

/// Patterns, of which one with `!` in front keeps what those before it leave out.
fn exclude(fields: &mut Fields<'_, '_>) -> Vec<String> {
    let mut all = Vec::new();
    for text in fields.list::<String>("exclude") {
        let pattern = text.get_ref();
        match pattern.strip_prefix('!').unwrap_or(pattern).parse::<Pattern>() {
            Ok(_) => all.push(text.into_inner()),
            Err(error) => drop(fields.faults.error(text.span(), error.to_string())),
        }
    }
    all
}

fn names(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    is: impl Fn(&str) -> bool,
    wrong: &str,
) -> Vec<String> {
    let mut all = Vec::new();
    for item in fields.list::<String>(key) {
        if is(item.get_ref()) {
            all.push(item.into_inner());
        } else {
            fields.faults.error(item.span(), format!("`{}` {wrong}", item.get_ref()));
        }
    }
    all
}

/// Debian policy §5.6.1.
fn is_package(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

fn platforms(fields: &mut Fields<'_, '_>) -> Vec<String> {
    let mut found = Vec::new();
    for platform in fields.list::<String>("platforms") {
        if let Some((_, architecture)) = PLATFORMS.iter().find(|(name, _)| name == platform.get_ref()) {
            found.push((*architecture).to_owned());
            continue;
        }
        let known: Vec<_> = PLATFORMS.iter().map(|(name, _)| format!("`{name}`")).collect();
        fields
            .faults
            .error(platform.span(), format!("`{}` is no platform that is known here", platform.get_ref()))
            .help(format!("known here: {}", known.join(", ")));
    }
    if found.is_empty() { vec!["amd64".to_owned()] } else { found }
}

/// Checks what stands between the recipes and the rest: each image that a service names is there, and has where to go.
pub(crate) fn check(profile: &Profile, faults: &mut Diagnostics) {
    for (name, service) in &profile.services {
        let Some(image) = service.image.as_ref().filter(|image| image.get_ref().built) else { continue };
        let own = &image.get_ref().name;
        if !profile.images.contains_key(own) {
            let fault = faults.error(
                image.span(),
                format!(
                    "`{own}` is not an image: it has neither tag nor digest, and there is no `[images.{own}]`"
                ),
            );
            fault.label(format!("of service `{name}`")).help(
                "write `NAME:TAG` or `NAME@sha256:…` for an image of a registry, or say in `[images.NAME]` how it is made",
            );
        } else if profile.registry.is_none() {
            faults.error(image.span(), format!("nothing says where the image `{own}` goes")).help(
                "give the profile a table `[registry]` with `repository = \"registry.example.com/team/app\"`",
            );
        }
    }
    for (name, image) in &profile.images {
        let recipe = &image.recipe;
        if let Some(base) = &image.base
            && !recipe.packages.is_empty()
        {
            faults
                .error(
                    base.span(),
                    format!("the image `{name}` has both packages and the files of `{}`", base.get_ref()),
                )
                .help(
                    "what the base has installed is not known here: list all packages, and leave `base` out",
                );
        }
        if image.empty {
            faults
                .error(image.span.clone(), format!("the image `{name}` has nothing in it"))
                .help("give it `packages`, `layers`, a `base` or a `dockerfile`");
        }
    }
}
