//! Dockerfiles to images, judged by the image: config, tree, history.

use libtest_mimic::Trial;

use crate::support::{Bench, as_caller, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(as_everyone("build::copy_leaves_parents_alone", copy_leaves_parents_alone));
    trials.extend(as_everyone("build::config_of_every_instruction", config_of_every_instruction));
    trials.extend(as_everyone("build::run_changes_become_a_layer", run_changes_become_a_layer));
    trials.extend(as_everyone("build::run_sees_owners_and_user", run_sees_owners_and_user));
    trials.extend(as_everyone("build::stages_and_arguments", stages_and_arguments));
    trials
        .extend(as_everyone("build::unchanged_rebuild_executes_nothing", unchanged_rebuild_executes_nothing));
    trials.extend(as_everyone("build::changed_source_executes_again", changed_source_executes_again));
    trials.extend(as_everyone("build::awkward_base_survives_a_run", awkward_base_survives_a_run));
    trials.extend(as_everyone("build::run_leaves_no_trace_of_its_mounts", run_leaves_no_trace_of_its_mounts));
    trials.extend(as_everyone("build::disk_quota_ends_a_run", disk_quota_ends_a_run));
    trials.push(as_caller("build::scratch_and_dockerignore", scratch_and_dockerignore));
    trials.push(as_caller("build::onbuild_of_a_stage", onbuild_of_a_stage));
    trials.extend(as_everyone("build::a_removed_workdir_comes_back", a_removed_workdir_comes_back));
    trials.extend(as_everyone("build::every_mount", every_mount));
    trials.extend(as_everyone("build::identical_steps_run_once", identical_steps_run_once));
    trials.extend(as_everyone("build::network_none_has_no_network", network_none_has_no_network));
    trials
}

fn copy_leaves_parents_alone(mut bench: Bench) {
    bench.file("note", "n\n");
    bench.dockerfile(
        "FROM BASE\nCOPY note /tmp/note\nCOPY --chown=app:extra note /home/app/note\nCOPY note /lib/deep/note\n\
         COPY note /var/lib/note\n",
    );
    let image = bench.build(&["-t", "parents"]);
    assert_eq!(image.owner("tmp"), "1777 0:0");
    assert_eq!(image.owner("home/app"), "0750 1000:1000");
    assert_eq!(image.owner("var/lib"), "2775 7:7");
    assert_eq!(image.entry("lib").target, "usr/lib");
    assert_eq!(image.owner("usr/lib"), "0755 0:0");
    assert_eq!(image.owner("usr/lib/deep"), "0755 0:0");
    assert_eq!(image.text("usr/lib/deep/note"), "n\n");
    assert_eq!(image.owner("home/app/note"), "0644 1000:44");
    assert_eq!(image.owner("tmp/note"), "0644 0:0");
    assert_eq!(image.layers.len(), 5);
}

fn config_of_every_instruction(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE AS main\nENV A=1 B=\"two words\"\nENV C=$A-$B\nLABEL from=file other=\"x y\"\nUSER app\n\
         WORKDIR /srv/deep\nWORKDIR sub\nEXPOSE 80 53/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\n\
         SHELL [\"/bin/sh\", \"-ec\"]\nENTRYPOINT [\"/bin/echo\", \"$A\"]\nCMD echo hi\n\
         HEALTHCHECK --interval=5s CMD true\nONBUILD RUN echo later\n",
    );
    let image = bench.build(&["-t", "config", "--label", "from=flag", "--label", "mine=1"]);
    let config = &image.config["config"];
    assert_eq!(config["Env"].as_array().unwrap()[1..], ["A=1", "B=two words", "C=1-two words"]);
    assert_eq!(config["Labels"], serde_json::json!({"from": "flag", "mine": "1", "other": "x y"}));
    assert_eq!(config["User"], "app");
    assert_eq!(config["WorkingDir"], "/srv/deep/sub");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}, "53/udp": {}}));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Shell"], serde_json::json!(["/bin/sh", "-ec"]));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/echo", "$A"]));
    assert_eq!(config["Cmd"], serde_json::json!(["/bin/sh", "-ec", "echo hi"]));
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_i64);
    assert_eq!(config["OnBuild"], serde_json::json!(["RUN echo later"]));
    assert_eq!(image.config["os"], "linux");
    // BuildKit gives a directory that WORKDIR creates to the user in force.
    assert_eq!(image.owner("srv/deep/sub"), "0755 1000:1000");
}

