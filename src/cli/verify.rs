//! `bundle verify`

mod rebuilt;

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::profile::{ProfileArgument, Sealed};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::bundle::{ArtifactEntry, Bundle, Layout, Manifest, OpenedBundle};
use crate::image::compare::{self, Comparison, Side};
use crate::image::unpack;
use crate::model::{ImageName, json as canonical};
use crate::registry::{Ref, Repository};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A profile, whose bundle its registry has; a bundle: `repo:tag`, `repo@sha256:…`, `oci:PATH`, `sha256:…`; an image of
    /// a layout: `oci:PATH:TAG`
    #[arg(value_name = "PROFILE|REF")]
    what: String,
    /// Build again from the profile and its lock, and say whether it is the same
    #[arg(long)]
    rebuild: bool,
    /// The profile, if it is not `profiles/NAME.toml` with the name that the bundle has
    #[arg(long, value_name = "PROFILE", requires = "rebuild")]
    profile: Option<String>,
    /// Compare two images of layouts instead: `oci:PATH:TAG`
    #[arg(long, value_name = "IMAGE", conflicts_with = "rebuild")]
    against: Option<String>,
    /// Where a bundle's own digest is looked for
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<Repository>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Code, Failure> {
    if let Some((path, tag)) = image(&arguments.what) {
        return images(context, arguments, &path, &tag);
    }
    if arguments.against.is_some() {
        return Err(Failure::new(Code::Input, "only images of layouts are compared with each other")
            .hint("name both as `oci:PATH:TAG`; a bundle is compared with its profile: `--rebuild`"));
    }
    let (reference, again) = if arguments.what.contains(':') {
        (arguments.what.parse::<Ref>().map_err(|error| Failure::of(Code::Input, &error))?, None)
    } else {
        let profile = ProfileArgument { profile: arguments.what.clone() };
        let sealed = profile.seal(context, &arguments.reach)?;
        (pushed(arguments, &sealed)?, Some((profile, sealed)))
    };
    let directory = tempfile::tempdir().map_err(|error| {
        Failure::new(Code::Refused, format!("no temporary directory for the bundle: {error}"))
    })?;
    let repository = arguments.repository.as_ref();
    let opened = context.fetch(&reference, repository, &arguments.reach, directory.path())?;
    // Every file, not only the archive.
    opened.unpack(|_, _, _| Ok(())).map_err(|error| Failure::of(Code::Refused, &error))?;
    if !arguments.rebuild {
        let json = json!({ "bundle": opened.digest(), "manifest": opened.oci_digest() });
        print(context, json, || format!("every digest is right: {}", opened.digest()));
        return Ok(Code::Done);
    }
    let (profile, sealed) = if let Some(again) = again {
        again
    } else {
        let profile = arguments.profile.clone();
        let profile =
            ProfileArgument { profile: profile.unwrap_or_else(|| opened.manifest().profile.to_string()) };
        let sealed = profile.seal(context, &arguments.reach)?;
        (profile, sealed)
    };
    against(context, &profile, &sealed, &opened, &arguments.reach)
}

/// Where the registry of a profile has its bundle.
fn pushed(arguments: &Arguments, sealed: &Sealed) -> Result<Ref, Failure> {
    let spec = &sealed.resolved.spec;
    let named = arguments.repository.as_ref().map(ToString::to_string);
    let registry = spec.registry.as_ref().map(|registry| registry.repository.clone());
    let repository = named.or(registry).ok_or_else(|| {
        Failure::new(Code::Input, "the profile does not say where its bundle is")
            .hint("name it: `--repository REPOSITORY`")
    })?;
    format!("{repository}:{}", spec.name).parse().map_err(|error| Failure::of(Code::Input, &error))
}

/// Compares what was built again with what is there: first the profile's own images, then the bundle that names them.
fn against(
    context: &Context<'_>,
    profile: &ProfileArgument,
    sealed: &Sealed,
    theirs: &OpenedBundle,
    reach: &Reach,
) -> Result<Code, Failure> {
    let mut encoded = BTreeMap::new();
    for (name, own) in &sealed.images {
        if own.dockerfile.is_some() {
            tell(&format!(
                "note: the image `{name}` of a Dockerfile is compared with the lock and not built again: `bundle lock PROFILE \
                 --update {name}` builds it, and says what it comes to"
            ));
        }
        let Some(pin) = rebuilt::pinned(sealed, theirs.manifest(), name) else { continue };
        let found = rebuilt::compare(context, sealed, own, pin, reach)
            .map_err(|failure| failure.within(format!("the image `{name}` cannot be compared")))?;
        match found {
            Comparison::Identical => {}
            Comparison::Encoding => drop(encoded.insert(name.clone(), pin.digest)),
            Comparison::Content(_) => return Ok(say(context, Some(name), &found)),
        }
    }
    if encoded.is_empty() {
        return Ok(say(context, None, &bundles(&sealed.bundle, theirs)));
    }
    // The bundle names its images by digest: with those that are there, is it the same?
    let name = encoded.keys().next().cloned();
    let again = profile.seal_with(sealed, &encoded)?;
    match bundles(&again, theirs) {
        Comparison::Identical | Comparison::Encoding => {
            Ok(say(context, name.as_ref(), &Comparison::Encoding))
        }
        other @ Comparison::Content(_) => Ok(say(context, None, &other)),
    }
}

