//! Instructions that hold a command: RUN, HEALTHCHECK, SHELL, and the two
//! forms a command has.

use super::arguments::{JsonArray, json_array};
use super::ast::{CommandForm, HealthcheckFlags, HealthcheckKind, InstructionKind, RunFlags, Word};
use super::flags::Flags;
use super::instruction::{Head, Reader};
use super::line::Fragment;
use super::span::{Diagnostic, shown};
use super::suggest::nearest;

/// What `RUN --network` and `RUN --security` take; neither is expanded.
const NETWORKS: [&str; 3] = ["default", "none", "host"];
const SECURITY_MODES: [&str; 2] = ["sandbox", "insecure"];

impl Reader<'_> {
    /// The words of a JSON array; an array of anything but strings is reported.
    pub(super) fn strings(&mut self, text: Fragment<'_>) -> Result<Option<Vec<Word>>, ()> {
        match json_array(text) {
            JsonArray::Strings(words) => Ok(Some(words)),
            JsonArray::No => Ok(None),
            JsonArray::OtherValues => {
                let message = "the array holds something that is not a string";
                let hint = "put every element between double quotes";
                self.report(Diagnostic::error(text.span(), message).with_hint(hint));
                Err(())
            }
        }
    }

    /// A JSON array, or a line for the shell.
    pub(super) fn command(&mut self, text: Fragment<'_>) -> Option<CommandForm> {
        Some(match self.strings(text).ok()? {
            Some(words) => CommandForm::Exec(words.into_iter().map(|word| word.text).collect()),
            None => CommandForm::Shell(text.text().to_owned()),
        })
    }

    /// Reads `RUN`.
    pub(super) fn run(&mut self, head: &Head<'_>, flags: &Flags) -> Option<InstructionKind> {
        let network = flags.value("network");
        let security = flags.value("security");
        self.one_of("network", network.as_ref(), &NETWORKS);
        self.one_of("security", security.as_ref(), &SECURITY_MODES);
        let command = self.command(head.arguments)?;
        if command == CommandForm::Exec(Vec::new()) {
            self.report(Diagnostic::error(head.arguments.span(), "`RUN` needs a program to run"));
            return None;
        }
        let flags =
            RunFlags { mounts: flags.list("mount"), network, security, devices: flags.list("device") };
        Some(InstructionKind::Run(flags, command, head.heredocs()))
    }

    fn one_of(&mut self, flag: &str, value: Option<&Word>, allowed: &[&str]) {
        let Some(value) = value.filter(|value| !allowed.contains(&value.text.as_str())) else { return };
        let message = format!("`--{flag}` does not take `{}`", shown(&value.text));
        let hint = match nearest(&value.text, allowed) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "it takes {}",
                allowed.iter().map(|a| format!("`{a}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        self.report(Diagnostic::error(value.span, message).with_hint(hint));
    }

    /// Reads `HEALTHCHECK`.
    pub(super) fn healthcheck(&mut self, head: &Head<'_>, flags: &Flags) -> Option<InstructionKind> {
        let (form, rest) = head.arguments.split_word();
        let kind = match form.text().to_ascii_uppercase().as_str() {
            "NONE" if rest.text().is_empty() => HealthcheckKind::None,
            "NONE" => {
                self.report(Diagnostic::error(rest.span(), "`HEALTHCHECK NONE` takes no arguments"));
                return None;
            }
            "CMD" => {
                let command = self.command(rest)?;
                if matches!(&command, CommandForm::Shell(line) if line.is_empty())
                    || command == CommandForm::Exec(Vec::new())
                {
                    self.report(Diagnostic::error(form.span(), "`HEALTHCHECK CMD` needs a command"));
                    return None;
                }
                HealthcheckKind::Cmd(healthcheck_flags(flags), command)
            }
            _ => {
                let message =
                    format!("`HEALTHCHECK` is followed by `CMD` or `NONE`, not `{}`", shown(form.text()));
                self.report(
                    Diagnostic::error(form.span(), message)
                        .with_hint("options come first, then `CMD`, then the command"),
                );
                return None;
            }
        };
        Some(InstructionKind::Healthcheck(kind))
    }

    /// Reads `SHELL`.
    pub(super) fn shell(&mut self, head: &Head<'_>) -> Option<InstructionKind> {
        match self.strings(head.arguments).ok()? {
            Some(words) if !words.is_empty() => {
                Some(InstructionKind::Shell(words.into_iter().map(|word| word.text).collect()))
            }
            Some(_) => {
                self.report(Diagnostic::error(head.arguments.span(), "`SHELL` needs at least one argument"));
                None
            }
            None => {
                self.report(
                    Diagnostic::error(head.arguments.span(), "`SHELL` takes a JSON array")
                        .with_hint("for example `SHELL [\"/bin/bash\", \"-c\"]`"),
                );
                None
            }
        }
    }
}

fn healthcheck_flags(flags: &Flags) -> HealthcheckFlags {
    HealthcheckFlags {
        interval: flags.value("interval"),
        timeout: flags.value("timeout"),
        start_period: flags.value("start-period"),
        start_interval: flags.value("start-interval"),
        retries: flags.value("retries"),
    }
}
