//! Build arguments, proxies and labels.

use crate::settings::{
    Code, Key, Pairs, Reader, bare_names_from, is_build_argument_name, put, report_unset, semicolons, shown,
};

/// Where labels of `label_schema` go.
const SCHEMA: &str = "org.opencontainers.image.";

/// The build arguments of all settings.
pub(crate) fn build_arguments(reader: &mut Reader<'_>) -> Pairs {
    let mut pairs = reader.build_arguments(Key::BuildArgs);
    for (key, value) in new_arguments(reader) {
        put(&mut pairs, key, value);
    }
    for (key, value) in arguments_from_environment(reader) {
        if !pairs.iter().any(|(known, _)| *known == key) {
            pairs.push((key, value));
        }
    }
    pairs
}

fn new_arguments(reader: &mut Reader<'_>) -> Pairs {
    let Some(given) = reader.given(Key::BuildArgsNew) else { return Pairs::new() };
    let written = given.written.clone();
    let (legal, illegal): (Vec<_>, Vec<_>) =
        semicolons(given.value).into_iter().partition(|(key, _)| is_build_argument_name(key));
    for (key, _) in illegal {
        let problem = format!("`{}` is not a legal name", shown(&key));
        reader.wrong(
            Code::KeyValue,
            &written,
            problem,
            "`KEY=value` entries with `;` between them",
            "A=1;B=2",
        );
    }
    bare_names_from(legal, reader)
}

fn arguments_from_environment(reader: &mut Reader<'_>) -> Pairs {
    let mut pairs = Pairs::new();
    let written = reader.settings.written(Key::BuildArgsFromEnv);
    for name in reader.list(Key::BuildArgsFromEnv) {
        if !is_build_argument_name(&name) {
            let problem = format!("`{}` is not a variable's name", shown(&name));
            reader.wrong(Code::KeyValue, &written, problem, "names of variables", "NPM_TOKEN,VERSION");
            continue;
        }
        let upper = name.to_ascii_uppercase();
        let harness = format!("HARNESS_{upper}");
        match [&name, &upper, &harness].iter().find_map(|variable| reader.variable(variable)) {
            Some(value) => {
                put(&mut pairs, name, value.to_owned());
                put(&mut pairs, upper, value.to_owned());
            }
            None => report_unset(&name, reader),
        }
    }
    pairs
}

/// The proxy variables RUN gets: in both cases, unless a build argument gives either.
/// They are part of neither keys nor config.
pub(crate) fn proxies(reader: &Reader<'_>, build_arguments: &Pairs) -> Pairs {
    let mut pairs = Pairs::new();
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        let upper = name.to_ascii_uppercase();
        let given = build_arguments.iter().any(|(key, _)| key == name || *key == upper);
        let harness = format!("HARNESS_{upper}");
        let value = [name, &upper, &harness].into_iter().find_map(|variable| reader.variable(variable));
        if let Some(value) = value.filter(|_| !given) {
            pairs.push((name.to_owned(), value.to_owned()));
            pairs.push((upper, value.to_owned()));
        }
    }
    pairs
}

/// The labels of all settings; of one key the last wins.
pub(crate) fn labels(reader: &mut Reader<'_>) -> Pairs {
    let mut pairs = Pairs::new();
    for (key, value) in reader.labels(Key::LabelSchema) {
        put(&mut pairs, format!("{SCHEMA}{key}"), value);
    }
    for setting in [Key::CustomLabels, Key::Label, Key::Labels] {
        for (key, value) in reader.labels(setting) {
            put(&mut pairs, key, value);
        }
    }
    pairs
}