/// What a rebuilt bundle is to the one that is there.
fn bundles(ours: &Bundle, theirs: &OpenedBundle) -> Comparison {
    if ours.oci_digest() == theirs.oci_digest() {
        return Comparison::Identical;
    }
    if ours.digest() == theirs.digest() {
        return Comparison::Encoding;
    }
    let (path, what) = first(ours.manifest(), theirs.manifest());
    Comparison::Content(compare::Difference { layer: 1, path, what })
}

/// The first file that differs; where all are the same, the first word of the manifest.
fn first(ours: &Manifest, theirs: &Manifest) -> (Option<String>, String) {
    let key = |entry: &ArtifactEntry| (entry.path.clone(), format!("{:?}", entry.slots));
    // The list of all files differs wherever one of them does.
    let files = |manifest: &'_ Manifest| -> Vec<ArtifactEntry> {
        manifest.artifacts.iter().filter(|entry| entry.path.to_string() != "MANIFEST").cloned().collect()
    };
    let (one, other) = (files(ours), files(theirs));
    let (mut a, mut b) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let (one, other) = match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(one), None) => return (Some(one.path.to_string()), "only the new build has it".to_owned()),
            (None, Some(other)) => {
                return (Some(other.path.to_string()), "the new build does not have it".to_owned());
            }
            (Some(one), Some(other)) => (*one, *other),
        };
        if key(one) < key(other) {
            return (Some(one.path.to_string()), "only the new build has it".to_owned());
        }
        if key(one) > key(other) {
            return (Some(other.path.to_string()), "the new build does not have it".to_owned());
        }
        if one != other {
            let what = if one.mode != other.mode {
                format!("its mode is {} in the new build and {} in the other", one.mode, other.mode)
            } else if one.size != other.size {
                format!("it has {} bytes in the new build and {} in the other", one.size, other.size)
            } else if one.digest == other.digest {
                "what the machine is told about it differs".to_owned()
            } else {
                "its content differs".to_owned()
            };
            return (Some(one.path.to_string()), what);
        }
        a.next();
        b.next();
    }
    let value = |manifest: &Manifest| {
        canonical::to_vec(manifest)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
    };
    let (ours, theirs) = (value(ours).unwrap_or_default(), value(theirs).unwrap_or_default());
    let keys = ours.as_object().into_iter().flatten().map(|(key, _)| key);
    let word = keys.into_iter().find(|key| ours.get(key.as_str()) != theirs.get(key.as_str()));
    (
        None,
        word.map_or("the manifests differ".to_owned(), |word| {
            format!("all files are the same, `{word}` differs")
        }),
    )
}

/// An image of a layout, as skopeo names one. Without a tag it is a bundle's layout.
fn image(text: &str) -> Option<(String, String)> {
    let (path, tag) = text.strip_prefix("oci:")?.rsplit_once(':')?;
    (!path.is_empty() && !tag.is_empty() && !tag.contains('/')).then(|| (path.to_owned(), tag.to_owned()))
}

fn images(context: &Context<'_>, arguments: &Arguments, path: &str, tag: &str) -> Result<Code, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::of(Code::Refused, error);
    let open = |path: &str, tag: &str| {
        let layout = Layout::open(path.as_ref()).map_err(|error| refused(&error))?;
        let files = unpack::find(&layout, Some(tag)).map_err(|error| refused(&error))?;
        Ok::<_, Failure>((layout, files))
    };
    let (layout, files) = open(path, tag)?;
    let side = Side { layout: &layout, image: &files };
    let members = compare::verify(side).map_err(|error| refused(&error))?;
    let Some(against) = &arguments.against else {
        if arguments.rebuild {
            return Err(Failure::new(Code::Input, "an image alone is not built again, its profile is")
                .hint("compare it with another one: `--against oci:PATH:TAG`"));
        }
        let json = json!({ "image": files.manifest.digest, "members": members });
        print(context, json, || format!("every digest is right: {}", files.manifest.digest));
        return Ok(Code::Done);
    };
    let Some((path, tag)) = image(against) else {
        return Err(Failure::new(
            Code::Input,
            format!("`{against}` is no image of a layout: `oci:PATH:TAG`"),
        ));
    };
    let (other_layout, other_files) = open(&path, &tag)?;
    let other = Side { layout: &other_layout, image: &other_files };
    compare::verify(other).map_err(|error| refused(&error))?;
    Ok(say(context, None, &compare::compare(side, other).map_err(|error| refused(&error))?))
}

/// Says what came of a comparison, of an image of the profile's own or of all else.
fn say(context: &Context<'_>, image: Option<&ImageName>, comparison: &Comparison) -> Code {
    let of = image.map_or(String::new(), |name| format!("the image `{name}`: "));
    let (code, word, text) = match comparison {
        Comparison::Identical => (Code::Done, "identical", "identical, byte for byte".to_owned()),
        Comparison::Encoding => {
            let text = format!("{of}the same content, compressed by another encoder");
            (Code::OtherEncoding, "encoding", text)
        }
        Comparison::Content(difference) => {
            (Code::OtherContent, "content", format!("{of}other content: {difference}"))
        }
    };
    let difference = match comparison {
        Comparison::Content(difference) => json!({ "path": difference.path, "what": difference.what }),
        _ => serde_json::Value::Null,
    };
    print(context, json!({ "comparison": word, "image": image, "difference": difference }), || text);
    code
}
