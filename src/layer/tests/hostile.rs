//! Tars nobody would write: random bytes and random structure. Whatever they
//! say, nothing panics and nothing outside the root is touched.

use proptest::prelude::*;

use super::*;

/// Names that meet each other, go through links, and climb.
fn name() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "l",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh.l",
        ".wh..wh..opq",
        "precious",
    ]);
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![name(), name().prop_map(|name| format!("/{name}")), Just("../../precious".to_owned())]
}

fn kind() -> impl Strategy<Value = u8> {
    prop::sample::select(b"00001122235560LKxS".to_vec())
}

fn below() -> (Bench, Stack) {
    let bench = Bench::new();
    let tar =
        RawTar::default().directory("a").file("a/b", "x").symlink("l", "../a").symlink("b", "/..").done();
    let unpacked = bench.unpack(&tar).unwrap();
    (bench, Stack::new(vec![std::sync::Arc::new(unpacked.index)]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn structured(entries in prop::collection::vec((kind(), name(), target(), "[ -~]{0,8}"), 1..12)) {
        let mut tar = RawTar::default();
        for (kind, name, target, body) in entries {
            tar = tar.add(kind, &name, &target, &body);
        }
        let tar = tar.done();
        let (lower, stack) = below();
        let trees = [lower.root()];
        let bench = Bench::new();
        let root = fs::File::open(bench.root()).unwrap();
        // An error is as good an answer as a tree: what counts is outside.
        let over = LowerTrees { stack: &stack, trees: &trees };
        let unpacked = unpack(&tar[..], "", root.as_fd(), Some(&over), &options());
        bench.check_outside();
        lower.check_outside();
        if let Ok(unpacked) = unpacked {
            let mut whole = stack.clone();
            whole.push(std::sync::Arc::new(unpacked.index));
            for found in whole.iter() {
                let again = whole.get(&found.entry.path);
                prop_assert_eq!(again, Some(found));
            }
        }
    }

    #[test]
    fn headers_with_random_bytes(bytes in prop::collection::vec((0..512usize, any::<u8>()), 1..6), kind in kind()) {
        let mut header = RawTar::header(kind, b"a/b", b"c", 5);
        for (at, value) in bytes {
            header.as_mut_bytes()[at] = value;
        }
        header.set_cksum();
        let bench = Bench::new();
        let root = fs::File::open(bench.root()).unwrap();
        let tar = RawTar::default().push(&header, b"12345").done();
        drop(unpack(&tar[..], "", root.as_fd(), None, &options()));
        bench.check_outside();
    }

    #[test]
    fn random_bytes(start in prop::sample::select(vec![&b""[..], &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd]]),
        bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let blob = [start, &bytes].concat();
        drop(index(&blob[..], media_type::LAYER));
    }

    #[test]
    fn random_pax(record in prop::collection::vec(any::<u8>(), 0..80)) {
        let text = String::from_utf8_lossy(&record).into_owned();
        let tar = RawTar::default().add(b'x', "p", "", &text).file("a", "x").done();
        drop(index(&tar[..], media_type::LAYER));
    }
}