fn run_changes_become_a_layer(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN mkdir /d && echo a > /d/a && echo b > /d/b && ln /d/a /d/hard && ln -s a /d/soft\n\
         RUN rm /d/b && chmod 4711 /d/a && mkfifo /d/fifo\nRUN rm -rf /d && mkdir /d && echo new > /d/c\n\
         RUN true\n",
    );
    let image = bench.build(&["-t", "layers"]);
    let first: Vec<&str> = image.layers[1].iter().map(|entry| entry.path.as_str()).collect();
    assert!(first.is_sorted(), "{first:?}");
    assert!(["d/a", "d/b", "d/hard", "d/soft"].iter().all(|path| first.contains(path)), "{first:?}");
    assert!(image.layers[2].iter().any(|entry| entry.path == "d/.wh.b"));
    let second = image.layers[2].iter().find(|entry| entry.path == "d/a").unwrap();
    assert_eq!(second.mode, 0o4711);
    let tree = image.tree();
    let below: Vec<&str> = tree.keys().filter(|path| path.starts_with("d/")).map(String::as_str).collect();
    assert_eq!(below, ["d/c"]);
    assert_eq!(image.text("d/c"), "new\n");
}

fn run_sees_owners_and_user(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN stat -c '%a %u:%g' /home/app /tmp /var/lib > /seen && chown 33:44 /seen\n\
         USER app:extra\nRUN id > /tmp/id && pwd >> /tmp/id && echo $HOME >> /tmp/id\n\
         RUN touch /root/no 2>/dev/null && exit 1 || true\n",
    );
    let image = bench.build(&["-t", "owners"]);
    assert_eq!(image.text("seen"), "750 1000:1000\n1777 0:0\n2775 7:7\n");
    assert_eq!(image.owner("seen"), "0644 33:44");
    let id = image.text("tmp/id");
    assert!(id.starts_with("uid=1000(app) gid=44(extra)"), "{id}");
    assert!(id.ends_with("\n/\n/home/app\n"), "{id}");
    assert_eq!(image.owner("tmp/id"), "0644 1000:44");
}

fn stages_and_arguments(mut bench: Bench) {
    bench.dockerfile(
        "ARG NAME=base\nFROM BASE AS first\nARG VALUE=default\nRUN echo $VALUE > /value\n\
         FROM BASE AS unused\nRUN exit 9\nFROM first AS second\nRUN echo more >> /value\n\
         FROM scratch AS last\nCOPY --from=second /value /value\nCOPY --from=0 /value /old\n",
    );
    let image = bench.build(&["-t", "stages", "--build-arg", "VALUE=given"]);
    assert_eq!(image.text("value"), "given\nmore\n");
    assert_eq!(image.text("old"), "given\n");
    assert_eq!(image.layers.len(), 2);
    let image = bench.build(&["-t", "stages", "--target", "first"]);
    assert_eq!(image.text("value"), "default\n");
    bench.env("VALUE", "ambient");
    let image = bench.build(&["-t", "stages", "--target", "first", "--build-arg", "VALUE"]);
    assert_eq!(image.text("value"), "ambient\n");
}

/// The RUN writes something new each time it is executed: the same digest
/// proves that it was not.
fn unchanged_rebuild_executes_nothing(mut bench: Bench) {
    bench.file("source", "1");
    bench.dockerfile("FROM BASE\nCOPY source /source\nRUN cat /proc/sys/kernel/random/uuid > /uuid\n");
    let first = bench.build(&["-t", "same"]);
    let second = bench.build(&["-t", "same"]);
    assert_eq!(first.digest, second.digest);
    let third = bench.build(&["-t", "same", "--no-cache"]);
    assert_ne!(first.text("uuid"), third.text("uuid"));
}

