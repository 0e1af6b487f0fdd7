//! README's table of settings, made from the table.

use std::fmt::Write;

use super::table::{Effect, Setting, TABLE};

/// The table in Markdown: one section after another, then the names that are
/// accepted without effect, not there yet, or refused.
pub(crate) fn settings_markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in TABLE.iter().filter(|setting| is_listed(setting)) {
        if setting.section != section {
            section = setting.section;
            push(
                &mut text,
                format_args!("\n### {section}\n\n| Setting | Variables | Type | Default | Meaning |"),
            );
            push(&mut text, format_args!("|---|---|---|---|---|"));
        }
        push(&mut text, format_args!("{}", row(setting)));
    }
    push(&mut text, format_args!("\n### Accepted, not there yet (one warning)\n"));
    push(&mut text, format_args!("{}", names(|effect| matches!(effect, Effect::LaterWarning(_)))));
    push(&mut text, format_args!("\n### Refused until it is there\n"));
    push(&mut text, format_args!("{}", names(|effect| matches!(effect, Effect::LaterError(_)))));
    push(&mut text, format_args!("\n### Accepted without effect\n"));
    push(
        &mut text,
        format_args!("No daemon to configure (one warning): {}\n", names(|e| e == Effect::NoDaemon)),
    );
    push(&mut text, format_args!("Nothing to do (one warning): {}\n", names(|e| e == Effect::None)));
    push(&mut text, format_args!("Silently: {}", names(|e| e == Effect::Silent)));
    push(&mut text, format_args!("\n### Refused\n"));
    for setting in TABLE {
        if let Effect::Refused(reason) = setting.effect {
            push(&mut text, format_args!("- `{}`: {reason}", setting.name));
        }
    }
    text.trim_start().to_owned()
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

/// Settings that do what their help says, and those of the second wave that
/// people look up beside them, are told apart by the lists below the table.
fn is_listed(setting: &Setting) -> bool {
    !setting.help.is_empty() && setting.effect == Effect::Works
}

fn row(setting: &Setting) -> String {
    let variables = setting.names.iter().map(|name| format!("`PLUGIN_{name}`"));
    let legacy = setting.legacy.iter().map(|name| format!("`{name}`"));
    let variables: Vec<String> = variables.chain(legacy).collect();
    format!(
        "| {} | {} | {} | {} | {} |",
        documented_name(setting),
        variables.join(", "),
        setting.kind.name(),
        setting.default,
        setting.help.replace('|', "\\|"),
    )
}

/// The name in a `settings:` block: the row's own, else the first alias; a variable
/// of another program where there is no alias.
fn documented_name(setting: &Setting) -> String {
    let own = setting.name.to_ascii_uppercase();
    match setting.names.first() {
        Some(_) if setting.names.contains(&own.as_str()) => setting.name.to_owned(),
        Some(first) => first.to_lowercase(),
        None => setting.legacy.iter().map(|variable| format!("${variable}")).collect(),
    }
}

fn names(of: impl Fn(Effect) -> bool) -> String {
    let names: Vec<String> = TABLE
        .iter()
        .filter(|setting| of(setting.effect))
        .map(|s| format!("`{}`", documented_name(s)))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEGIN: &str = "<!-- settings:begin -->";
    const END: &str = "<!-- settings:end -->";

    #[test]
    fn every_setting_is_in_it() {
        let text = settings_markdown();
        for setting in TABLE {
            let name = documented_name(setting);
            let listed = text.contains(&format!("| {name} |")) || text.contains(&format!("`{name}`"));
            assert!(listed, "{name}");
        }
    }

    #[test]
    fn readme_is_up_to_date() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(readme).unwrap_or_default();
        let Some((_, rest)) = text.split_once(BEGIN) else { return };
        let (table, _) = rest.split_once(END).expect("the marker that begins the table has its end");
        assert_eq!(
            table.trim(),
            settings_markdown().trim(),
            "README's table is stale: put `coracle-plugin --settings-table` between the markers"
        );
    }
}
