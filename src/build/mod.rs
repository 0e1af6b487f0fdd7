//! The conductor: a [`BuildRequest`] in, an [`Outcome`] out.
//!
//! Only this room knows most others; nobody but the doors knows it. It decides
//! in this order, each step before anything that costs more: Dockerfile →
//! may we push? → bases → plan → keys → what is known → what must run → image
//! → outputs → push. Nothing is named or pushed before everything succeeded.

mod bases;
mod check;
mod contexts;
mod copy;
mod copy_step;
mod error;
mod export;
mod identity;
mod inputs;
mod known;
mod layout;
mod material;
mod mounts;
mod outside;
mod quota;
mod request;
mod run;
mod run_step;
mod schedule;
mod source;
mod stage;
mod tree;
mod workdir_step;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use crate::context::Stop;
use crate::dockerfile::Dockerfile;
use crate::image::Platform;
use crate::layer::PackOptions;
use crate::plan::{self, BuildPlan};
use crate::progress::Reporter;
use crate::secret::Secret;
use crate::ssh::Agent;
use crate::store::{BuildDirectory, Store};
use crate::{fetch, metadata, net, registry, sandbox, ssh};

pub use bases::configs_to_check;
pub use check::ignored_sources;
pub use copy::CopyError;
pub use error::{Error, StepError};
pub use identity::IdentityError;
pub use layout::LayoutError;
pub use quota::{BadQuota, DiskQuota};
pub use request::{
    BuildRequest, CachePolicy, ContextSource, Destination, DockerfileSource, ErrorKind, Outcome, Output,
    SecretSource,
};

use bases::Bases;
use inputs::Contexts;
use known::Known;
use material::Materials;
use outside::Outside;
use quota::Quota;
use run::Surroundings;
use stage::{Site, StageResult};

/// What a build works with, beside its request.
pub struct Workshop {
    /// The state directory.
    pub state_dir: PathBuf,
    /// How to talk to registries.
    pub net: net::Options,
    /// Who we are to them.
    pub credentials: registry::Credentials,
    /// How RUN can be isolated here.
    pub entered: sandbox::Entered,
    /// How much this build may have unfinished on disk.
    pub disk_quota: Option<DiskQuota>,
    /// Who hears what happens.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled on SIGTERM and the like: the build stops and cleans up.
    pub cancel: CancellationToken,
}

/// A secret may be a key or a token, not a disk image (BuildKit's limit).
const SECRET_LIMIT: u64 = 500 << 10;

/// Builds, writes outputs, pushes. With `dry_run` it only checks: may we push,
/// are all bases and sources there; says what would be done, and is `None`.
///
/// # Errors
/// Every error names what failed in the user's terms; [`Error::kind`] gives the
/// exit code. Whatever was unfinished is gone when this returns.
pub async fn build(request: BuildRequest, workshop: &Workshop) -> Result<Option<Outcome>, Error> {
    let reporter = &workshop.reporter;
    let mut request = request;
    let store = Arc::new(Store::open(&workshop.state_dir, &id_map_name(&workshop.entered.id_map))?);
    let unfinished = store.build_directory()?;
    let agents = agents(&request)?;
    let hostname = hostname(&request)?;
    let (fetcher, _served) = fetcher(&request, workshop, &store, &unfinished, &agents)?;
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let gathering =
        contexts::Contexts { fetcher: &fetcher, store: &store, unfinished: unfinished.path(), platform };
    let foreign = until(&workshop.cancel, gathering.gather(&mut request)).await;
    let foreign = foreign.unwrap_or(Err(Error::Cancelled))?;
    let found = source::find(&request, foreign.main)?;
    let options = plan_options(&request);
    let dockerfile = source::parse(&found, &options, reporter.as_ref())?;
    let token = workshop.cancel.clone();
    let stop: Stop = Arc::new(move || token.is_cancelled());
    let main = source::open_context(&request, &found, &foreign, &store, &stop)?.map(Arc::new);
    let named = source::open_named(&request, &foreign, &store, &stop)?;
    let client = Arc::new(registry_client(workshop, &unfinished)?);

    let work = async {
        let checked = export::check_push(&request, &client);
        let planned = bases::plan(&dockerfile, &options, &client, &foreign.layouts, reporter);
        let ((), (plan, bases)) =
            until(&workshop.cancel, async { futures_util::try_join!(checked, planned) })
                .await
                .unwrap_or(Err(Error::Cancelled))?;
        if !foreign.main {
            source::judge_ignored(&request, &found, &dockerfile, &options, &plan, reporter.as_ref())?;
        }
        let record_key = metadata::Key::from_bytes(store.record_key()?);
        let draw = |step: &plan::Step, error| draw_step(&dockerfile, step, error);
        let outside = until(&workshop.cancel, Outside::fetch(fetcher, &plan, &draw)).await;
        let around = surroundings(&request, agents, hostname);
        let contexts = Contexts {
            main,
            named,
            outside: outside.unwrap_or(Err(Error::Cancelled))?,
            platform: options.platform.clone(),
            surroundings: around.digest(),
        };
        // A failing stage stops the others, which is no signal from outside.
        let cancel = workshop.cancel.child_token();
        let place = unfinished.path().to_owned();
        let materials = Materials::new(store, Arc::clone(&client), place, record_key, cancel);
        let site = site(&request, workshop, &dockerfile, (plan, bases), contexts, materials, around)?;
        if request.dry_run {
            schedule::describe(&site);
            return Ok(None);
        }
        let result = schedule::run(Arc::clone(&site)).await?;
        for context in site.contexts.main.iter().chain(site.contexts.named.values()) {
            context.save_stat_index().map_err(Error::Context)?;
        }
        let image = finish_image(&request, &site, &result);
        export::export(&request, &site, &result, image).await.map(Some)
    };
    tokio::select! {
        biased;
        // What fails after a signal fails because of it.
        outcome = work => outcome.map_err(|error| if workshop.cancel.is_cancelled() { Error::Cancelled } else { error }),
        () = interrupted(&workshop.cancel) => Err(Error::Cancelled),
    }
}