fn changed_source_executes_again(mut bench: Bench) {
    bench.file("source", "1");
    bench.file("other", "1");
    bench
        .dockerfile("FROM BASE\nCOPY source /source\nRUN cat /source /proc/sys/kernel/random/uuid > /seen\n");
    let first = bench.build(&["-t", "changed"]);
    // Another file of the context, and a time stamp: not what COPY reads.
    bench.file("other", "2");
    bench.file("source", "1");
    assert_eq!(bench.build(&["-t", "changed"]).digest, first.digest);
    bench.file("source", "2");
    let changed = bench.build(&["-t", "changed"]);
    assert!(changed.text("seen").starts_with('2'));
}

fn awkward_base_survives_a_run(mut bench: Bench) {
    bench.dockerfile(
        "FROM AWKWARD AS changed\nRUN chmod 711 /opt/capable && chown 7 /opt/setuid && chmod u+s /opt/setuid \
         && chmod 600 /opt/null && touch /opt/new\nFROM scratch AS copied\nCOPY --from=changed /opt /opt\n",
    );
    for target in ["changed", "copied"] {
        let image = bench.build(&["-t", "awkward", "--target", target]);
        assert_eq!(image.entry("opt/null").device, Some((1, 3)), "{target}");
        assert_eq!(image.entry("opt/null").mode, 0o600, "{target}");
        assert_eq!(image.entry("opt/setuid").mode, 0o4755, "{target}");
        let capable = image.entry("opt/capable");
        assert_eq!(capable.mode, 0o711, "{target}");
        assert_eq!(capable.xattrs["security.capability"], crate::support::base::NET_RAW, "{target}");
        assert_eq!(image.entry("opt/fifo").kind, tar::EntryType::Fifo, "{target}");
        // COPY --from keeps owners.
        assert_eq!(image.owner("opt/setuid"), "4755 7:33");
    }
}

fn run_leaves_no_trace_of_its_mounts(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN echo x > /dev/null && cat /etc/resolv.conf /etc/hosts > /dev/null && touch /made\n",
    );
    let image = bench.build(&["-t", "trace"]);
    let paths: Vec<&str> = image.layers[1].iter().map(|entry| entry.path.as_str()).collect();
    assert!(paths.contains(&"made"), "{paths:?}");
    let strange = |path: &&&str| !["", "made", "dev", "etc", "proc", "sys"].contains(path);
    assert_eq!(paths.iter().filter(strange).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(!image.tree().contains_key("etc/resolv.conf"));
}

fn scratch_and_dockerignore(mut bench: Bench) {
    bench.file("kept/a", "a");
    bench.file("kept/b.log", "b");
    bench.file("kept/keep.log", "k");
    bench.file("secret/key", "s");
    bench.file(".dockerignore", "**/*.log\n!kept/keep.log\nsecret\n");
    bench.dockerfile("FROM scratch\nCOPY . /all/\n");
    let image = bench.build(&["-t", "ignored"]);
    let tree = image.tree();
    let files: Vec<&str> = tree.keys().filter(|path| path.starts_with("all/")).map(String::as_str).collect();
    assert_eq!(files, ["all/.dockerignore", "all/Dockerfile", "all/kept", "all/kept/a", "all/kept/keep.log"]);
}

fn onbuild_of_a_stage(mut bench: Bench) {
    bench.file("note", "n");
    bench.dockerfile("FROM BASE AS parent\nONBUILD COPY note /note\nFROM parent\nENV CHILD=1\n");
    let image = bench.build(&["-t", "onbuild"]);
    assert_eq!(image.text("note"), "n");
    assert!(
        image.config["config"].get("OnBuild").is_none_or(|triggers| triggers.as_array().unwrap().is_empty())
    );
}

fn network_none_has_no_network(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN grep -c : /proc/net/dev > /count\n");
    let image = bench.build(&["-t", "offline", "--network", "none"]);
    assert_eq!(image.text("count"), "1\n", "only loopback");
}

