//! The one table of settings: name, variables, type, default, what it does.
//! The raw struct, the list of known names and README's table all come from it.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A switch.
    Flag,
    /// A whole number.
    Integer,
    /// A span of time.
    Duration,
    /// A list.
    List,
    /// `KEY=value` pairs.
    Pairs,
    /// Secret specs.
    Specs,
    /// Any text.
    Text,
    /// A path.
    Path,
    /// A password or key: never shown, never trimmed.
    Secret,
}

impl Kind {
    /// Its name in README's table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flag => "bool",
            Self::Integer => "int",
            Self::Duration => "duration",
            Self::List => "list",
            Self::Pairs => "key-value list",
            Self::Specs => "secret specs",
            Self::Text => "text",
            Self::Path => "path",
            Self::Secret => "secret",
        }
    }
}

/// What giving the setting does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// What its help says.
    Works,
    /// Nothing: there is no daemon to configure. One warning.
    NoDaemon,
    /// Nothing. One warning.
    None,
    /// Nothing, and nothing is said.
    Silent,
    /// Not yet, and the build is right without it: one warning.
    LaterWarning(&'static str),
    /// Not yet, and going on without it would not be what was asked for.
    LaterError(&'static str),
    /// Refused for the reason given.
    Refused(&'static str),
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Which.
    pub(crate) key: Key,
    /// The name under which it is documented, lower case.
    pub(crate) name: &'static str,
    /// The section of README's table.
    pub(crate) section: &'static str,
    /// Names that carry a prefix, in order of precedence.
    pub(crate) names: &'static [&'static str],
    /// Whole variables of other programs, after all of `names`.
    pub(crate) legacy: &'static [&'static str],
    /// What a value looks like.
    pub(crate) kind: Kind,
    /// The default, in words.
    pub(crate) default: &'static str,
    /// What giving it does.
    pub(crate) effect: Effect,
    /// What it is for.
    pub(crate) help: &'static str,
}

macro_rules! settings {
    ($($section:literal { $($key:ident $field:ident [$($name:literal)*] [$($legacy:literal)*]
        $kind:ident $default:literal $effect:expr, $help:literal;)* })*) => {
        /// Names a setting in code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(clippy::enum_variant_names, reason = "named after the settings, some of which are keys")]
        pub(crate) enum Key { $($($key,)*)* }

        /// The raw values, as `envy` fills them: no meaning yet.
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        pub(crate) struct RawSettings { $($($field: Option<String>,)*)* }

        impl RawSettings {
            /// The raw value of `key`.
            pub(crate) fn get(&self, key: Key) -> Option<&str> {
                match key { $($(Key::$key => self.$field.as_deref(),)*)* }
            }
        }

        /// Every setting there is.
        pub(crate) static TABLE: &[Setting] = &[$($(Setting {
            key: Key::$key,
            name: stringify!($field),
            section: $section,
            names: &[$($name),*],
            legacy: &[$($legacy),*],
            kind: Kind::$kind,
            default: $default,
            effect: $effect,
            help: $help,
        },)*)*];
    };
}

use Effect::{LaterError, LaterWarning, NoDaemon, Refused, Silent, Works};

const NO_EFFECT: Effect = Effect::None;
const NO_BAKE: Effect = Refused("there is no bake: write one step per image");
const ELSEWHERE: Effect = Refused("the build would run on another machine; coracle builds in this step");
const NO_SIGNING: Effect = Refused("signing does not exist yet, and an unsigned image must not look signed");
const OTHER_PROGRAM: Effect = Refused("these are flags of another program; use the settings of their own");
const REMOTE_CACHE: Effect =
    LaterWarning("the cache in a registry comes in a later version; the one in the state directory is used");
const ECR_ADMIN: Effect = LaterError("repositories are not administered yet; set the policy up beforehand");
/// What keys of a cloud do until tokens are fetched with them.
pub(crate) const CLOUD_TOKENS: Effect = LaterError(
    "tokens are not fetched from the cloud yet; pass one as `username` and `password` (ECR: user `AWS`)",
);
const LATER: Effect = LaterWarning("it comes in a later version");

