//! `RUN --mount`: `type=cache,target=/x,…` into a [`Mount`].

mod value;

use super::graph::FromName;
use super::op::{BindMount, CacheMount, CacheSharing, Mount, MountSource, SecretMount, SshMount, TmpfsMount};
use super::path;
use super::scope::Expander;
use crate::dockerfile::{Span, Word, nearest};

use value::{boolean, choose, number, size, split};

/// A mount, or a secret as an environment variable, or both.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    pub(super) mount: Option<Mount>,
    /// Variable, secret's id, whether it must be there.
    pub(super) secret_env: Option<(String, String, bool)>,
}

/// Where the mount's files come from, before any expansion: `from=` knows no variables.
pub(super) fn from_name(word: &Word) -> Option<FromName> {
    let fields = split(&word.text).ok()?;
    let value = |wanted: &str| {
        let mut fields = fields.iter().filter_map(|field| field.split_once('='));
        fields.rfind(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    // BuildKit wants the source to be there whatever the type is.
    let name = value("from").filter(|name| !name.is_empty())?;
    Some(FromName { name: name.to_owned(), span: word.span, by_number: false })
}

/// Reads one `--mount`. `source` is what [`from_name`] leads to. Mistakes are said.
pub(super) fn read(
    word: &Word,
    expander: &mut Expander<'_>,
    directory: &str,
    source: Option<MountSource>,
    cache_namespace: Option<&str>,
) -> Option<Mounted> {
    let fields = read_fields(word, expander)?;
    let context = Context { span: word.span, directory, source, cache_namespace };
    let mounted = fields.check().and_then(|()| match fields.kind {
        Kind::Bind => fields.bind(&context).map(Mounted::of),
        Kind::Cache => fields.cache(&context).map(Mounted::of),
        Kind::Tmpfs => fields.tmpfs(&context).map(Mounted::of),
        Kind::Secret => fields.secret(&context),
        Kind::Ssh => fields.ssh(&context).map(Mounted::of),
    });
    expander.report.take(context.span, mounted)
}

impl Mounted {
    fn of(mount: Mount) -> Self {
        Self { mount: Some(mount), secret_env: None }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const KINDS: [(&str, Kind); 5] = [
    ("bind", Kind::Bind),
    ("cache", Kind::Cache),
    ("tmpfs", Kind::Tmpfs),
    ("secret", Kind::Secret),
    ("ssh", Kind::Ssh),
];

const SHARING: [(&str, CacheSharing); 3] =
    [("shared", CacheSharing::Shared), ("private", CacheSharing::Private), ("locked", CacheSharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];

/// The options as written, values read.
#[derive(Debug, Default)]
struct Fields {
    kind: Kind,
    from: bool,
    source: Option<String>,
    target: Option<String>,
    readonly: Option<bool>,
    id: Option<String>,
    sharing: Option<CacheSharing>,
    required: Option<bool>,
    size: Option<u64>,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

struct Context<'a> {
    span: Span,
    directory: &'a str,
    source: Option<MountSource>,
    cache_namespace: Option<&'a str>,
}

fn read_fields(word: &Word, expander: &mut Expander<'_>) -> Option<Fields> {
    let split = split(&word.text).map_err(|reason| format!("`--mount={}`: {reason}", word.text));
    let split = expander.report.take(word.span, split)?;
    let mut fields = Fields::default();
    let mut sound = true;
    for field in split {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let value = match value.map(|value| expander.text(value, word.span)) {
            Some(None) => {
                sound = false;
                continue;
            }
            Some(Some(value)) => Some(value),
            None => None,
        };
        let set = fields.set(&key.to_ascii_lowercase(), value.as_deref());
        sound &= expander.report.take(word.span, set).is_some();
    }
    sound.then_some(fields)
}

impl Fields {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        let Some(value) = value else {
            return self.set_bare(key);
        };
        let text = || Some(value.to_owned());
        match key {
            "type" => self.kind = choose("mount type", value, &KINDS)?,
            "from" => self.from = !value.is_empty(),
            "source" | "src" => self.source = text(),
            "target" | "dst" | "destination" => self.target = text(),
            "readonly" | "ro" => self.readonly = Some(boolean(key, value)?),
            "readwrite" | "rw" => self.readonly = Some(!boolean(key, value)?),
            "required" => self.required = Some(boolean(key, value)?),
            "size" => self.size = Some(size(value)?),
            "id" => self.id = text(),
            "sharing" => self.sharing = Some(choose("sharing", value, &SHARING)?),
            "mode" => self.mode = Some(number(key, value, 8)?),
            "uid" => self.uid = Some(number(key, value, 10)?),
            "gid" => self.gid = Some(number(key, value, 10)?),
            "env" => self.env = text(),
            unknown => return Err(unknown_key(unknown)),
        }
        Ok(())
    }

    fn set_bare(&mut self, key: &str) -> Result<(), String> {
        match key {
            "readonly" | "ro" => self.readonly = Some(true),
            "readwrite" | "rw" => self.readonly = Some(false),
            "required" => self.required = Some(true),
            known if KEYS.contains(&known) => {
                return Err(format!("mount option `{known}` needs a value: `{known}=…`"));
            }
            unknown => return Err(unknown_key(unknown)),
        }
        Ok(())
    }

    /// Options that do not belong to the type.
    fn check(&self) -> Result<(), String> {
        let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        let only_for = |option: &str, set: bool, kinds: &[Kind]| match set && !kinds.contains(&self.kind) {
            true => Err(format!("mount option `{option}` is not for `type={kind}`")),
            false => Ok(()),
        };
        let owned = [Kind::Secret, Kind::Ssh, Kind::Cache];
        only_for("mode", self.mode.is_some(), &owned)?;
        only_for("uid", self.uid.is_some(), &owned)?;
        only_for("gid", self.gid.is_some(), &owned)?;
        only_for("required", self.required.is_some(), &[Kind::Secret, Kind::Ssh])?;
        only_for("size", self.size.is_some(), &[Kind::Tmpfs])?;
        only_for("sharing", self.sharing.is_some(), &[Kind::Cache])?;
        only_for("env", self.env.is_some(), &[Kind::Secret])?;
        only_for("from", self.from, &[Kind::Bind, Kind::Cache, Kind::Tmpfs, Kind::Ssh])
    }

    fn bind(&self, context: &Context<'_>) -> Result<Mount, String> {
        Ok(Mount::Bind(BindMount {
            from: context.source.clone().unwrap_or(MountSource::Context),
            source: self.source_path(),
            target: self.mount_point(context)?,
            writable: self.readonly == Some(false),
        }))
    }

    fn cache(&self, context: &Context<'_>) -> Result<Mount, String> {
        let target = self.mount_point(context)?;
        // BuildKit takes the target as it is written, not as WORKDIR completes it.
        let id = match self.id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => id.to_owned(),
            None => written(self.target.as_deref().unwrap_or_default()),
        };
        Ok(Mount::Cache(CacheMount {
            id: context.cache_namespace.map_or_else(|| id.clone(), |namespace| format!("{namespace}/{id}")),
            target,
            from: context.source.clone().unwrap_or(MountSource::Empty),
            source: self.source_path(),
            sharing: self.sharing.unwrap_or_default(),
            readonly: self.readonly.unwrap_or(false),
            // Go's file modes have the special bits elsewhere: BuildKit loses them.
            mode: self.mode.unwrap_or(0o755) & 0o777,
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        }))
    }

    fn tmpfs(&self, context: &Context<'_>) -> Result<Mount, String> {
        Ok(Mount::Tmpfs(TmpfsMount {
            target: self.mount_point(context)?,
            size: self.size.filter(|size| *size > 0),
        }))
    }

    fn secret(&self, context: &Context<'_>) -> Result<Mounted, String> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (source, id, target) = (set(&self.source), set(&self.id), set(&self.target));
        if source.is_some() && id.is_some() {
            return Err("a secret mount has either `id` or `source`".to_owned());
        }
        let id = source.or(id).or_else(|| target.as_deref().map(|target| path::last(target).to_owned()));
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Err("a secret mount needs an `id`".to_owned());
        };
        let required = self.required.unwrap_or(false);
        let secret_env = set(&self.env).map(|name| (name, id.clone(), required));
        if secret_env.is_some() && target.is_none() {
            return Ok(Mounted { mount: None, secret_env });
        }
        let target = target.unwrap_or_else(|| format!("/run/secrets/{}", path::last(&id)));
        let mount = Mount::Secret(SecretMount {
            target: path::join(context.directory, &target),
            id,
            required,
            mode: self.mode.unwrap_or(0o400),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        });
        Ok(Mounted { mount: Some(mount), secret_env })
    }

    fn ssh(&self, context: &Context<'_>) -> Result<Mount, String> {
        if self.source.as_deref().is_some_and(|source| !source.is_empty()) {
            return Err("an ssh mount has no `source`".to_owned());
        }
        let target = self.target.as_deref().filter(|target| !target.is_empty());
        Ok(Mount::Ssh(SshMount {
            id: self.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| "default".to_owned()),
            target: target.map(|target| path::join(context.directory, target)),
            required: self.required.unwrap_or(false),
            mode: self.mode.unwrap_or(0o600),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        }))
    }

    fn source_path(&self) -> String {
        path::join("/", self.source.as_deref().unwrap_or_default())
    }

    /// A missing target is the working directory, as in BuildKit; never the root.
    fn mount_point(&self, context: &Context<'_>) -> Result<String, String> {
        let target = self.target.as_deref().unwrap_or_default();
        match path::join(context.directory, target).as_str() {
            "/" if target.is_empty() => Err("the mount needs a `target`".to_owned()),
            "/" => Err(format!("nothing can be mounted on the root, `target={target}`")),
            point => Ok(point.to_owned()),
        }
    }
}

/// A path without superfluous parts that stays relative if it is.
fn written(target: &str) -> String {
    let clean = path::join("/", target);
    if target.starts_with('/') { clean } else { clean.trim_start_matches('/').to_owned() }
}

fn unknown_key(key: &str) -> String {
    let guess = nearest(key, &KEYS).map(|known| format!(", did you mean `{known}`?")).unwrap_or_default();
    format!("`{key}` is not a mount option{guess}")
}
