//! `bundle verify`

use clap::Args;
use serde_json::json;

use super::places::Reach;
use super::profile::{ProfileArgument, Sealed};
use super::report::{Code, Failure};
use super::{Context, print};
use crate::bundle::{ArtifactEntry, Bundle, Layout, Manifest, OpenedBundle};
use crate::image::compare::{self, Comparison, Side};
use crate::image::unpack;
use crate::model::json as canonical;
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
    let (reference, rebuilt) = if arguments.what.contains(':') {
        (arguments.what.parse::<Ref>().map_err(|error| Failure::of(Code::Input, &error))?, None)
    } else {
        let (reference, bundle) = pushed(context, arguments)?;
        (reference, Some(bundle))
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
    let bundle = if let Some(bundle) = rebuilt {
        bundle
    } else {
        let profile = arguments.profile.clone();
        let profile = profile.unwrap_or_else(|| opened.manifest().profile.to_string());
        ProfileArgument { profile }.seal(context, &arguments.reach)?.bundle
    };
    Ok(say(context, &bundles(&bundle, &opened)))
}

/// The bundle of a profile, built, and where its registry has it.
fn pushed(context: &Context<'_>, arguments: &Arguments) -> Result<(Ref, Bundle), Failure> {
    let Sealed { resolved, bundle, .. } =
        ProfileArgument { profile: arguments.what.clone() }.seal(context, &arguments.reach)?;
    let named = arguments.repository.as_ref().map(ToString::to_string);
    let registry = resolved.spec.registry.as_ref().map(|registry| registry.repository.clone());
    let repository = named.or(registry).ok_or_else(|| {
        Failure::new(Code::Input, "the profile does not say where its bundle is")
            .hint("name it: `--repository REPOSITORY`")
    })?;
    let reference = format!("{repository}:{}", resolved.spec.name);
    Ok((reference.parse().map_err(|error| Failure::of(Code::Input, &error))?, bundle))
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
    Ok(say(context, &compare::compare(side, other).map_err(|error| refused(&error))?))
}

fn say(context: &Context<'_>, comparison: &Comparison) -> Code {
    let (code, word, text) = match comparison {
        Comparison::Identical => (Code::Done, "identical", "identical, byte for byte".to_owned()),
        Comparison::Encoding => {
            let text = "the same content, compressed by another encoder".to_owned();
            (Code::OtherEncoding, "encoding", text)
        }
        Comparison::Content(difference) => {
            (Code::OtherContent, "content", format!("other content: {difference}"))
        }
    };
    let difference = match comparison {
        Comparison::Content(difference) => json!({ "path": difference.path, "what": difference.what }),
        _ => serde_json::Value::Null,
    };
    print(context, json!({ "comparison": word, "difference": difference }), || text);
    code
}