/// What `future` comes to, or `None` as soon as the build is cancelled: for what
/// waits on a network and leaves nothing behind when it is dropped.
async fn until<T>(cancel: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    cancel.run_until_cancelled(future).await
}

/// Steps notice the signal themselves and end their sandbox, and so do transfers;
/// this is for whatever else takes long. The pause lets them finish first.
async fn interrupted(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
}

/// What the request says about the plan.
pub fn plan_options(request: &BuildRequest) -> plan::Options {
    let host = Platform::host();
    plan::Options {
        target: request.target.clone(),
        build_args: request.build_args.iter().cloned().collect(),
        platform: request.platform.clone().unwrap_or_else(|| host.clone()),
        build_platform: host,
        named_contexts: request.named_contexts.clone(),
        labels: request.labels.clone(),
        default_labels: request.default_labels.clone(),
        proxy_args: request.proxy_args.clone(),
        network: request.network,
        host_network: request.host_network,
    }
}

/// Replaces the files in the request's secrets by what is in them, so that the
/// door knows what no log may hold.
///
/// # Errors
/// When a file cannot be read or is larger than 500 KiB.
pub fn read_secrets(request: &mut BuildRequest) -> Result<(), Error> {
    for (id, source) in &mut request.secrets {
        if let SecretSource::File(path) = source {
            let secret = read_secret(path).map_err(|error| Error::Secret {
                id: id.clone(),
                path: path.clone(),
                source: error,
            })?;
            *source = SecretSource::Value(secret);
        }
    }
    Ok(())
}

fn read_secret(path: &Path) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SECRET_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 500 KiB"));
    }
    Ok(Secret::new(bytes))
}

fn registry_client(workshop: &Workshop, unfinished: &BuildDirectory) -> Result<registry::Client, Error> {
    let options = registry::Options {
        net: workshop.net.clone(),
        ..registry::Options::new(unfinished.path().to_owned())
    };
    let reporter = Arc::clone(&workshop.reporter);
    registry::Client::new(options, workshop.credentials.clone(), reporter).map_err(Error::Registry)
}

/// The fetcher, and the socket that leads its git to the agent `default`, where
/// that is not the one of the environment anyway.
fn fetcher(
    request: &BuildRequest,
    workshop: &Workshop,
    store: &Arc<Store>,
    unfinished: &BuildDirectory,
    agents: &BTreeMap<String, Arc<Agent>>,
) -> Result<(fetch::Fetcher, Option<ssh::Served>), Error> {
    let directory = unfinished.path();
    let serve = |agent: &Arc<Agent>| {
        let access = ssh::Access { mode: 0o600, owner: None };
        let reporter = Arc::clone(&workshop.reporter);
        ssh::serve(Arc::clone(agent), directory, "agent", access, reporter)
            .map_err(|source| Error::File { path: directory.join("agent"), source })
    };
    let served = agents.get("default").map(serve).transpose()?;
    let options = fetch::Options {
        ssh_agent: served.is_some().then(|| directory.join("agent")),
        net: workshop.net.clone(),
        secrets: secrets(request),
        further_protocols: Vec::new(),
        unfinished: unfinished.path().to_owned(),
    };
    Ok((fetch::Fetcher::new(options, Arc::clone(store), Arc::clone(&workshop.reporter)), served))
}

/// Opens every agent that was named.
fn agents(request: &BuildRequest) -> Result<BTreeMap<String, Arc<Agent>>, Error> {
    let open = |(id, source)| match Agent::open(source) {
        Ok(agent) => Ok((String::clone(id), Arc::new(agent))),
        Err(source) => Err(Error::Ssh { id: String::clone(id), source }),
    };
    request.ssh.iter().map(open).collect()
}

