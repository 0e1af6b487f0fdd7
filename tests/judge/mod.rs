//! Small Dockerfiles, and what BuildKit makes of each: a corpus of `*.case` files
//! (`case.rs` has their form). A case ends with BuildKit's answer, written down
//! where a BuildKit is at hand, so that every machine compares with the real thing.
//!
//! - plain run: coracle's answer against the answer in the file;
//! - `CORACLE_BLESS=missing|all`: asks BuildKit (`docker buildx` and whatever daemon
//!   `DOCKER_HOST` names), and writes its answer into the file first;
//! - `CORACLE_BLESS=ask`: asks BuildKit now and writes nothing;
//! - `CORACLE_SOAK=1`: every case, as root and as an ordinary user; without it every
//!   third of those that are not marked `soak:`.

mod buildkit;
mod case;
mod coracle;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Completion, Trial};

use self::case::Case;
use self::picture::Picture;
use crate::support::base;
use crate::support::{Bench, User, caught, plain, switch};

/// One test for each case: `judge::language/NAME`.
pub fn trials() -> Vec<Trial> {
    let soak = switch("CORACLE_SOAK").is_some();
    let bless = switch("CORACLE_BLESS").is_some();
    let mut trials = if soak { vec![plain("judge::defended", report)] } else { Vec::new() };
    for (number, path) in corpus().iter().enumerate() {
        let name = case::name(path);
        if soak || bless || number % 3 == 0 && !Case::read(path).is("soak") {
            trials.push(trial(&name, path, || Ok(User::caller())));
        }
        if soak && User::root().is_ok() {
            trials.push(trial(&format!("{name}::as_ordinary"), path, User::ordinary));
        }
    }
    trials
}

fn trial(name: &str, path: &Path, find: fn() -> Result<User, String>) -> Trial {
    let path = path.to_owned();
    Trial::ignorable_test(format!("judge::{name}"), move || match find() {
        Ok(user) => caught(|| judge(&Case::read(&path), user)),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Lines of the result file of `make soak`.
#[expect(clippy::print_stderr, reason = "libtest-mimic shows nothing that a passed test has to say")]
fn report() -> Result<(), String> {
    let cases: Vec<Case> = corpus().iter().map(|path| Case::read(path)).collect();
    eprintln!("judge: {} Dockerfiles compared with BuildKit's answers", cases.len());
    for case in &cases {
        for (place, reason) in &case.differs {
            eprintln!("judge: defended: {}: {place}: {reason}", case.name);
        }
    }
    Ok(())
}

/// The corpus lies beside the sources; a copy of the test program elsewhere has none.
fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge");
    let mut found: Vec<PathBuf> = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .flat_map(|group| fs::read_dir(group.path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    found.sort();
    found
}

fn judge(case: &Case, user: User) {
    let mut bench = Bench::new(user);
    let words = serve(case, &mut bench);
    case.lay_out(&bench, &words);
    let golden = golden(case, &mut bench, &words);
    let mut ours = coracle::answer(case, &mut bench);
    ours.replace(&words.host, "REGISTRY");
    let wrong = differences(case, &ours, &golden);
    assert!(wrong.is_empty(), "coracle | {}\n{}", golden.by, wrong.join("\n"));
}

/// What BuildKit says: as the file has it, or asked for now.
fn golden(case: &Case, bench: &mut Bench, words: &case::Words) -> Picture {
    let bless = switch("CORACLE_BLESS").unwrap_or_default();
    let writes = bless == "all" || bless == "missing" && case.golden.is_none();
    if writes || bless == "ask" {
        let mut theirs = buildkit::answer(case, bench);
        theirs.replace(&words.host, "REGISTRY");
        if writes {
            case.write_golden(&theirs);
        }
        return theirs;
    }
    case.golden.clone().expect("no answer of BuildKit's in the case: run it with CORACLE_BLESS=missing")
}

/// The registry with the base images and those of the case.
fn serve(case: &Case, bench: &mut Bench) -> case::Words {
    let server = bench.server();
    server.put("library/base", "latest", base::busybox());
    server.put("library/awkward", "latest", base::awkward());
    server.put("library/targets", "latest", base::targets());
    let mut words = case::Words::new(server.host());
    for (name, config) in &case.images {
        let repository = format!("library/{}", name.to_lowercase());
        server.put(&repository, "latest", &base::derived(config));
        words.add(name, &repository);
    }
    words
}

/// `PLACE: ours | theirs`, without those that the case defends.
fn differences(case: &Case, ours: &Picture, theirs: &Picture) -> Vec<String> {
    let found = ours.differences(theirs);
    let mut wrong = Vec::new();
    for (place, what) in &found {
        if !case.differs.iter().any(|(known, _)| case::matches(known, place)) {
            wrong.push(format!("{place}: {what}"));
        }
    }
    let gone =
        case.differs.iter().filter(|(known, _)| !found.keys().any(|place| case::matches(known, place)));
    wrong.extend(gone.map(|(known, _)| format!("{known}: differs no longer, take it out of the case")));
    wrong
}
