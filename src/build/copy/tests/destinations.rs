//! Where things go (dockerfile.md, rows 74 to 78 and 89).

use super::check;

#[test]
fn a_file() {
    check("", "f", "COPY f /g", "g");
    check("", "f", "COPY f /g/", "*g/ g/f");
    check("", "f", "COPY f /a/b/g", "*a/ *a/b/ a/b/g");
    check("", "f", "COPY f /", "f");
    check("", "f", "COPY f .", "*w/ w/f");
    check("", "f", "COPY f ./", "*w/ w/f");
    check("", "f", "COPY f g", "*w/ w/g");
    check("", "f", "COPY f ./g", "*w/ w/g");
    check("", "f", "COPY f ..", "f");
    check("", "f", "COPY f ../g", "g");
    check("", "f", "COPY f ../../../g", "g");
    check("", "f", "COPY f /a/../g", "g");
    check("", "f", "COPY f /a/./g", "*a/ a/g");
    check("", "f", "COPY f //a//g", "*a/ a/g");
    check("", "f", "COPY f /a/.", "*a/ a/f");
    check("", "d/f", "COPY d/f /g/", "*g/ g/f");
}

#[test]
fn a_file_onto_what_exists() {
    check("g/", "f", "COPY f /g", "*g/ g/f");
    check("g/", "f", "COPY f /g/", "*g/ g/f");
    check("g:600:5", "f", "COPY f /g", "g");
    check("g:600:5", "f:755", "COPY f /g", "g:755");
    check("g", "f", "COPY f /g/", "!not a directory");
    check("g", "f", "COPY f /g/h", "!cannot find the target");
    check("g", "f", "COPY f /g/h/i", "!cannot find the target");
    check("g/ g/f:600:5", "f", "COPY f /g", "*g/ g/f");
    check("g/ g/f/", "f", "COPY f /g", "!cannot replace the directory `/g/f`");
    check("g|", "f", "COPY f /g", "g");
    check("w/ w/f:600", "f", "COPY f f", "*w/ w/f");
}

#[test]
fn existing_parents_are_repeated_as_they_are() {
    check("tmp/:1777:1:2", "f", "COPY f /tmp/", "*tmp/:1777:1:2 tmp/f");
    check(
        "a/:700:5 a/b/:2755:6:7",
        "f",
        "COPY f /a/b/c/g",
        ".a/:700:5 *a/b/:2755:6:7 *a/b/c/:2755:0:7 a/b/c/g",
    );
    check("a/+user.x", "f", "COPY f /a/g", "*a/+user.x a/g");
}

#[test]
fn a_directory_gives_its_contents() {
    check("", "d/ d/f", "COPY d /t", "t/ t/f");
    check("", "d/ d/f", "COPY d/ /t", "t/ t/f");
    check("", "d/ d/f", "COPY d /t/", "t/ t/f");
    check("", "d/ d/f", "COPY d/. /t", "t/ t/f");
    check("", "d/ d/f", "COPY d .", "w/ w/f");
    check("", "d/ d/f", "COPY d /", "f");
    check("", "d/ d/f", "COPY . /t", "*t/ t/d/ t/d/f");
    check("", "d/ d/e/ d/e/f", "COPY d /t", "t/ t/e/ t/e/f");
    check("", "d/ d/f", "COPY d /a/t", "*a/ a/t/ a/t/f");
    check("", "d/", "COPY d /t", "t/");
    check("", "d/ d/e/:700", "COPY d /t", "t/ t/e/:700");
    // The destination itself never looks like the source's root.
    check("", "d/:700 d/f", "COPY d /t", "t/ t/f");
    check("", "d/:2775:5+user.x d/f::6", "COPY --from=other d /t", "t/ t/f::6");
    check("t/:700:5", "d/:755 d/f", "COPY d /t", "t/:700:5 t/f");
    check("t/:700:5+user.x", "d/ d/f", "COPY d /t/", "t/:700:5+user.x t/f");
}

#[test]
fn directories_merge() {
    check("t/ t/e/:700:5", "d/ d/e/:711 d/e/f", "COPY d /t", "t/ t/e/:711 t/e/f");
    check("t/ t/e/:700:5+user.x", "d/ d/e/ d/e/f", "COPY d /t", "t/ t/e/+user.x t/e/f");
    check("t/ t/e/:700:5", "d/ d/e/:711:8:9", "COPY --from=other d /t", "t/ t/e/:711:8:9");
    check("t/ t/e/ t/e/old", "d/ d/e/ d/e/f", "COPY d /t", "t/ t/e/ t/e/f");
    check("etc/:711 etc/f:600", "etc/ etc/f", "COPY . /", "etc/ etc/f");
}

