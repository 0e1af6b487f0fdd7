//! Variables of the FROM lines: the platforms, and ARGs before the first FROM.

use std::collections::BTreeMap;

use super::report::Report;
use super::scope::{Variables, expand};
use super::{Options, check};
use crate::dockerfile::{Arg, Dockerfile, InstructionKind};
use crate::image::{Platform, Reference};

/// What FROM lines see, and what an `ARG name` without a default takes in a stage.
#[derive(Debug)]
pub(super) struct Globals {
    pub(super) values: Variables,
    /// Also those that have no value.
    pub(super) declared: Vec<String>,
}

impl Globals {
    pub(super) fn of(dockerfile: &Dockerfile, options: &Options, report: &mut Report) -> Self {
        let mut globals = Self { values: predefined(dockerfile, options), declared: Vec::new() };
        globals.declare(dockerfile, &options.build_args, report);
        globals
    }

    /// The FROM lines as they are without any `--build-arg`: should be images too.
    pub(super) fn check_defaults(dockerfile: &Dockerfile, options: &Options, report: &mut Report) {
        let mut globals = Self { values: predefined(dockerfile, options), declared: Vec::new() };
        // The same mistakes are said where the arguments count.
        globals.declare(dockerfile, &BTreeMap::new(), &mut Report::default());
        for stage in &dockerfile.stages {
            let image = &stage.from.image;
            let Ok(name) = expand(&image.text, dockerfile.directives.escape, &globals.values) else { return };
            if name.value.parse::<Reference>().is_err() {
                check::invalid_default(report, image);
            }
        }
    }

    fn declare(
        &mut self,
        dockerfile: &Dockerfile,
        build_args: &BTreeMap<String, String>,
        report: &mut Report,
    ) {
        for instruction in &dockerfile.global_args {
            let InstructionKind::Arg(args) = &instruction.kind else { continue };
            for Arg { name, default } in args {
                self.declared.push(name.text.clone());
                if let Some(value) = build_args.get(&name.text) {
                    self.values.set(&name.text, value);
                } else if let Some(default) = default {
                    let value = expand(&default.text, dockerfile.directives.escape, &self.values);
                    if let Some(expansion) = report.take(default.span, value) {
                        self.values.set(&name.text, &expansion.value);
                    }
                }
            }
        }
    }
}

/// TARGETPLATFORM and its relatives. `--build-arg` may replace any of them.
fn predefined(dockerfile: &Dockerfile, options: &Options) -> Variables {
    let last = dockerfile.stages.last().and_then(|stage| stage.from.name.as_ref());
    let target = options.target.clone().or_else(|| last.map(|name| name.text.to_lowercase()));
    let mut variables = Variables::default();
    let mut set = |name: &str, value: &str| {
        variables.set(name, options.build_args.get(name).map_or(value, String::as_str));
    };
    for (prefix, platform) in [("BUILD", &options.build_platform), ("TARGET", &options.platform)] {
        let Platform { os, architecture, variant } = platform;
        set(&format!("{prefix}PLATFORM"), &platform.to_string());
        set(&format!("{prefix}OS"), os);
        set(&format!("{prefix}OSVERSION"), "");
        set(&format!("{prefix}ARCH"), architecture);
        set(&format!("{prefix}VARIANT"), variant.as_deref().unwrap_or_default());
    }
    set("TARGETSTAGE", target.as_deref().filter(|target| !target.is_empty()).unwrap_or("default"));
    variables
}
