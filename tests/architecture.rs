//! The rules of the house (ARCHITECTURE.md): who may import whom, how long a
//! file may be, and what must never stand in a tracked file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::support::plain;

pub fn trials() -> Vec<Trial> {
    vec![
        plain("architecture::rooms_import_from_lower_floors_only", rooms_import_from_lower_floors_only),
        plain("architecture::every_room_has_a_floor", every_room_has_a_floor),
        plain("architecture::the_plugin_uses_the_door", the_plugin_uses_the_door),
        plain("architecture::no_file_of_logic_is_long", no_file_of_logic_is_long),
        plain("architecture::readme_has_the_settings_table", readme_has_the_settings_table),
        plain("architecture::no_path_of_one_machine", no_path_of_one_machine),
        plain("architecture::import_reader_reads_imports", import_reader_reads_imports),
    ]
}

/// Room, floor. A room imports from lower floors, never sideways. `secret` is
/// one type that rooms of the first floor hold too, so it lies under them.
const FLOORS: [(&str, u8); 18] = [
    ("dockerfile", 1),
    ("image", 1),
    ("metadata", 1),
    ("progress", 1),
    ("secret", 0),
    ("ci", 2),
    ("context", 2),
    ("layer", 2),
    ("net", 2),
    ("plan", 2),
    ("sandbox", 2),
    ("ssh", 2),
    ("store", 2),
    ("fetch", 3),
    ("registry", 3),
    ("rootfs", 3),
    ("build", 4),
    ("cli", 5),
];

/// What `plugin` may use of the library.
const PLUGIN: [&str; 12] = [
    "build", "ci", "cli", "fetch", "image", "plan", "progress", "registry", "sandbox", "secret", "ssh",
    "store",
];

/// Lines of a file of logic, tests left out. Tables may be longer: the ones
/// that are have their reason here.
const LONGEST: usize = 600;
const TABLES: [&str; 1] = ["plugin/src/settings/table.rs"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn rooms_import_from_lower_floors_only() -> Result<(), String> {
    let mut wrong = BTreeSet::new();
    for path in sources("src") {
        let Some(room) = room_of(&path) else { continue };
        for other in imports(&without_tests(&read(&path)), "crate::") {
            if other != room && floor(&other) >= floor(&room) {
                wrong.insert(format!("{room} -> {other} ({})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table: {wrong:#?}");
    Ok(())
}

fn every_room_has_a_floor() -> Result<(), String> {
    let rooms: BTreeSet<String> = sources("src").iter().filter_map(|path| room_of(path)).collect();
    let known: BTreeSet<String> = FLOORS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, known);
    Ok(())
}

fn the_plugin_uses_the_door() -> Result<(), String> {
    let mut wrong = BTreeSet::new();
    for path in sources("plugin/src") {
        for room in imports(&without_tests(&read(&path)), "coracle::") {
            if !PLUGIN.contains(&room.as_str()) {
                wrong.insert(format!("plugin -> {room} ({})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table: {wrong:#?}");
    Ok(())
}

fn no_file_of_logic_is_long() -> Result<(), String> {
    let all = sources("src").into_iter().chain(sources("plugin/src"));
    let long: Vec<_> = all
        .filter(|path| !TABLES.iter().any(|table| path.ends_with(table)))
        .map(|path| (without_tests(&read(&path)).lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines: {long:#?}");
    Ok(())
}

/// README's table is what `coracle-plugin --settings-table` prints.
fn readme_has_the_settings_table() -> Result<(), String> {
    let readme = read(&root().join("README.md"));
    let (_, rest) = readme.split_once("<!-- settings:begin -->").expect("README.md has the first marker");
    let (table, _) = rest.split_once("<!-- settings:end -->").expect("README.md has the second marker");
    let binary = Path::new(env!("CARGO_BIN_EXE_coracle")).with_file_name("coracle-plugin");
    if !binary.exists() {
        return Err("coracle-plugin is not built (cargo build --workspace)".to_owned());
    }
    let printed = Command::new(binary).arg("--settings-table").env_clear().output().unwrap();
    assert!(printed.status.success(), "--settings-table failed");
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(table.trim() == printed.trim(), "README.md is stale: make readme");
    Ok(())
}

/// A path or a mirror of the machine somebody works on has no meaning elsewhere.
fn no_path_of_one_machine() -> Result<(), String> {
    // In pieces, so that this file does not find itself.
    let forbidden = [
        "/wor",
        "k/",
        "|/ro",
        "ot/.",
        "|/far",
        "m/",
        "|/tmp/ba",
        "sh",
        "|artifact-",
        "registry",
        "|.pkg.",
        "dev/",
    ];
    let forbidden = forbidden.concat();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        return Err("not a git checkout".to_owned());
    };
    let mut found = Vec::new();
    for name in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|name| !name.is_empty()) {
        // Goldens and vectors quote what the world sends, Dockerfiles name what is in images.
        if ["tests/vectors/", "tests/dockerfile/", "tests/judge/", "tests/sandboxes/dockerfiles/"]
            .iter()
            .any(|goldens| name.starts_with(goldens))
            || name == "Cargo.lock"
        {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(root().join(name)).unwrap_or_default()).into_owned();
        for (number, line) in text.lines().enumerate() {
            if forbidden.split('|').any(|part| mentions(line, part)) {
                found.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// `part` as a path of its own, not as the tail of another one.
fn mentions(line: &str, part: &str) -> bool {
    line.match_indices(part).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !part.starts_with('/') || before.is_none_or(|c| !c.is_alphanumeric() && !"._-}".contains(c))
    })
}

/// The reader itself: what counts as an import.
fn import_reader_reads_imports() -> Result<(), String> {
    let text = "use crate::image::{Digest, Layer};\nuse crate::{layer, plan::Op};\n//! [`crate::store`]\n\
                fn f() { crate::secret::Secret::new(\"\") }\n#[cfg(test)]\nmod tests {\n    use crate::build::X;\n}\n";
    let found = imports(&without_tests(text), "crate::");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["image", "layer", "plan", "secret"]);
    Ok(())
}

/// First path segments behind `prefix`, comments left out; groups are opened.
fn imports(text: &str, prefix: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(head(rest)),
        }
    }
    found.retain(|name| floor(name).is_some());
    found
}

/// The first segments of `a::b, c, d::{e, f}}`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0_i32, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(head(group[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(head(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn head(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// `src/<room>/…` or `src/<room>.rs`.
fn room_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

/// The text without its `#[cfg(test)]` items: inline modules to their closing
/// brace in the first column, declarations to their semicolon.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("#[cfg(test)]") {
            kept.push(line);
            continue;
        }
        let item = lines.next().unwrap_or_default();
        if item.ends_with('{') {
            lines.by_ref().find(|line| line.starts_with('}'));
        }
    }
    kept.join("\n")
}

/// Rust files below `directory`; whole files of tests are left out.
fn sources(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_file(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
        || path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with("_tests"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
