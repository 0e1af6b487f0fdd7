//! The command line as clap reads it: raw values, one field per flag.
//! What they mean is decided in `request`; what is refused, in `refused`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Builds and pushes container images: no daemon, no privileged mode.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, max_term_width = 100)]
pub(super) struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands there are.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build an image, and push it or write it where asked
    // As with Docker, the last one counts of a flag that takes one value.
    #[command(args_override_self = true)]
    Build(Box<BuildArguments>),
    /// Read a Dockerfile and say what is wrong with it; builds nothing
    Check(CheckArguments),
    /// List the images in the state directory
    #[command(visible_alias = "ls")]
    Images(ImagesArguments),
    /// Say what works here and what does not: isolation, storage, registries
    Doctor(DoctorArguments),
    /// Empty the state directory: cache, images, cache mounts
    Purge(PurgeArguments),
    /// Print the version
    Version,
}

/// `coracle build`: the flags of `docker buildx build`, and ours.
#[derive(Debug, Args)]
pub(super) struct BuildArguments {
    /// What COPY reads: a directory, a tar archive, `-` (an archive or a Dockerfile on
    /// standard input), a git address such as `https://host/repo.git#ref:directory`,
    /// or the URL of an archive or Dockerfile
    pub(super) context: PathBuf,

    /// Name of the image, `[registry/]repository[:tag]` (repeat)
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(super) tags: Vec<String>,
    /// Dockerfile; `-` reads it from standard input, a URL from a server
    /// [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "PATH|URL")]
    pub(super) file: Option<PathBuf>,
    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Value of an ARG; without a value it comes from the environment (repeat)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(super) build_args: Vec<String>,
    /// Further context for FROM, --from and mounts: a directory, a git address, the URL of an
    /// archive, `docker-image://REF` or `oci-layout://DIR[:TAG][@DIGEST]` (repeat)
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(super) build_contexts: Vec<String>,
    /// Label of the image (repeat)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(super) labels: Vec<String>,
    /// Annotation of the manifest (repeat)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(super) annotations: Vec<String>,
    /// Platform to build for [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(super) platforms: Vec<String>,
    /// Secret for RUN --mount=type=secret (repeat)
    #[arg(long = "secret", value_name = "id=ID,src=PATH|env=NAME")]
    pub(super) secrets: Vec<String>,
    /// SSH agent for RUN --mount=type=ssh: the one of SSH_AUTH_SOCK, that of a socket,
    /// or private keys (repeat)
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET|KEY[,KEY]]")]
    pub(super) ssh: Vec<String>,
    /// Entitlement: `network.host` lets `RUN --network=host` (repeat)
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(super) allow: Vec<String>,

    /// Network of RUN
    #[arg(long, value_name = "default|none|host", default_value = "default")]
    pub(super) network: String,
    /// Further line of RUN's hosts file (repeat)
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub(super) add_hosts: Vec<String>,
    /// Resource limit of RUN, such as nofile=1024:4096 (repeat)
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimits: Vec<String>,
    /// Size of RUN's /dev/shm, such as 64m
    #[arg(long = "shm-size", value_name = "BYTES")]
    pub(super) shm_size: Option<String>,
    /// Accepted, without effect
    #[arg(long = "cgroup-parent", value_name = "PATH")]
    pub(super) cgroup_parent: Option<String>,

    /// Execute every step
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Execute every step of these stages
    #[arg(long = "no-cache-filter", value_name = "STAGE", value_delimiter = ',')]
    pub(super) no_cache_filter: Vec<String>,
    /// Ask the registry for the base images even when they are known
    #[arg(long)]
    pub(super) pull: bool,
    /// Remote cache to read (not supported yet)
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub(super) cache_from: Vec<String>,
    /// Remote cache to write (not supported yet)
    #[arg(long = "cache-to", value_name = "SPEC")]
    pub(super) cache_to: Vec<String>,

    /// Push the image to every --tag
    #[arg(long)]
    pub(super) push: bool,
    /// Hand the image to a daemon (there is none)
    #[arg(long)]
    pub(super) load: bool,
    /// Write the image: `type=oci|docker,dest=PATH`, `type=image[,push=true]`, `type=registry` (repeat)
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(super) outputs: Vec<String>,
    /// Write the image id (the config's digest) to this file
    #[arg(long, value_name = "PATH")]
    pub(super) iidfile: Option<PathBuf>,
    /// Write digests and names as JSON to this file
    #[arg(long, value_name = "PATH")]
    pub(super) metadata_file: Option<PathBuf>,
    /// How progress looks
    #[arg(long, value_name = "auto|plain|tty|rawjson|quiet", default_value = "auto")]
    pub(super) progress: String,
    /// Print nothing but the digest and errors
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Attestation (not supported yet; `false` is accepted)
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) sbom: Option<String>,
    /// Attestation (not supported yet; `false` is accepted)
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) provenance: Option<String>,
    /// Attestation (not supported yet; `type=…,disabled=true` is accepted)
    #[arg(long = "attest", value_name = "SPEC")]
    pub(super) attests: Vec<String>,
    /// What to do: build, or check the Dockerfile only
    #[arg(long, value_name = "build|check|outline|targets[,format=json]", default_value = "build")]
    pub(super) call: String,
    /// Same as --call=check
    #[arg(long)]
    pub(super) check: bool,

    /// Registry that is spoken to over plain HTTP or with an unverified certificate (repeat)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(super) insecure_registries: Vec<String>,
    /// How RUN is isolated [default: the best this machine allows]
    #[arg(long, value_name = "RUNG")]
    pub(super) isolation: Option<String>,
    /// State directory [default: CORACLE_STATE_DIR, else the user's data directory]
    #[arg(long, value_name = "PATH")]
    pub(super) state_dir: Option<PathBuf>,
    /// How much the build may have unfinished on disk [default: CORACLE_DISK_QUOTA, else no limit]
    #[arg(long, value_name = "SIZE")]
    pub(super) disk_quota: Option<String>,
    /// Say why each step runs or does not (not supported yet)
    #[arg(long)]
    pub(super) explain: bool,
}

