//! What flags put around a RUN: limits, names, the network, and who may have it.

use libtest_mimic::Trial;

use crate::support::container::{Container, DOCKER_DEFAULT};
use crate::support::{Bench, as_caller, as_everyone, plain};

pub fn trials() -> Vec<Trial> {
    let mut trials = as_everyone("around::limits_and_names", limits_and_names);
    trials.push(as_caller("around::a_limit_that_cannot_be_had", a_limit_that_cannot_be_had));
    trials.push(as_caller("around::entitlements", entitlements));
    trials.push(match Container::missing() {
        Some(_) => plain("around::limits_in_a_container", || Err(Container::missing().unwrap_or_default())),
        None => as_caller("around::limits_in_a_container", limits_in_a_container),
    });
    trials
}

/// The shell's own view of its limits, and of its host.
const SEE: &str = "FROM BASE\nRUN { ulimit -n; ulimit -H -n; ulimit -H -s; cat /proc/sys/kernel/hostname; \
                   head -n 1 /etc/hosts; } > /seen\n";

const FLAGS: [&str; 8] = [
    "--ulimit",
    "nofile=100:200",
    "--ulimit",
    "stack=1048576",
    "--build-arg",
    "BUILDKIT_SANDBOX_HOSTNAME=my_host",
    "-t",
    "around",
];

const SEEN: &str = "100\n200\n1024\nmy_host\n127.0.0.1\tlocalhost my_host\n";

fn limits_and_names(mut bench: Bench) {
    bench.dockerfile(SEE);
    let image = bench.build(&FLAGS);
    assert_eq!(image.text("seen"), SEEN);
    assert_eq!(bench.build(&FLAGS).digest, image.digest);
    // What is around a RUN counts for its result.
    let other = bench.build(&["-t", "around", "--ulimit", "nofile=50", "--add-host", "Db.Test:10.1.2.3"]);
    assert!(other.text("seen").starts_with("50\n50\n"), "{}", other.text("seen"));
    assert!(other.text("seen").contains("localhost buildkitsandbox"), "{}", other.text("seen"));
    bench.dockerfile("FROM BASE\nRUN cat /etc/hosts > /seen\n");
    let image = bench.build(&["-t", "around", "--add-host", "Db.Test:10.1.2.3", "--cgroup-parent", "/x"]);
    assert!(image.text("seen").ends_with("10.1.2.3\tdb.test\n"), "{}", image.text("seen"));
    bench.fails(&["-t", "x", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=a b"], 2, "is no host name");
}

fn limits_in_a_container(mut bench: Bench) {
    bench.dockerfile(SEE);
    let run = DOCKER_DEFAULT.build(&bench, &FLAGS);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    // There is no namespace for the name there: hosts has it all the same.
    let seen = bench.image(&run.digest()).text("seen");
    assert!(seen.starts_with("100\n200\n1024\n") && seen.contains("localhost my_host"), "{seen}");
}

fn a_limit_that_cannot_be_had(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN true\n");
    let said = bench.fails(&["-t", "x", "--ulimit", "nofile=5:999999999999"], 3, "nofile=5:999999999999");
    assert!(said.contains("can be had here"), "{said}");
    bench.fails(&["-t", "x", "--ulimit", "as=1"], 2, "there are core");
}

fn entitlements(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN --network=host true\n");
    let said = bench.fails(&["-t", "x"], 3, "network.host");
    assert!(said.contains("Dockerfile:2") && said.contains("--allow network.host"), "{said}");
    bench.build(&["-t", "x", "--allow", "network.host"]);
    bench.build(&["-t", "x", "--network", "host"]);
    bench.fails(&["-t", "x", "--allow", "security.insecure"], 2, "no");
    bench.fails(&["-t", "x", "--allow", "device"], 2, "hands out no devices");
    bench.fails(&["-t", "x", "--allow", "network"], 2, "unknown");
}