impl Setting {
    /// The row of `key`.
    pub(crate) fn of(key: Key) -> &'static Setting {
        TABLE.iter().find(|setting| setting.key == key).expect("every key is made from a row of the table")
    }
}

settings! {
    "Build" {
        Context context ["CONTEXT"] [] Path "`.`" Works,
            "What COPY reads: a directory, also as `dir://path`; `tar://file`; `https://host/repo.git#ref:directory`; `https://host/archive.tar.gz`";
        ContextSubPath context_sub_path ["CONTEXT_SUB_PATH"] [] Path "" Works,
            "A directory below the context that is used instead of it";
        Dockerfile dockerfile ["DOCKERFILE" "CONTAINERFILE" "FILE"] [] Path "`Dockerfile`, else `Containerfile`" Works,
            "Looked up from the working directory first, then from the context";
        Target target ["TARGET"] [] Text "last stage" Works, "The stage to build";
        BuildArgs build_args ["BUILD_ARGS"] [] Pairs "" Works,
            "Values for ARG; a name alone takes its value from the environment";
        BuildArgsNew build_args_new ["BUILD_ARGS_NEW"] [] Pairs "" Works,
            "The same, separated by `;` only; wins over `build_args`";
        BuildArgsFromEnv build_args_from_env ["BUILD_ARGS_FROM_ENV"] [] List "" Works,
            "Names of variables that become build arguments, as written and in upper case";
        Secret secret ["SECRET"] [] Specs "" Works,
            "`id=ID,src=FILE` or `id=ID,env=VARIABLE` for `RUN --mount=type=secret`";
        Secrets secrets ["SECRETS"] [] Specs "" Works, "Several of them";
        SecretsFromEnv secrets_from_env ["SECRETS_FROM_ENV"] [] List "" Works, "`id=VARIABLE`";
        SecretsFromFile secrets_from_file ["SECRETS_FROM_FILE"] [] List "" Works, "`id=path`";
        Platforms platforms ["PLATFORMS" "PLATFORM" "CUSTOM_PLATFORM"] [] List "the machine's" Works,
            "What to build for, `os/arch[/variant]`; one for now";
        PullImage pull_image ["PULL_IMAGE"] [] Flag "true" Works,
            "Ask the registry for base images every time";
        NoCache no_cache ["NO_CACHE"] [] Flag "false" Works, "Execute every step";
        Quiet quiet ["QUIET"] [] Flag "false" Works, "Say nothing but errors and the digest";
        Reproducible reproducible ["REPRODUCIBLE"] [] Flag "false" Works,
            "Clamp all times to SOURCE_DATE_EPOCH, else the commit's time, else 1970";
        AddHost add_host ["ADD_HOST"] [] List "" Works, "`name:address` lines for RUN's hosts file";
        Purge purge ["PURGE" "CLEANUP"] [] Flag "true" Works,
            "Remove the state directory at the end, unless it was named by `state_dir` or is a mount point";
        Isolation isolation ["ISOLATION"] [] Text "the best there is" Works,
            "How RUN is isolated; see Isolation";
        StateDir state_dir ["STATE_DIR"] [] Path "`$XDG_DATA_HOME/coracle`" Works,
            "Where the cache and the built images are";
        DiskQuota disk_quota ["DISK_QUOTA"] [] Text "none" Works,
            "How much the build may have unfinished on disk, as `20g`";
        Check check ["CHECK"] [] Flag "false" Works, "Resolve and log in everywhere, print the plan, build nothing";
        Strict strict ["STRICT"] [] Flag "false" Works, "An unknown setting is an error";
        CustomDns custom_dns ["CUSTOM_DNS"] [] List ""
            LaterError("RUN's resolver cannot be changed yet"), "Name servers for RUN";
        CustomDnsSearch custom_dns_search ["CUSTOM_DNS_SEARCH"] [] List ""
            LaterError("RUN's resolver cannot be changed yet"), "Search domains for RUN";
        SshAgentKey ssh_agent_key ["SSH_AGENT_KEY"] [] Secret "" Works,
            "A private key (PEM) for `RUN --mount=type=ssh` and git over SSH; stays in memory";
        Squash squash ["SQUASH"] [] Flag "false"
            LaterError("layers cannot be squashed yet"), "One layer instead of many";
        SingleSnapshot single_snapshot ["SINGLE_SNAPSHOT"] [] Flag "false" LATER, "One layer for the whole build";
        IgnorePath ignore_path ["IGNORE_PATH"] [] List "" LATER, "Paths that are part of no layer";
        IgnorePaths ignore_paths ["IGNORE_PATHS"] [] List "" LATER, "Paths that are part of no layer";
        ContextMode context_mode ["CONTEXT_MODE"] [] Text "" LATER, "`git`: file modes from the git index";
    }
    "Destinations" {
        Repo repo ["REPO"] [] List "in GitLab `$CI_REGISTRY_IMAGE`" Works,
            "The repositories to push to; a host in the name goes before `registry`";
        Registry registry ["REGISTRY"] [] Text "Docker Hub" Works, "The registry of names without a host";
        Destinations destinations ["DESTINATIONS" "DESTINATION"] [] List "" Works,
            "Full references, instead of `repo` and `tags`";
        ExtraTags extra_tags ["EXTRA_TAGS"] [] List "" Works, "Further full references";
        Tags tags ["TAG" "TAGS"] [] List "file `.tags`, else `latest`" Works, "The tags to push";
        TagsFile tags_file ["TAGS_FILE" "TAG_FILE"] [] Path "" Works, "A file with tags; wins over `tags`";
        AutoTag auto_tag ["AUTO_TAG" "DEFAULT_TAGS"] [] Flag "false" Works,
            "Tags from the git tag or branch; see Automatic tags";
        AutoTagSuffix auto_tag_suffix ["AUTO_TAG_SUFFIX" "DEFAULT_SUFFIX"] [] Text "" Works,
            "Put behind every automatic tag";
        DefaultTag default_tag ["DEFAULT_TAG"] [] Text "`latest`" Works,
            "The automatic tag of the default branch";
        AutoTagLatest auto_tag_latest ["AUTO_TAG_LATEST"] [] Flag "true under Woodpecker" Works,
            "Releases get `default_tag` too";
        AutoTagPrefix auto_tag_prefix ["AUTO_TAG_PREFIX"] [] Text "" Works,
            "Only git tags with this prefix count, without it";
        AutoTagUnmatched auto_tag_unmatched ["AUTO_TAG_UNMATCHED"] [] Text "`skip`" Works,
            "`skip`, `build` or `fail` when nothing matches; never pushes";
        ExpandTag expand_tag ["EXPAND_TAG"] [] Flag "false" Works, "`1.2.3` becomes `1`, `1.2` and `1.2.3`";
        ExpandRepo expand_repo ["EXPAND_REPO"] [] Flag "true" Works,
            "Put `registry` before a repository without a host";
        DryRun dry_run ["DRY_RUN" "NO_PUSH"] ["KANIKO_NO_PUSH"] Flag "false" Works, "Build, but do not push";
        TarPath tar_path ["TAR_PATH" "DESTINATION_TAR_PATH"] [] Path "" Works,
            "Also write a tar that `docker load` reads";
        OciLayoutPath oci_layout_path ["OCI_LAYOUT_PATH"] [] Path "" Works,
            "Also write an OCI layout into this directory";
        PushOnly push_only ["PUSH_ONLY"] [] Flag "false" Works, "Push a tar instead of building; not yet";
        SourceTarPath source_tar_path ["SOURCE_TAR_PATH"] [] Path "" Works, "The tar of `push_only`";
        Output output ["OUTPUT"] [] Text ""
            LaterError("use `tar_path` or `oci_layout_path`"), "`type=…,dest=…`";
        PushRetry push_retry ["PUSH_RETRY"] [] Integer "3" LATER, "How often a push is tried again";
        ImageDownloadRetry image_download_retry ["IMAGE_DOWNLOAD_RETRY"] [] Integer "3" LATER,
            "How often a pull is tried again";
        SkipPushPermissionCheck skip_push_permission_check ["SKIP_PUSH_PERMISSION_CHECK"] [] Flag "false" LATER,
            "Do not try before the build whether a push will be allowed";
        SkipPushIfTagExists skip_push_if_tag_exists ["SKIP_PUSH_IF_TAG_EXISTS"] [] Flag "false"
            LaterError("existing tags are not looked up yet"), "Leave a tag that exists alone";
        PushIgnoreImmutableTagErrors push_ignore_immutable_tag_errors ["PUSH_IGNORE_IMMUTABLE_TAG_ERRORS"] []
            Flag "false" LATER, "A refused push to an immutable tag is no failure";
        App app ["APP"] [] Text "" Works, "Heroku: the app; pushes to `registry.heroku.com/APP/PROCESS`";
        ProcessType process_type ["PROCESS_TYPE"] [] Text "`web`" Works, "Heroku: the process type";
    }
    "Labels" {
        LabelSchema label_schema ["LABEL_SCHEMA"] [] Pairs "" Works,
            "Labels whose keys get `org.opencontainers.image.` in front";
        CustomLabels custom_labels ["CUSTOM_LABELS"] [] Pairs "" Works, "Labels";
        Label label ["LABEL"] [] Pairs "" Works, "Labels";
        Labels labels ["LABELS"] [] Pairs "" Works, "Labels; of all these the last wins";
        AutoLabel auto_label ["AUTO_LABEL" "AUTO_LABELS" "DEFAULT_LABELS"] [] Flag "true" Works,
            "Labels with commit, repository and version; every other label wins over them";
        Link link ["REPO_LINK"] [] Text "the repository's page" Works, "The `url` label";
    }
    "Cache" {
        EnableCache enable_cache ["ENABLE_CACHE" "CACHE"] [] Flag "true with `cache_repo`" REMOTE_CACHE,
            "Keep the cache in a registry";
        CacheRepo cache_repo ["CACHE_REPO"] [] Text "destination + `/cache`, Docker Hub `-cache`" REMOTE_CACHE,
            "Where it is";
        CacheTtl cache_ttl ["CACHE_TTL"] [] Duration "`336h`" REMOTE_CACHE, "How long an entry counts";
        CacheDir cache_dir ["CACHE_DIR"] [] Path "" REMOTE_CACHE, "A directory with base images";
        CacheFrom cache_from ["CACHE_FROM"] [] List "" REMOTE_CACHE, "Images whose layers may be reused";
        CacheTo cache_to ["CACHE_TO"] [] List "" REMOTE_CACHE, "Where to put layers for others";
        CacheImages cache_images ["CACHE_IMAGES"] [] List "" REMOTE_CACHE, "Images to keep";
        CacheCopyLayers cache_copy_layers ["CACHE_COPY_LAYERS"] [] Flag "true" LATER, "Cache COPY layers";
        CacheRunLayers cache_run_layers ["CACHE_RUN_LAYERS"] [] Flag "true" LATER, "Cache RUN layers";
    }
    "Registry access" {
        Username username ["USERNAME"] [] Text "" Works, "The user at `registry`";
        Password password ["PASSWORD"] [] Secret "" Works, "The password or token";
        Logins logins ["LOGINS"] [] Secret "" Works,
            "A JSON list of `{\"registry\", \"username\", \"password\"}`";
        BaseImageUsername base_image_username ["BASE_IMAGE_USERNAME" "DOCKER_USERNAME"] [] Text "" Works,
            "The user for base images";
        BaseImagePassword base_image_password ["BASE_IMAGE_PASSWORD" "DOCKER_PASSWORD"] [] Secret "" Works,
            "The password for base images";
        BaseImageRegistry base_image_registry ["BASE_IMAGE_REGISTRY" "DOCKER_REGISTRY"] [] Text "Docker Hub" Works,
            "The registry of base images";
        Config config ["CONFIG" "DOCKER_CONFIG_JSON" "REGISTRY_CONFIG"] ["DOCKER_PLUGIN_CONFIG"] Secret "" Works,
            "A docker `config.json`: its text, its path, or base64 of it";
        JsonKey json_key ["JSON_KEY"] [] Secret "" Works,
            "A Google service account key, or base64 of it";
        AccessKey access_key ["ACCESS_KEY" "AWS_ACCESS_KEY_ID"] [] Secret "" CLOUD_TOKENS, "ECR";
        SecretKey secret_key ["SECRET_KEY" "AWS_SECRET_ACCESS_KEY"] [] Secret "" CLOUD_TOKENS, "ECR";
        Region region ["REGION" "AWS_REGION"] [] Text "" LATER, "ECR";
        AssumeRole assume_role ["ASSUME_ROLE"] [] Text "" CLOUD_TOKENS, "ECR";
        ExternalId external_id ["EXTERNAL_ID"] [] Text "" LATER, "ECR";
        OidcTokenId oidc_token_id ["OIDC_TOKEN_ID"] [] Secret "" CLOUD_TOKENS, "ECR and ACR";
        CreateRepository create_repository ["CREATE_REPOSITORY" "ECR_CREATE_REPOSITORY"] [] Flag "false"
            ECR_ADMIN, "ECR";
        ClientId client_id ["CLIENT_ID"] [] Text "" CLOUD_TOKENS, "ACR";
        ClientSecret client_secret ["CLIENT_SECRET"] [] Secret "" CLOUD_TOKENS, "ACR";
        ClientCertificate client_certificate ["CLIENT_CERTIFICATE"] [] Secret "" CLOUD_TOKENS, "ACR";
        TenantId tenant_id ["TENANT_ID"] [] Text "" LATER, "ACR";
        AzureAuthorityHost azure_authority_host ["AZURE_AUTHORITY_HOST"] [] Text "" LATER, "ACR";
        ApiKey api_key ["API_KEY"] [] Secret "" Works, "Heroku: the key";
        AccessToken access_token ["ACCESS_TOKEN"] [] Secret "" CLOUD_TOKENS, "Google";
        Mirror mirror ["MIRROR"] [] List "" LATER, "Mirrors of Docker Hub";
        RegistryMirrors registry_mirrors ["REGISTRY_MIRRORS"] [] List "" LATER, "Mirrors of Docker Hub";
        Mirrors mirrors ["MIRRORS"] [] List "" LATER, "Mirrors of Docker Hub";
        KanikoMirror kaniko_mirror [] ["KANIKO_REGISTRY_MIRROR"] List "" LATER, "Mirrors of Docker Hub";
        DockerPluginMirror docker_plugin_mirror [] ["DOCKER_PLUGIN_MIRROR"] List "" LATER, "Mirrors of Docker Hub";
        SkipDefaultRegistryFallback skip_default_registry_fallback ["SKIP_DEFAULT_REGISTRY_FALLBACK"] []
            Flag "false" LaterError("mirrors are not used yet"), "Never ask Docker Hub itself";
        RegistryMap registry_map ["REGISTRY_MAP"] ["KANIKO_REGISTRY_MAP"] Text ""
            LaterError("registries cannot be mapped yet"), "`a=b;c=d`";
        Insecure insecure ["INSECURE"] [] Flag "false" Works,
            "The push registries may be unverified, or plain HTTP";
        SkipTlsVerify skip_tls_verify ["SKIP_TLS_VERIFY" "SKIP_VERIFY"] [] Flag "false" Works,
            "Do not verify the push registries' certificates";
        InsecurePull insecure_pull ["INSECURE_PULL"] [] Flag "false"
            LaterError("name the hosts in `insecure_registry`"), "The same for base images";
        SkipTlsVerifyPull skip_tls_verify_pull ["SKIP_TLS_VERIFY_PULL"] [] Flag "false"
            LaterError("name the hosts in `skip_tls_verify_registry`"), "The same for base images";
        InsecureRegistry insecure_registry ["INSECURE_REGISTRY"] [] List "" Works,
            "Hosts that may be unverified, or plain HTTP";
        SkipTlsVerifyRegistry skip_tls_verify_registry ["SKIP_TLS_VERIFY_REGISTRY"] [] List "" Works,
            "Hosts whose certificates are not verified";
        RegistryCertificate registry_certificate ["REGISTRY_CERTIFICATE"] [] List ""
            LaterError("point SSL_CERT_FILE at a bundle that has it"), "`host=path`";
        RegistryClientCert registry_client_cert ["REGISTRY_CLIENT_CERT"] [] List ""
            LaterError("client certificates are not supported yet"), "`host=cert,key`";
        ProjectNumber project_number ["PROJECT_NUMBER"] [] Text "" CLOUD_TOKENS, "Google";
        PoolId pool_id ["POOL_ID"] [] Text "" CLOUD_TOKENS, "Google";
        ProviderId provider_id ["PROVIDER_ID"] [] Text "" CLOUD_TOKENS, "Google";
        ServiceAccountEmail service_account_email ["SERVICE_ACCOUNT_EMAIL"] [] Text "" CLOUD_TOKENS, "Google";
        WorkloadIdentity workload_identity ["WORKLOAD_IDENTITY"] [] Flag "false" CLOUD_TOKENS, "Google";
        LifecyclePolicy lifecycle_policy ["LIFECYCLE_POLICY" "ECR_LIFECYCLE_POLICY"] [] Path "" ECR_ADMIN, "ECR";
        RepositoryPolicy repository_policy ["REPOSITORY_POLICY" "ECR_REPOSITORY_POLICY"] [] Path "" ECR_ADMIN,
            "ECR";
        ScanOnPush scan_on_push ["SCAN_ON_PUSH" "ECR_SCAN_ON_PUSH"] [] Flag "false" ECR_ADMIN, "ECR";
        DaemonRegistry daemon_registry ["DAEMON_REGISTRY"] [] Text ""
            LaterError("write it as `registry`"), "The registry";
    }
    "Output" {
        ArtifactFile artifact_file ["ARTIFACT_FILE"] [] Path "" Works, "JSON with the pushed images, as Drone reads it";
        DigestFile digest_file ["DIGEST_FILE"] [] Path "" Works, "The digest";
        ImageNameWithDigestFile image_name_with_digest_file ["IMAGE_NAME_WITH_DIGEST_FILE"] [] Path "" Works,
            "`repo@digest`, one per line";
        ImageNameTagWithDigestFile image_name_tag_with_digest_file ["IMAGE_NAME_TAG_WITH_DIGEST_FILE"] [] Path ""
            Works, "`repo:tag@digest`, one per line";
        MetadataFile metadata_file ["METADATA_FILE"] [] Path "" Works, "JSON with digest, image id and names";
        DotenvFile dotenv_file ["DOTENV_FILE"] [] Path "" Works,
            "`IMAGE`, `DIGEST` and so on for GitLab's `artifacts:reports:dotenv`";
        AnnotationsFile annotations_file ["ANNOTATIONS_FILE"] [] Path "" Works,
            "A link for GitLab's `artifacts:reports:annotations`";
        CacheMetricsFile cache_metrics_file ["CACHE_METRICS_FILE"] [] Path "" LATER, "JSON with cache hits";
        RegistryType registry_type ["REGISTRY_TYPE"] [] Text "from the host" Works,
            "`Docker`, `ECR`, `GCR`, `GAR` or `ACR` in `artifact_file`";
        Verbosity verbosity ["VERBOSITY" "LOG_LEVEL" "LOG"] [] Text "`info`" Works,
            "`error` and above say nothing but errors; `trace` to `warn` are alike for now";
        Debug debug ["DEBUG"] [] Flag "false" Silent, "No effect yet";
        LogFormat log_format ["LOG_FORMAT"] [] Text "`text`" Works, "`text` or `color`; `json` comes later";
        LogTimestamp log_timestamp ["LOG_TIMESTAMP"] [] Flag "false" LATER, "Times in the log";
        EnvFile env_file ["ENV_FILE"] [] Path "" Works,
            "`NAME=value` lines, read before everything else; variables that exist win";
    }
    "Build metadata" {
        DefaultBranch default_branch ["DEFAULT_BRANCH"] [] Text "from the CI, else git" Works,
            "The default branch, for `auto_tag`";
        Ref ref_override ["REF"] [] Text "from the CI, else git" Works, "The git ref";
        Sha sha ["SHA"] [] Text "from the CI, else git" Works, "The commit";
    }
    "Accepted" {
        MultipleBuildArgs multiple_build_args ["MULTIPLE_BUILD_ARGS"] [] Flag "" Silent, "";
        Email email ["EMAIL"] ["DOCKER_EMAIL"] Text "" Silent, "";
        SubscriptionId subscription_id ["SUBSCRIPTION_ID"] [] Text "" Silent, "";
        SkipUnusedStages skip_unused_stages ["SKIP_UNUSED_STAGES"] [] Flag "" Silent, "";
        StorageDriver storage_driver ["STORAGE_DRIVER"] [] Text "" NoDaemon, "";
        StoragePath storage_path ["STORAGE_PATH"] [] Text "" NoDaemon, "";
        Bip bip ["BIP"] [] Text "" NoDaemon, "";
        Ipv6 ipv6 ["IPV6"] [] Text "" NoDaemon, "";
        Mtu mtu ["MTU"] [] Text "" NoDaemon, "";
        Experimental experimental ["EXPERIMENTAL"] [] Text "" NoDaemon, "";
        DaemonOff daemon_off ["DAEMON_OFF"] [] Text "" NoDaemon, "";
        DaemonRetryCount daemon_retry_count ["DAEMON_RETRY_COUNT"] [] Text "" NoDaemon, "";
        BuildkitDebug buildkit_debug ["BUILDKIT_DEBUG"] [] Text "" NoDaemon, "";
        BuildkitDriveropt buildkit_driveropt ["BUILDKIT_DRIVEROPT"] [] Text "" NoDaemon, "";
        BuildkitVersion buildkit_version ["BUILDKIT_VERSION"] [] Text "" NoDaemon, "";
        UseLoadedBuildkit use_loaded_buildkit ["USE_LOADED_BUILDKIT"] [] Text "" NoDaemon, "";
        BuildkitAssetsDir buildkit_assets_dir ["BUILDKIT_ASSETS_DIR"] [] Text "" NoDaemon, "";
        BuildkitInheritAuth buildkit_inherit_auth ["BUILDKIT_INHERIT_AUTH"] [] Text "" NoDaemon, "";
        BuildkitTlsTimeout buildkit_tls_handshake_timeout ["BUILDKIT_TLS_HANDSHAKE_TIMEOUT"] [] Text "" NoDaemon, "";
        BuildkitResponseTimeout buildkit_response_header_timeout ["BUILDKIT_RESPONSE_HEADER_TIMEOUT"] [] Text ""
            NoDaemon, "";
        BuilderName builder_name ["BUILDER_NAME"] [] Text "" NoDaemon, "";
        BuilderConfig builder_config ["BUILDER_CONFIG"] [] Text "" NoDaemon, "";
        BuilderDriver builder_driver ["BUILDER_DRIVER"] [] Text "" NoDaemon, "";
        BuilderDriverOpts builder_driver_opts ["BUILDER_DRIVER_OPTS"] [] Text "" NoDaemon, "";
        BuilderDriverOptsNew builder_driver_opts_new ["BUILDER_DRIVER_OPTS_NEW"] [] Text "" NoDaemon, "";
        BuildxLoad buildx_load ["BUILDX_LOAD"] [] Text "" NoDaemon, "";
        BuildkitConfig buildkit_config ["BUILDKIT_CONFIG"] [] Text "" NoDaemon, "";
        BuildxOutputFormat buildx_output_format ["BUILDX_OUTPUT_FORMAT"] [] Text "" NoDaemon, "";
        LaunchDebug docker_launch_debug [] ["DOCKER_LAUNCH_DEBUG"] Text "" NoDaemon, "";
        Compress compress ["COMPRESS"] [] Flag "" NO_EFFECT, "";
        CompressedCaching compressed_caching ["COMPRESSED_CACHING"] [] Flag "" NO_EFFECT, "";
        ForceTag force_tag ["FORCE_TAG"] [] Flag "" NO_EFFECT, "";
        UseNewRun use_new_run ["USE_NEW_RUN"] [] Flag "" NO_EFFECT, "";
        Force force ["FORCE"] [] Flag "" NO_EFFECT, "";
        IgnoreVarRun ignore_var_run ["IGNORE_VAR_RUN"] [] Flag "" NO_EFFECT, "";
        ImageFsExtractRetry image_fs_extract_retry ["IMAGE_FS_EXTRACT_RETRY"] [] Integer "" NO_EFFECT, "";
        SnapshotMode snapshot_mode ["SNAPSHOT_MODE"] [] Text "" NO_EFFECT, "";
        PathStyle path_style ["PATH_STYLE"] [] Text "" NO_EFFECT, "";
        CacheTlsInsecure cache_tls_insecure ["CACHE_TLS_INSECURE"] [] Flag "" NO_EFFECT, "";
        Provenance provenance ["PROVENANCE"] [] Text "" NO_EFFECT, "";
    }
    "Refused" {
        BakeFile bake_file ["BAKE_FILE"] [] Path "" NO_BAKE, "";
        BakeOptions bake_options ["BAKE_OPTIONS"] [] Text "" NO_BAKE, "";
        BuilderRemoteConn builder_remote_conn ["BUILDER_REMOTE_CONN"] [] Text "" ELSEWHERE, "";
        RemoteBuilders remote_builders ["REMOTE_BUILDERS"] [] Text "" ELSEWHERE, "";
        SourceImage source_image ["SOURCE_IMAGE"] [] Text ""
            Refused("there is no local image store to push from"), "";
        CosignPrivateKey cosign_private_key ["COSIGN_PRIVATE_KEY"] [] Secret "" NO_SIGNING, "";
        CosignPassword cosign_password ["COSIGN_PASSWORD"] [] Secret "" Silent, "";
        CosignParams cosign_params ["COSIGN_PARAMS"] [] Text "" Silent, "";
        ExtraOpts extra_opts ["EXTRA_OPTS"] [] Text "" OTHER_PROGRAM, "";
        BuildxOptions buildx_options ["BUILDX_OPTIONS"] [] Text "" OTHER_PROGRAM, "";
        BuildxOptionsSemicolon buildx_options_semicolon ["BUILDX_OPTIONS_SEMICOLON"] [] Text "" OTHER_PROGRAM, "";
    }
}

/// Families of names that are known by their beginning and have no effect.
pub(crate) const NO_EFFECT_PREFIXES: &[&str] = &["HARNESS_SELF_HOSTED_"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_variable_means_one_setting() {
        let mut seen = BTreeSet::new();
        for setting in TABLE {
            for name in setting.names.iter().chain(setting.legacy) {
                assert!(seen.insert(name), "{name} is in two rows");
                assert_eq!(*name, name.to_ascii_uppercase());
            }
            assert!(!setting.names.is_empty() || !setting.legacy.is_empty(), "{}", setting.name);
        }
    }

    #[test]
    fn works_means_documented() {
        for setting in TABLE.iter().filter(|setting| setting.effect == Works) {
            assert!(!setting.help.is_empty(), "{} has no help", setting.name);
        }
    }
}
