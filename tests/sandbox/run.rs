//! One command in a RUN: what it says, as whom it runs, and what it may.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use coracle::sandbox::{Exit, RunSpec, Rung};

use super::bench::{Bench, spec};

pub(crate) fn carries_output_and_exit_code(bench: &Bench) {
    for root in bench.roots() {
        let outcome = bench.shell(&root, "echo out; echo err >&2; exit 3");
        assert_eq!(outcome.exit, Exit::Code(3));
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
        let outcome = bench.shell(&root, "dd if=/dev/zero bs=1000 count=3000 2>/dev/null | tr '\\000' x");
        assert_eq!(outcome.stdout.len(), 3_000_000);
        bench.shell(&root, "cat; echo end").is("end\n");
    }
}

pub(crate) fn tells_missing_programs_from_failing_ones(bench: &Bench) {
    let root = bench.overlay();
    let lower = root.directory.path().join("lower:1");
    fs::write(lower.join("bin/plain"), "text").unwrap();
    fs::write(lower.join("bin/script"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(lower.join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    for (program, code) in [("absent", 127), ("/bin/absent", 127), ("plain", 126), ("/bin/script", 126)] {
        let spec = RunSpec { argv: vec![program.into()], ..spec(&root.root, "") };
        let error = bench.try_run(&spec, &|| false).unwrap_err();
        assert_eq!(error.exit_code(), Some(code), "{error}");
        assert!(error.to_string().contains(program), "{error}");
    }
    let outcome = bench.shell(&root, "exit 127");
    assert_eq!(outcome.exit, Exit::Code(127), "the program's own code is an exit, no error");
    let spec = RunSpec { cwd: "/bin/plain/below".into(), ..spec(&root.root, "true") };
    let error = bench.try_run(&spec, &|| false).unwrap_err();
    assert!(error.to_string().contains("/bin/plain"), "a file is no directory: {error}");
}

pub(crate) fn gives_docker_capabilities_and_no_more(bench: &Bench) {
    const DOCKER: &str = "00000000a80425fb";
    let root = bench.overlay();
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    // Where users are emulated setuid programs must not be real, which root sees; a
    // user is told what it would have elsewhere.
    let one_id = bench.entered.rung == Rung::Single;
    let expected = |effective: &str, no_new_privileges: bool| {
        format!(
            "CapInh:\t{0}\nCapPrm:\t{effective}\nCapEff:\t{effective}\nCapBnd:\t{DOCKER}\nCapAmb:\t{0}\n\
             NoNewPrivs:\t{1}\nSeccomp:\t2\n",
            "0000000000000000",
            u8::from(no_new_privileges),
        )
    };
    bench.shell(&root, script).is(&expected(DOCKER, one_id));
    let user = RunSpec { uid: 1000, gid: 1000, ..spec(&root.root, script) };
    bench.run(&user).is(&expected("0000000000000000", false));
}

pub(crate) fn becomes_the_user(bench: &Bench) {
    for root in bench.roots() {
        let script =
            "id -u; id -g; id -G; touch /tmp/mine; stat -c '%u:%g' /tmp/mine; touch /etc/mine || echo no";
        let spec = RunSpec { uid: 1000, gid: 1001, groups: vec![7, 1001], ..spec(&root.root, script) };
        bench.run(&spec).is("1000\n1001\n1001 7\n1000:1001\nno\n");
        if bench.entered.rung != Rung::Single {
            let file = fs::metadata(root.written.join("tmp/mine")).unwrap();
            assert_eq!((file.uid(), file.gid()), (1000, 1001), "owners are real");
        }
        bench.shell(&root, "chown 42:43 /tmp/mine && stat -c %u:%g /tmp/mine").is("42:43\n");
    }
}

pub(crate) fn cuts_the_network(bench: &Bench) {
    let root = bench.overlay();
    let look =
        "ls /sys/class/net; cat /sys/class/net/lo/mtu; grep -c : /proc/net/dev; ifconfig lo | grep -c UP";
    let mut order = spec(&root.root, look);
    order.network_none = true;
    bench.run(&order).is("lo\n65536\n1\n1\n");
}

pub(crate) fn refuses_what_docker_refuses(bench: &Bench) {
    let root = bench.overlay();
    bench.shell(&root, "sync && echo synced").is("synced\n");
    // A node is the kernel's or an empty file that the layer shows as a node:
    // it is not what it is called. 1:5 is harmless elsewhere.
    let read = "dd bs=1 count=1 2>/dev/null | wc -c | grep -q 1";
    let nodes = ["/tmp/node", "/dev/node", "/dev/shm/node"];
    let nodes = nodes.map(|node| format!("mknod {node} c 1 5 && {read} < {node}"));
    for command in [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "mount -o remount,rw /sys",
        "hostname other",
    ]
    .into_iter()
    .chain(nodes.iter().map(String::as_str))
    {
        bench.shell(&root, command).fails();
    }
}