#[test]
fn kinds_conflict() {
    check("t", "d/ d/f", "COPY d /t", "!cannot copy a directory to `/t`");
    check("t", "d/ d/f", "COPY d /t/", "!cannot copy a directory to `/t`");
    check("t/ t/e", "d/ d/e/ d/e/f", "COPY d /t", "!cannot copy a directory to `/t/e`");
    check("t/ t/e/", "d/ d/e", "COPY d /t", "!cannot replace the directory `/t/e`");
    check("t/ t/e/", "d/ d/e@x", "COPY d /t", "!cannot replace the directory `/t/e`");
    check("t/ t/e@/x x/", "d/ d/e/ d/e/f", "COPY d /t", "!cannot copy a directory to `/t/e`");
    check("t/ t/e@x", "d/ d/e", "COPY d /t", "t/ t/e");
    check("t/ t/e", "d/ d/e@x", "COPY d /t", "t/ t/e@x");
    check("lib@usr/lib usr/lib/", "lib/ lib/f", "COPY . /", "!cannot copy a directory to `/lib`");
}

#[test]
fn several_sources() {
    check("", "f g", "COPY f g /t/", "*t/ t/f t/g");
    check("t/", "f g", "COPY f g /t", "*t/ t/f t/g");
    check("", "f g:600", "COPY f g /t", "t:600");
    check("", "f:600 g", "COPY f g /t", "t");
    check("", "d/ d/x g", "COPY d g /t", "*t/ t/g t/x");
    check("", "d/ d/x g", "COPY g d /t", "!cannot copy a directory to `/t`");
    check("", "d/ d/x e/ e/y", "COPY d e /t", "t/ t/x t/y");
    check("", "d/ d/x:600 e/ e/x", "COPY d e /t", "t/ t/x");
    check("", "d/ d/x e/ e/x/", "COPY d e /t/", "!cannot copy a directory to `/t/x`");
    check("", "d/ d/x/ e/ e/x", "COPY d e /t/", "!cannot replace the directory `/t/x`");
    check("", "d/ d/x/:700 e/ e/x/:711", "COPY d e /t/", "t/ t/x/:711");
    check("", "d/f:600 e/f", "COPY d/f e/f /t/", "*t/ t/f");
}

#[test]
fn links_in_the_target_are_followed() {
    check("lib@usr/lib usr/ usr/lib/:711", "f", "COPY f /lib/", ".usr/ *usr/lib/:711 usr/lib/f");
    check("lib@usr/lib usr/ usr/lib/", "f", "COPY f /lib", ".usr/ *usr/lib/ usr/lib/f");
    check("lib@/usr/lib usr/ usr/lib/", "f", "COPY f /lib/g", ".usr/ *usr/lib/ usr/lib/g");
    check("lib@../../usr usr/", "f", "COPY f /lib/g", "*usr/ usr/g");
    check("a/ a/l@../b b/", "f", "COPY f /a/l/g", "*b/ b/g");
    check("l@b b/", "d/ d/f", "COPY d /l", "b/ b/f");
    check("l@b b", "f", "COPY f /l", "b");
    check("l@b b", "f", "COPY f /l/", "!not a directory");
    check("l@b b", "d/ d/f", "COPY d /l", "!cannot copy a directory to `/b`");
    // A dangling link creates its target.
    check("l@b", "f", "COPY f /l", "b");
    check("l@b", "f", "COPY f /l/", "*b/ b/f");
    check("l@b/c", "f", "COPY f /l", "*b/ b/c");
    check("l@/b/c", "d/ d/f", "COPY d /l", "*b/ b/c/ b/c/f");
    check("l@../../..", "f", "COPY f /l/g", "g");
    check("l@l", "f", "COPY f /l", "!cannot find the target");
    check("l@m m@l", "f", "COPY f /l/g", "!cannot find the target");
    // The last name below the destination is replaced and not followed.
    check("t/ t/f@/x x", "f", "COPY f /t", "*t/ t/f");
    check("t/ t/f@/x x/", "f", "COPY f /t/", "*t/ t/f");
}
