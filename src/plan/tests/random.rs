//! Whatever the parser lets through, planning neither panics nor wavers.

use proptest::prelude::*;

use super::*;

/// Lines that go together badly.
const LINES: [&str; 30] = [
    "FROM debian",
    "FROM trigger AS tools",
    "FROM $A AS a",
    "FROM a",
    "FROM --platform=$B scratch AS Tools",
    "ARG A=debian B",
    "ARG A=$B${A:-x}",
    "ENV A=$A$A B=${A/e/$B}",
    "ENV A b $A",
    "COPY --from=tools a $A",
    "COPY --from=0 --chmod=$A a b",
    "COPY --exclude=$A <<x <<'y' $B/\n$A\nx\n$B\ny",
    "ADD --checksum=$A https://$A/x.git /",
    "RUN --mount=type=cache,target=$A --mount=from=a,target=/x,rw $A",
    "RUN --mount=\"type=secret,id=$A\",env=$B x",
    "RUN <<x\n#!$A\nx",
    "EXPOSE $A 1-$B 0-65535",
    "WORKDIR $A/../..",
    "USER $A",
    "VOLUME $A",
    "LABEL $A=$B",
    "STOPSIGNAL $A",
    "HEALTHCHECK --interval=1.5h CMD $A",
    "CMD $A",
    "ENTRYPOINT []",
    "SHELL [\"$A\"]",
    "ONBUILD COPY --from=a x y",
    "ONBUILD RUN --mount=from=later,target=/ x",
    "MAINTAINER $A",
    "USER ${A%%$B}",
];

proptest! {
    #[test]
    fn any_order_of_lines(picked in proptest::collection::vec(0..LINES.len(), 0..14), given in "[a-z0-9:/.${}-]{0,6}") {
        let text: Vec<&str> = picked.iter().map(|index| LINES[*index]).collect();
        let parsed = parse("Dockerfile", text.join("\n").as_bytes());
        let case = Case::default().arg("B", &given);
        let early = outline(&parsed.dockerfile, &case.options, &Bases::new());
        let plan = resolve(&parsed.dockerfile, &case.options, &bases());
        prop_assert_eq!(&plan, &resolve(&parsed.dockerfile, &case.options, &bases()));
        // What is certain without the bases is still there with them.
        if let (Err(PlanError::Diagnostics(early)), Err(PlanError::Diagnostics(late))) = (&early, &plan) {
            for error in early.iter().filter(|error| error.severity == Severity::Error) {
                prop_assert!(late.contains(error), "{:?}", error);
            }
        } else {
            prop_assert!(early.is_ok() || plan.is_err());
        }
    }
}
