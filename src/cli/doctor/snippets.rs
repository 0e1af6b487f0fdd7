//! What to change in each CI system so that a better rung works.
//!
//! Each snippet gives a build container that much and no more; none asks for
//! privileged mode.

use crate::sandbox::{Outcome, Rung, Survey};

/// Where a snippet goes, and what it says.
pub(super) type Snippet = (&'static str, &'static str);

/// The next better rung that a setting could bring, with how to set it.
///
/// `mounts` is passed over: it wants CAP_SYS_ADMIN, and `namespaces` less.
pub(super) fn next_better(survey: &Survey) -> Option<(Rung, &'static [Snippet])> {
    let taken = survey.taken().rung;
    let better = survey.rungs.iter().rev().filter(|finding| {
        finding.rung < taken && finding.rung.is_built() && matches!(finding.outcome, Outcome::Refused(_))
    });
    better.filter_map(|finding| Some((finding.rung, snippets(finding.rung)?))).next()
}

fn snippets(rung: Rung) -> Option<&'static [Snippet]> {
    match rung {
        Rung::Namespaces => Some(&NAMESPACES),
        Rung::Chroot => Some(&CHROOT),
        _ => None,
    }
}

/// Root with an engine's default capabilities and no seccomp filter: clone(2)
/// and mount(2) inside a user namespace of its own.
const NAMESPACES: [Snippet; 8] = [
    ("Docker", "docker run --user 0 --security-opt seccomp=unconfined --security-opt apparmor=unconfined IMAGE"),
    ("podman", "podman run --user 0 IMAGE\n# its own default profile suffices; with SELinux add --security-opt label=disable"),
    (
        "Kubernetes",
        "securityContext:            # of the build container
  runAsUser: 0
  allowPrivilegeEscalation: true
  seccompProfile: {type: Unconfined}
  appArmorProfile: {type: Unconfined}   # Kubernetes 1.30 and later",
    ),
    (
        "GitLab runner",
        "[runners.docker]            # config.toml, docker executor
  security_opt = [\"seccomp=unconfined\", \"apparmor=unconfined\"]
# kubernetes executor: the Kubernetes setting, through [[runners.kubernetes.pod_spec]]",
    ),
    (
        "Drone",
        "# steps cannot set it; on the runner's host, /etc/docker/daemon.json:
{\"seccomp-profile\": \"unconfined\"}",
    ),
    (
        "Woodpecker",
        "# Docker backend, on the agent's host, /etc/docker/daemon.json: {\"seccomp-profile\": \"unconfined\"}
backend_options:            # Kubernetes backend, in the step
  kubernetes:
    securityContext:
      runAsUser: 0
      seccompProfile: {type: Unconfined}",
    ),
    (
        "Jenkins",
        "agent { docker { image 'IMAGE'
  args '--user 0 --security-opt seccomp=unconfined --security-opt apparmor=unconfined' } }
// with the Kubernetes plugin: the Kubernetes setting, in the pod's yaml",
    ),
    (
        "OpenShift",
        "securityContext:            # CRI-O's own seccomp profile suffices
  runAsUser: 0
  capabilities: {add: [SETFCAP]}
# and for its service account a SecurityContextConstraints like anyuid with
# allowedCapabilities: [SETFCAP]",
    ),
];

/// Container root with an engine's default capabilities.
const CHROOT: [Snippet; 8] = [
    ("Docker", "docker run --user 0 IMAGE"),
    ("podman", "podman run --user 0 --cap-add SYS_CHROOT IMAGE"),
    (
        "Kubernetes",
        "securityContext:            # of the build container; drop no capabilities
  runAsUser: 0
  runAsNonRoot: false",
    ),
    ("GitLab runner", "image: {name: IMAGE, docker: {user: root}}   # .gitlab-ci.yml"),
    ("Drone", "user: root                  # in the step"),
    ("Woodpecker", "backend_options: {docker: {user: \"0\"}}   # in the step"),
    ("Jenkins", "agent { docker { image 'IMAGE'; args '--user 0' } }"),
    (
        "OpenShift",
        "securityContext:
  runAsUser: 0
  capabilities: {add: [SYS_CHROOT]}
# and for its service account: oc adm policy add-scc-to-user anyuid -z ACCOUNT",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Finding, IdMap, Refusal, Storage};

    fn survey(works: &[Rung]) -> Survey {
        let outcome = |rung| match works.contains(&rung) || rung == Rung::None {
            true => {
                Outcome::Works { storage: Storage::Overlay, id_map: IdMap::default(), shortfalls: Vec::new() }
            }
            false => Outcome::Refused(Refusal {
                rung,
                call: "x".to_owned(),
                errno: 1,
                cause: "y".to_owned(),
                change: "z".to_owned(),
            }),
        };
        let rungs = Rung::ALL.into_iter().map(|rung| Finding { rung, outcome: outcome(rung) }).collect();
        Survey { rungs, no_new_privileges: false, seccomp: false, landlock: None }
    }

    #[test]
    fn names_a_rung_above_the_one_taken() {
        let next = |works: &[Rung]| next_better(&survey(works)).map(|(rung, _)| rung);
        assert_eq!(next(&[Rung::Namespaces]), None);
        assert_eq!(next(&[Rung::Mounts]), Some(Rung::Namespaces));
        let from_nothing = if Rung::Chroot.is_built() { Rung::Chroot } else { Rung::Namespaces };
        assert_eq!(next(&[]), Some(from_nothing));
    }

    #[test]
    fn none_asks_for_privileged_mode() {
        for (name, text) in NAMESPACES.iter().chain(&CHROOT) {
            assert!(!text.contains("privileged") && !text.contains("SYS_ADMIN"), "{name}: {text}");
        }
    }
}