/// An error of a step before any was executed.
fn draw_step(dockerfile: &Dockerfile, step: &plan::Step, error: StepError) -> Error {
    let span = step.span.unwrap_or(step.from_span);
    let message = format!("`{}` cannot work", stage::first_words(&step.text));
    let place = crate::dockerfile::Diagnostic::error(span, message).render(&dockerfile.source);
    Error::Step { place, source: Box::new(error) }
}

fn secrets(request: &BuildRequest) -> BTreeMap<String, Secret> {
    let value = |(id, source): (&String, &SecretSource)| match source {
        SecretSource::Value(secret) => Some((id.clone(), secret.clone())),
        SecretSource::File(_) => None,
    };
    request.secrets.iter().filter_map(value).collect()
}

fn surroundings(
    request: &BuildRequest,
    agents: BTreeMap<String, Arc<Agent>>,
    hostname: Option<String>,
) -> Surroundings {
    // Without the file RUN has no name service, as the builder itself.
    let resolv_conf = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    Surroundings {
        secrets: secrets(request),
        agents,
        resolv_conf,
        extra_hosts: request.extra_hosts.clone(),
        shm_size: request.shm_size,
        ulimits: request.ulimits.clone(),
        hostname,
    }
}

/// The build argument that names RUN's host. It becomes part of a file, so that
/// only names are let through (RFC 1123, 2.1, and underscores; 64 bytes, as
/// sethostname(2) has it).
fn hostname(request: &BuildRequest) -> Result<Option<String>, Error> {
    const NAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
    let given = request.build_args.iter().rev().find(|(name, _)| name == NAME);
    let Some((_, host)) = given.filter(|(_, host)| !host.is_empty()) else { return Ok(None) };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match host.len() <= 64 && !host.starts_with(['-', '.']) && host.bytes().all(letter) {
        true => Ok(Some(host.clone())),
        false => Err(Error::Unsupported(format!(
            "{NAME} `{}` is no host name (expected at most 64 letters, digits, dashes and dots)",
            host.escape_debug()
        ))),
    }
}

fn site(
    request: &BuildRequest,
    workshop: &Workshop,
    dockerfile: &Dockerfile,
    (plan, bases): (BuildPlan, Bases),
    contexts: Contexts,
    materials: Materials,
    surroundings: Surroundings,
) -> Result<Arc<Site>, Error> {
    let source = dockerfile.source.clone();
    let draw = |step: &plan::Step, error| draw_step(dockerfile, step, error);
    let keys = inputs::recipe_keys(&plan, &bases, &contexts, &draw)?;
    let mut first_step = Vec::new();
    let mut steps = 0;
    for stage in &plan.stages {
        first_step.push(steps);
        steps += stage.steps.len();
    }
    let off = |name: &str| request.cache.disabled_stages.iter().any(|stage| stage.eq_ignore_ascii_case(name));
    let uncached: Vec<bool> =
        plan.stages.iter().map(|stage| request.cache.disabled || off(&stage.name)).collect();
    let epoch = request.source_date_epoch;
    let known = Known::ask(&plan, &keys, &uncached, &|key| {
        stage::look_up(&materials.store, &stage::cache_key(epoch, key))
    })?;
    let results = plan.stages.iter().map(|_| tokio::sync::watch::Sender::new(None)).collect();
    Ok(Arc::new(Site {
        keys,
        bases,
        contexts,
        source,
        quota: Quota::new(workshop.disk_quota, materials.unfinished.clone()),
        cancel: materials.cancel.clone(),
        materials,
        sandbox: sandbox::sandbox(&workshop.entered),
        storage: workshop.entered.storage.clone(),
        surroundings,
        pack: PackOptions { clamp: request.source_date_epoch, ..PackOptions::default() },
        now: now(),
        epoch,
        known,
        uncached,
        reporter: Arc::clone(&workshop.reporter),
        results,
        step_locks: material::Locks::new(),
        first_step,
        slots: tokio::sync::Semaphore::new(schedule::STEPS_AT_ONCE),
        plan,
    }))
}

/// Trees are kept per id map, because the owners on disk depend on it.
fn id_map_name(map: &sandbox::IdMap) -> String {
    crate::image::Digest::of(format!("{map:?}")).short()
}

/// Seconds since 1970.
fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

fn finish_image(request: &BuildRequest, site: &Site, result: &StageResult) -> crate::image::Image {
    let mut builder = result.builder.clone();
    // Built from the cache alone, an image is as old as its last step.
    let last = builder.config().history.last().and_then(|entry| entry.created.clone());
    let created =
        request.source_date_epoch.map(stage::rfc3339).or(last).unwrap_or_else(|| stage::rfc3339(site.now));
    builder.created(created);
    if let Some(epoch) = request.source_date_epoch {
        builder.clamp_history(epoch);
    }
    builder.annotations(request.annotations.iter().cloned().collect());
    builder.finish()
}