fn disk_quota_ends_a_run(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN dd if=/dev/zero of=/big bs=1048576 count=60 && sleep 100\n");
    let said = bench.fails(&["-t", "x", "--disk-quota", "40m"], 3, "quota of 40 MiB");
    assert!(!said.contains("cancelled"), "{said}");
    bench.dockerfile("FROM BASE\nRUN dd if=/dev/zero of=/big bs=1048576 count=30\n");
    bench.build(&["-t", "x", "--disk-quota", "40m"]);
    bench.dockerfile("FROM BASE\nRUN dd if=/dev/zero of=/big bs=1048576 count=50\n");
    bench.env("CORACLE_DISK_QUOTA", "40 MiB");
    bench.fails(&["-t", "x"], 3, "quota of 40 MiB");
    bench.env("CORACLE_DISK_QUOTA", "much");
    bench.fails(&["-t", "x"], 2, "`much` is not a size");
}

fn a_removed_workdir_comes_back(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nWORKDIR /srv/deep\nRUN rm -r /srv\nUSER app\nRUN pwd && touch made\n");
    let image = bench.build(&["-t", "workdir"]);
    assert_eq!(image.owner("srv"), "0755 1000:1000");
    assert_eq!(image.owner("srv/deep"), "0755 1000:1000");
    assert_eq!(image.owner("srv/deep/made"), "0644 1000:1000");
}

fn every_mount(mut bench: Bench) {
    bench.file("note", "n\n");
    bench.file("dir/file", "f\n");
    bench.file("token", "s3cret");
    bench.dockerfile(
        "FROM BASE AS source\nRUN mkdir /made && echo seed > /made/seed && chown -R app /made && chmod 711 /made\n\
         FROM BASE\nWORKDIR /work\n\
         RUN --mount=target=/in,source=dir --mount=target=one,source=note cat /in/file one && ! touch /in/x\n\
         RUN --mount=target=/in,rw touch /in/new && test -e /in/new\n\
         RUN --mount=from=source,target=/s,source=/made test \"$(stat -c %a:%u /s)\" = 711:1000 && cat /s/seed\n\
         RUN --mount=type=cache,target=/c,from=source,source=/made cat /c/seed && echo more >> /c/seed\n\
         RUN --mount=type=cache,target=/c,from=source,source=/made test $(wc -l < /c/seed) = 2\n\
         RUN --mount=type=cache,target=/c,id=x,uid=1000,mode=0700 test \"$(stat -c %a:%u /c)\" = 700:1000 && touch /c/a\n\
         RUN --mount=type=cache,target=/d,id=x,ro test -e /d/a && ! touch /d/b\n\
         RUN --mount=type=cache,target=/c,sharing=private,id=p touch /c/p\n\
         RUN --mount=type=tmpfs,target=/t,size=1m ! dd if=/dev/zero of=/t/x bs=1024 count=2048\n\
         RUN --mount=type=secret,id=token,mode=0440,uid=1000 test \"$(stat -c %a:%u /run/secrets/token)\" = 440:1000\n\
         RUN --mount=type=secret,id=token,env=TOKEN test \"$TOKEN\" = s3cret\n\
         RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n\
         RUN ! dd if=/dev/zero of=/dev/shm/x bs=1024 count=2048\n\
         COPY --from=source /made/seed /end\n",
    );
    let secret = format!("id=token,src={}", bench.path("context/token").display());
    let image = bench.build(&["-t", "mounts", "--secret", &secret, "--shm-size", "1m"]);
    for absent in ["in", "s", "c", "d", "t", "work/one", "run/secrets"] {
        assert!(!image.tree().contains_key(absent), "/{absent} is a trace");
    }
    assert_eq!(image.text("end"), "seed\n");
}

/// Two stages of the same steps share them, also when both run at once.
fn identical_steps_run_once(mut bench: Bench) {
    let make = "RUN cat /proc/sys/kernel/random/uuid > /one\nWORKDIR /x\nRUN cat /proc/sys/kernel/random/uuid > /two\n";
    bench.dockerfile(&format!(
        "FROM BASE AS a\n{make}FROM BASE AS b\nLABEL config=only\n{make}FROM scratch\n\
         COPY --from=a /one /a1\nCOPY --from=b /one /b1\nCOPY --from=a /two /a2\nCOPY --from=b /two /b2\n"
    ));
    let image = bench.build(&["-t", "once"]);
    assert_eq!(image.text("a1"), image.text("b1"));
    assert_eq!(image.text("a2"), image.text("b2"));
    assert_ne!(image.text("a1"), image.text("a2"));
}
