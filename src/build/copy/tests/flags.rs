//! `--chown`, `--chmod`, `--link`, `--parents`, `--exclude` (rows 94 to 101).

use super::check;

#[test]
fn chown() {
    check("", "f", "COPY --chown=5 f /t", "t::5");
    check("", "f", "COPY --chown=5:6 f /t", "t::5:6");
    check("", "f", "COPY --chown=web f /t", "t::33:34");
    check("", "f", "COPY --chown=web:staff f /t", "t::33:50");
    check("", "f", "COPY --chown=:staff f /t", "t::0:50");
    check("", "f", "COPY --chown=nobody f /t", "t");
    check("", "f", "COPY --chown=web:nogroup f /t", "t::33:34");
    check("", "f", "COPY --chown=0 f /t", "t");
    check("", "f", "ARG who=web\nCOPY --chown=$who f /t", "t::33:34");
    check("", "f:4755", "COPY --chown=5 f /t", "t:4755:5");
    check("", "f+security.capability", "COPY --from=other --chown=5 f /t", "t::5+security.capability");
    check("", "d/ d/l@x", "COPY --chown=5 d /t", "t/::5 t/l@x::5");
    check("", "d/ d/e/ d/e/f", "COPY --chown=5 d /t", "t/::5 t/e/::5 t/e/f::5");
    check("", "f:600:8:9", "COPY --from=other --chown=5 f /t", "t:600:5");
    // Parents that are made belong to the same, those that are there stay.
    check("", "f", "COPY --chown=5 f /a/b/t", "*a/::5 *a/b/::5 a/b/t::5");
    check("a/:700:8", "f", "COPY --chown=5 f /a/b/t", "*a/:700:8 *a/b/::5 a/b/t::5");
    check("t/:700:8", "d/ d/f", "COPY --chown=5 d /t", "t/:700:8 t/f::5");
}

#[test]
fn chmod() {
    check("", "f", "COPY --chmod=755 f /t", "t:755");
    check("", "f", "COPY --chmod=0755 f /t", "t:755");
    check("", "f", "COPY --chmod=4755 f /t", "t:4755");
    check("", "f:4755", "COPY --chmod=755 f /t", "t:755");
    check("", "f:4755", "COPY --chmod=u=rwX,go=rX f /t", "t:755");
    check("", "f:600", "COPY --chmod=u=rwX,go=rX f /t", "t");
    check("", "f:755", "COPY --chmod=go-rx f /t", "t:700");
    check("", "f", "COPY --chmod=+x f /t", "t:755");
    check("", "d/ d/e/ d/e/f", "COPY --chmod=700 d /t", "t/:700 t/e/:700 t/e/f:700");
    check("", "d/ d/e/:700 d/e/f:600", "COPY --chmod=go+rX d /t", "t/ t/e/ t/e/f");
    check("", "d/ d/l@x", "COPY --chmod=600 d /t", "t/:600 t/l@x");
    // Parents that are made get the permissions, never the special bits.
    check("", "f", "COPY --chmod=700 f /a/t", "*a/:700 a/t:700");
    check("", "f", "COPY --chmod=4711 f /a/t", "*a/:711 a/t:4711");
    check("", "f", "COPY --chmod=go-rwx f /a/t", "*a/ a/t:600");
    check("a/:711", "f", "COPY --chmod=700 f /a/t", "*a/:711 a/t:700");
    check("t/", "d/ d/f", "COPY --chmod=700 d /t", "t/ t/f:700");
    check("t/ t/e/", "d/ d/e/:711", "COPY --chmod=700 d /t", "t/ t/e/:700");
    check("", "f", "COPY --chmod=644 --chown=5 f /a/t", "*a/:644:5 a/t::5");
    check("", "f", "ARG m=600\nCOPY --chmod=$m f /t", "t:600");
}