/// `coracle check`.
#[derive(Clone, Debug, Args)]
pub(super) struct CheckArguments {
    /// Directory that holds the Dockerfile
    #[arg(default_value = ".")]
    pub(super) context: PathBuf,
    /// Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "PATH")]
    pub(super) file: Option<PathBuf>,
    /// Stage that is asked about [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Value of an ARG (repeat)
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub(super) build_args: Vec<String>,
    /// What to tell: its mistakes, what its target takes, or its targets
    #[arg(long, value_name = "check|outline|targets[,format=json]", default_value = "check")]
    pub(super) call: String,
    /// How it is told
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub(super) format: String,
}

/// `coracle images`.
#[derive(Clone, Debug, Args)]
pub(super) struct ImagesArguments {
    /// State directory [default: CORACLE_STATE_DIR, else the user's data directory]
    #[arg(long, value_name = "PATH")]
    pub(super) state_dir: Option<PathBuf>,
    /// Print names only
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// `coracle purge`.
#[derive(Clone, Debug, Args)]
pub(super) struct PurgeArguments {
    /// State directory [default: CORACLE_STATE_DIR, else the user's data directory]
    #[arg(long, value_name = "PATH")]
    pub(super) state_dir: Option<PathBuf>,
}

/// `coracle doctor`.
#[derive(Clone, Debug, Args)]
pub(super) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Ask this registry whether it answers and lets us in (repeat)
    #[arg(long = "registry", value_name = "HOST[:PORT]")]
    pub(super) registries: Vec<String>,
    /// Registry that is spoken to over plain HTTP or with an unverified certificate (repeat)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(super) insecure_registries: Vec<String>,
    /// State directory [default: CORACLE_STATE_DIR, else the user's data directory]
    #[arg(long, value_name = "PATH")]
    pub(super) state_dir: Option<PathBuf>,
}

impl BuildArguments {
    /// `--check` and `--call` of anything but `build`: nothing is built.
    pub(super) fn only_asks(&self) -> bool {
        self.check || self.call.split(',').next() != Some("build")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_of_flags_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_last_one_counts_and_lists_collect() {
        let line = ["coracle", "build", "--target", "a", "--target", "b", "-t", "x", "-t", "y", "."];
        let CommandLine { command: Command::Build(build) } = CommandLine::parse_from(line) else {
            panic!("it is a build");
        };
        assert_eq!(build.target.as_deref(), Some("b"));
        assert_eq!(build.tags, ["x", "y"]);
    }

    #[test]
    fn knows_every_flag_of_buildx() {
        let command = CommandLine::command();
        let build = command.find_subcommand("build").expect("it is in the enum above");
        let known: Vec<&str> = build.get_arguments().filter_map(clap::Arg::get_long).collect();
        for flag in [
            "tag",
            "file",
            "target",
            "build-arg",
            "build-context",
            "label",
            "annotation",
            "platform",
            "secret",
            "ssh",
            "allow",
            "network",
            "add-host",
            "ulimit",
            "shm-size",
            "cgroup-parent",
            "no-cache",
            "no-cache-filter",
            "pull",
            "push",
            "load",
            "output",
            "cache-from",
            "cache-to",
            "iidfile",
            "metadata-file",
            "progress",
            "quiet",
            "sbom",
            "provenance",
            "attest",
            "call",
            "check",
            "insecure-registry",
            "isolation",
            "state-dir",
            "explain",
        ] {
            assert!(known.contains(&flag), "--{flag}");
        }
    }
}