#[test]
fn link() {
    check("tmp/:1777", "f", "COPY --link f /tmp/", "*tmp/ tmp/f");
    check("lib@usr/lib usr/lib/", "f", "COPY --link f /lib/", "*lib/ lib/f");
    check("t", "d/ d/f", "COPY --link d /t", "t/ t/f");
    check("t/", "f", "COPY --link f /t", "t");
    check("", "f", "COPY --link --chown=web f /t/", "*t/::33:34 t/f::33:34");
    check("", "f", "COPY --link f .", "*w/ w/f");
    check("", "f", "COPY --link=false f /t", "t");
}

#[test]
fn parents() {
    check("", "a/ a/b/ a/b/f", "COPY --parents a/b/f /t/", "*t/ t/a/ t/a/b/ t/a/b/f");
    check("", "a/:711 a/b/:700 a/b/f", "COPY --parents a/b/f /t/", "*t/ t/a/:711 t/a/b/:700 t/a/b/f");
    check("", "a/ a/b/ a/b/f", "COPY --parents a/./b/f /t/", "*t/ t/b/ t/b/f");
    check("", "a/ a/b/ a/b/f", "COPY --parents a/b/./f /t/", "*t/ t/f");
    check("", "a/ a/b/ a/b/f", "COPY --parents a/b /t/", "*t/ t/a/ t/a/b/ t/a/b/f");
    check("", "a/ a/b/:700 a/b/f", "COPY --parents a /t/", "*t/ t/a/ t/a/b/:700 t/a/b/f");
    check("", "a/f b/f c/g", "COPY --parents */f /t/", "*t/ t/a/ t/a/f t/b/ t/b/f");
    check(
        "",
        "a/b/f a/c/d/f",
        "COPY --parents a/**/f /t/",
        "*t/ t/a/ t/a/b/ t/a/b/f t/a/c/ t/a/c/d/ t/a/c/d/f",
    );
    check("", "a/f", "COPY --parents a/f /t", "*t/ t/a/ t/a/f");
    check("", "a/f", "COPY --parents none* /t/", "*t/");
    check("", "a/f", "COPY --parents none /t/", "!does not exist");
    check("t", "a/f", "COPY --parents a/f /t", "!cannot copy a directory to `/t`");
    check("t/ t/a/:700:5+user.x", "a/:711:6 a/f", "COPY --parents a/f /t/", ".t/ .t/a/:711:5+user.x t/a/f");
    check("t/ t/a/:700:5", "a/:711 a/f", "COPY --parents a /t/", ".t/ t/a/:711 t/a/f");
    check("", "a/:711:6 a/f::7", "COPY --parents --from=other a/f /t/", "*t/ t/a/:711:6 t/a/f::7");
    check("", "a/ a/f", "COPY --parents --chown=5 --chmod=700 a/f /t/", "*t/:700:5 t/a/:700:5 t/a/f:700:5");
    check("", "a/f b/g", "COPY --parents a/f b/g /", "a/ a/f b/ b/g");
    check("", "l@a a/f", "COPY --parents l /t/", "*t/ t/l@a");
}

#[test]
fn exclude() {
    check("", "d/ d/a.txt d/b.md", "COPY --exclude=*.md d /t", "t/ t/a.txt");
    check("", "d/ d/e/ d/e/a.md d/b", "COPY --exclude=**/*.md d /t", "t/ t/b t/e/");
    check("", "d/ d/e/ d/e/a d/b", "COPY --exclude=e d /t", "t/ t/b");
    check("", "d/ d/a d/b d/c", "COPY --exclude=a --exclude=b d /t", "t/ t/c");
    check("", "d/ d/a d/b", "COPY --exclude=* --exclude=!b d /t", "t/ t/b");
    check("", "d/ d/e/ d/e/a d/e/b", "COPY --exclude=e --exclude=!e/b d /t", "t/ t/e/ t/e/b");
    check("", "d/ d/a", "COPY --exclude=* d /t", "t/");
    check("", "a.txt b.md", "COPY --exclude=*.md * /t/", "*t/ t/a.txt t/b.md");
    check("", "d/ d/a d/b", "COPY --exclude=/a d /t", "t/ t/a t/b");
    check("", "d/a d/b", "COPY --parents --exclude=**/b d /t/", "*t/ t/d/ t/d/a");
}
